"""The shape of Swin's engine: a scaler object that tells the norm, accumulation, epochs that a checkpoint continues."""

import os
import sys

import torch
from torch import nn


class NormCountingScaler:
    def __init__(self):
        self.scaler = torch.amp.GradScaler("cuda")

    def __call__(self, loss, optimizer, parameters, limit=None, update=True):
        self.scaler.scale(loss).backward()
        if not update:
            return None
        self.scaler.unscale_(optimizer)
        parameters = list(parameters)
        if limit is not None:
            norm = nn.utils.clip_grad_norm_(parameters, limit)
        else:
            norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        self.scaler.step(optimizer)  # steps
        self.scaler.update()
        return norm


def rate(number):
    return 0.05 * min(1.0, (number + 1) / 30)


def train_epoch(epoch, model, loader, optimizer, loss_scaler, accumulate=2):
    model.train()
    optimizer.zero_grad()
    for index, (samples, targets) in enumerate(loader):  # counts
        samples, targets = samples.cuda(non_blocking=True), targets.cuda(non_blocking=True)
        with torch.amp.autocast("cuda"):
            outputs = model(samples)
        loss = nn.functional.cross_entropy(outputs, targets) / accumulate
        update = (index + 1) % accumulate == 0
        loss_scaler(loss, optimizer, model.parameters(), limit=5.0, update=update)
        if update:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = rate((epoch * len(loader) + index) // accumulate)  # rates
        torch.cuda.synchronize()


def main(out):
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(48, 3, 8, 8), torch.randint(0, 4, (48,)))
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True, drop_last=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 4)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate(0))
    loss_scaler, first = NormCountingScaler(), 0
    path = f"{out}/latest.pth"
    if os.path.exists(path):
        found = torch.load(path, map_location="cpu")
        model.load_state_dict(found["model"])
        optimizer.load_state_dict(found["optimizer"])
        loss_scaler.scaler.load_state_dict(found["scaler"])
        first = found["epoch"] + 1
    for epoch in range(first, 200):
        train_epoch(epoch, model, loader, optimizer, loss_scaler)
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**states, "scaler": loss_scaler.scaler.state_dict(), "epoch": epoch}, path)


main(*sys.argv[2:])
