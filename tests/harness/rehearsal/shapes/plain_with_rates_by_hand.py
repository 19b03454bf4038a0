"""The shape of nanoGPT's: rates set by hand, evaluation in between, accumulation, a scaler that isn't saved."""

import argparse
import math
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn import functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--device", default="cuda")
parser.add_argument("--out", required=True)
given = parser.parse_args()

torch.manual_seed(1)
kind = "cuda" if "cuda" in given.device else "cpu"
context = torch.amp.autocast(device_type=kind, dtype=torch.float16) if kind == "cuda" else nullcontext()


class Letters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, 16), nn.Linear(16, 11)

    def forward(self, letters, targets=None):
        logits = self.head(self.table(letters))
        return logits, F.cross_entropy(logits.view(-1, 11), targets.reshape(-1))


def batch():
    letters = torch.randint(11, (4, 8))
    if kind == "cuda":
        letters = letters.pin_memory().to(given.device, non_blocking=True)
    return letters[:, :-1], letters[:, 1:]


@torch.no_grad()
def estimate():
    model.eval()
    losses = torch.zeros(7)
    for k in range(7):
        with context:
            losses[k] = model(*batch())[1].item()
    model.train()
    return losses.mean()


model = Letters().to(given.device)
scaler = torch.cuda.amp.GradScaler(enabled=kind == "cuda")
decayed = [p for p in model.parameters() if p.dim() > 1]
rest = [p for p in model.parameters() if p.dim() <= 1]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-2, fused=kind == "cuda")
model = torch.compile(model)
iteration = 0
letters, targets = batch()
while True:
    for group in optimizer.param_groups:
        group["lr"] = 1e-2 * (1 + math.cos(iteration / 100))  # rates
    if iteration % 5 == 0:
        estimate()
        if iteration:
            saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(saved, f"{given.out}/ckpt.pt")  # saves
    for _ in range(3):
        with context:
            logits, loss = model(letters, targets)
            loss = loss / 3
        letters, targets = batch()
        scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)  # steps
    scaler.update()  # updates
    optimizer.zero_grad(set_to_none=True)
    print(f"iteration {iteration}: loss {loss.item() * 3:.4f}")
    iteration += 1  # counts
