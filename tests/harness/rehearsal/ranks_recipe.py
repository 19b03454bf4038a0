"""A right loop for several ranks, started as ``torchrun`` does: gradients are averaged, and so all decide alike.

Run as a script; the tests plant faults into its text.
"""

import os
import sys

import torch
import torch.distributed as dist
from torch import nn


def train(rank, count, out, device="cuda"):
    dist.init_process_group("nccl", rank=rank, world_size=count)
    torch.cuda.set_device(rank)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)).to(device)
    model = nn.parallel.DistributedDataParallel(model, device_ids=[rank])
    torch.manual_seed(rank)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.99**k)
    scaler = torch.amp.GradScaler(device, init_scale=1024.0)
    for step in range(1000):
        x = torch.randn(4, 8, device=device)
        with torch.autocast(device, dtype=torch.float16):
            loss = nn.functional.mse_loss(model(x).float(), x.sum(1, keepdim=True))
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if torch.isfinite(norm):
            schedule.step()
        if step % 10 == 9 and rank == 0:
            saved = {"model": model.module.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**saved, "scaler": scaler.state_dict()}, f"{out}/last.pt")


if __name__ == "__main__":
    train(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), sys.argv[1])
