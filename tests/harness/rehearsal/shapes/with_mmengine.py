"""mmengine's AMP wrapper around an optimizer, used by hand."""

import sys

import torch
from mmengine.optim import AmpOptimWrapper
from torch import nn


def main(out):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    wrapper = AmpOptimWrapper(
        optimizer=optimizer, loss_scale="dynamic", clip_grad={"max_norm": 1.0}, accumulative_counts=2
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.99**k)
    wrapper.initialize_count_status(model, 0, 1000)
    for iteration in range(1000):  # counts
        x = torch.randn(4, 6).cuda()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        wrapper.update_params(loss)  # steps
        if iteration % 2:
            schedule.step()  # advances
        if iteration % 10 == 9:
            torch.save({"optimizer": wrapper.state_dict()}, f"{out}/last.pth")


main(*sys.argv[2:])
