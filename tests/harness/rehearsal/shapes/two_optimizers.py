"""Two optimizers with one scaler, a loss each, as for a GAN: right but for one policy, that each skips for itself."""

import sys

import torch
from torch import nn


def main(out, device="cuda"):
    torch.manual_seed(0)
    maker, judge = (nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 6)).to(device) for _ in range(2))
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-3) for net in (maker, judge)]
    scaler = torch.amp.GradScaler(device)
    for step in range(1000):  # counts
        x = torch.randn(8, 6, device=device)
        for optimizer in optimizers:
            optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.float16):
            made = maker(x)
            losses = [(judge(made).float() - 1).square().mean(), judge(made.detach()).float().square().mean()]
        scaler.scale(losses[0]).backward(retain_graph=True, inputs=list(maker.parameters()))
        scaler.scale(losses[1]).backward()
        for optimizer in optimizers:
            scaler.step(optimizer)  # steps
        scaler.update()
        if step % 5 == 4:
            states = [optimizer.state_dict() for optimizer in optimizers]
            torch.save({"optimizers": states, "scaler": scaler.state_dict()}, f"{out}/last.pt")


main(*sys.argv[2:])
