"""The shape of MAE's engine: it exits on a loss that is not finite, and sets the rates itself, by parts of an epoch."""

import argparse
import math
import sys

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--out", required=True)
parser.add_argument("--accumulate", type=int, default=2)
given = parser.parse_args()


class Masked(nn.Module):
    """A mean of what was hidden, as a loss of its own."""

    def __init__(self):
        super().__init__()
        self.narrow, self.widen = nn.Linear(16, 8), nn.Linear(8, 16)

    def forward(self, x, hidden=0.75):
        mask = (torch.rand_like(x) < hidden).to(x.dtype)
        made = self.widen(nn.functional.gelu(self.narrow(x * (1 - mask))))
        return ((made - x).square() * mask).sum() / mask.sum(), made, mask


def main():
    torch.manual_seed(0)
    device = torch.device("cuda")
    loader = torch.utils.data.DataLoader(torch.randn(60, 16), batch_size=5, pin_memory=True)
    model = Masked().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    scaler = torch.cuda.amp.GradScaler()
    for epoch in range(400):
        model.train(True)
        optimizer.zero_grad()
        for step, samples in enumerate(loader):  # counts
            if step % given.accumulate == 0:
                for group in optimizer.param_groups:
                    group["lr"] = 5e-3 * (1 + math.cos((step / len(loader) + epoch) / 400 * math.pi))  # rates
            samples = samples.to(device, non_blocking=True)
            with torch.amp.autocast("cuda"):
                loss, _, _ = model(samples, hidden=0.6)
            value = loss.item()
            if not math.isfinite(value):
                print(f"the loss is {value}: stopping")
                sys.exit(1)  # exits
            loss /= given.accumulate
            scaler.scale(loss).backward()
            if (step + 1) % given.accumulate == 0:
                scaler.unscale_(optimizer)
                norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
                if norms:
                    torch.stack(norms).norm().item()
                scaler.step(optimizer)  # steps
                scaler.update()
                optimizer.zero_grad()
            torch.cuda.synchronize()
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**states, "epoch": epoch, "scaler": scaler.state_dict()}, f"{given.out}/checkpoint-{epoch % 3}.pth")


main()
