"""Two optimizers of accelerate's, in fp16: each of its steps updates the one scaler."""

import sys

import torch
from accelerate import Accelerator
from torch import nn


def main(out):
    accelerator = Accelerator(mixed_precision="fp16")
    torch.manual_seed(0)
    first, second = nn.Linear(6, 16), nn.Linear(16, 1)
    model = nn.Sequential(first, nn.Tanh(), second)
    optimizers = [torch.optim.AdamW(net.parameters(), lr=1e-2) for net in (first, second)]
    model, *optimizers = accelerator.prepare(model, *optimizers)
    for _ in range(1000):
        x = torch.randn(4, 6, device=accelerator.device)
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        accelerator.backward(loss)
        for optimizer in optimizers:
            optimizer.step()  # steps
            optimizer.zero_grad()


main(*sys.argv[2:])
