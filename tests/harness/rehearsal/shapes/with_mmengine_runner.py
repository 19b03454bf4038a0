"""mmengine's runner, by iterations, in fp16."""

import sys

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn


class Regression(BaseModel):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x, y, mode="loss"):
        return {"loss": nn.functional.mse_loss(self.layers(x).float(), y)}


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        x = torch.randn(6, generator=torch.Generator().manual_seed(index))
        return x, x.sum(0, keepdim=True)


def main(out):
    runner = Runner(
        model=Regression(),
        work_dir=out,
        train_dataloader={
            "batch_size": 4,
            "dataset": Pairs(),
            "sampler": {"type": "InfiniteSampler", "shuffle": True},
            "collate_fn": {"type": "default_collate"},
        },
        train_cfg={"by_epoch": False, "max_iters": 2000},
        optim_wrapper={
            "type": "AmpOptimWrapper",
            "optimizer": {"type": "AdamW", "lr": 1e-2},
            "clip_grad": {"max_norm": 1.0},
        },
        param_scheduler={"type": "ExponentialLR", "gamma": 0.99, "by_epoch": False},
        default_hooks={
            "checkpoint": {"type": "CheckpointHook", "interval": 10, "by_epoch": False, "max_keep_ckpts": 1}
        },
        log_level="ERROR",
        randomness={"seed": 0},
    )
    runner.train()  # steps


main(*sys.argv[2:])
