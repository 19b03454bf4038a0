"""A right training loop that goes on from its checkpoint: ``--resume FILE`` takes up all that it needs.

Run as a script; the tests plant faults into its text.
"""

import argparse
import copy
from pathlib import Path

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--device", default="cpu")
parser.add_argument("--accumulate", type=int, default=2)
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--out", default="")
parser.add_argument("--resume", default="")
given = parser.parse_args()

torch.manual_seed(0)
device = given.device
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)).to(device)
average = copy.deepcopy(model).requires_grad_(False)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.99**k)
scaler = torch.amp.GradScaler(device, init_scale=1024.0)

first = 0
if given.resume:
    found = torch.load(given.resume, weights_only=True)
    model.load_state_dict(found["model"])
    optimizer.load_state_dict(found["optimizer"])
    scaler.load_state_dict(found["scaler"])
    schedule.load_state_dict(found["schedule"])
    average.load_state_dict(found["average"])
    first = found["step"] + 1

for step in range(first, given.steps):
    for _ in range(given.accumulate):
        x = torch.randn(4, 8).to(device)
        y = x.sum(1, keepdim=True)
        with torch.autocast(device, dtype=torch.float16):
            prediction = model(x)
            loss = nn.functional.mse_loss(prediction.float(), y) / given.accumulate
        scaler.scale(loss).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients:
        continue
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if torch.isfinite(norm):
        schedule.step()
        for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
            slow.lerp_(fast.detach(), 0.1)
    if given.out and step % 5 == 4:
        kept = {"model": model, "optimizer": optimizer, "scaler": scaler, "schedule": schedule, "average": average}
        saved = {"step": step, **{name: one.state_dict() for name, one in kept.items()}}
        torch.save(saved, Path(given.out) / "checkpoint.pt")
