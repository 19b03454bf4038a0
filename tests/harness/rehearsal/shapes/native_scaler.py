"""The shape of timm's: a scaler object that steps, a schedule of the updates' number, an average on every update."""

import copy
import sys

import torch
from torch import nn


class NativeScaler:
    def __init__(self, device):
        self._scaler = torch.amp.GradScaler(device=device)

    def __call__(self, loss, optimizer, clip_grad=None, parameters=None, need_update=True):
        self._scaler.scale(loss).backward()
        if need_update:
            if clip_grad is not None:
                self._scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(parameters, clip_grad)
            self._scaler.step(optimizer)  # steps
            self._scaler.update()

    def state_dict(self):
        return self._scaler.state_dict()


class Average(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.module = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for slow, fast in zip(self.module.state_dict().values(), model.state_dict().values(), strict=True):
            if slow.is_floating_point():
                slow.lerp_(fast, 0.01)  # follows


class Schedule:
    """Not torch's: sets the rates itself."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step_update(self, num_updates):
        for group in self.optimizer.param_groups:
            group["lr"] = 0.1 * 0.99**num_updates  # rates


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, device, scheduler, loss_scaler, average):
    model.train()
    num_updates = epoch * len(loader)
    optimizer.zero_grad()
    for image, target in loader:
        image, target = image.to(device), target.to(device)
        with torch.autocast(device, dtype=torch.float16):
            loss = loss_fn(model(image), target)
        loss_scaler(loss, optimizer, clip_grad=5.0, parameters=model.parameters())
        num_updates += 1  # counts
        optimizer.zero_grad()
        average.update(model)
        scheduler.step_update(num_updates)


@torch.no_grad()
def validate(model, loader, device):
    model.eval()
    return sum(
        float((model(image.to(device)).argmax(1) == target.to(device)).float().mean()) for image, target in loader
    )


def main(out, device="cuda"):
    torch.manual_seed(0)
    images, targets = torch.randn(40, 3, 8, 8), torch.randint(0, 4, (40,))
    data = torch.utils.data.TensorDataset(images, targets)
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler, loss_scaler, average = Schedule(optimizer), NativeScaler(device), Average(model)
    for epoch in range(100):
        train_one_epoch(epoch, model, loader, optimizer, nn.CrossEntropyLoss(), device, scheduler, loss_scaler, average)
        validate(average.module, loader, device)
        saved = {"epoch": epoch, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**saved, "amp_scaler": loss_scaler.state_dict()}, f"{out}/last.pth")


if __name__ == "__main__":
    main(*sys.argv[2:])
