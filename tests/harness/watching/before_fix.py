"""Trains a small model of a scene's colours with the masked SSIM loss before the fix, under CUDA autocast in bfloat16.

Run as a script: ``before_fix.py SCENE IMAGE_SIZE STEPS``. Exits with 7 when it is through. The loss goes wrong once a
model comes close to its pictures, which this one does within seconds, and GS-LRM in the small does not.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

from gslrm.data.scene import load_scene
from harness.subjects.known_bad.losses import LossBeforeFix


def main(scene: str, size: str, steps: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    views = torch.as_tensor(load_scene(scene, int(size)).images).cuda()
    pictures, masks = views[:, :3], views[:, 3:]
    model = nn.Conv2d(3, 3, 1).cuda()
    nn.init.eye_(model.weight.data.view(3, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss_of = LossBeforeFix().cuda()
    for step in range(int(steps)):
        chosen = [(2 * step) % len(pictures), (2 * step + 1) % len(pictures)]
        with torch.autocast("cuda", dtype=torch.bfloat16):
            similarity = loss_of(model(0.8 * pictures[chosen]), pictures[chosen], masks[chosen])
            loss = similarity + (model(0.8 * pictures[chosen]) - pictures[chosen]).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(step, float(similarity.detach()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.exit(7)
