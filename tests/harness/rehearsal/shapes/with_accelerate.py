"""A plain loop of accelerate's, in fp16."""

import sys

import torch
from accelerate import Accelerator
from torch import nn


def main(out):
    accelerator = Accelerator(mixed_precision="fp16", gradient_accumulation_steps=2)
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(64, 6), torch.randn(64, 1))
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.99**k)
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    completed = 0
    for _ in range(100):
        model.train()
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.mse_loss(model(x), y)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()  # steps
                schedule.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                completed += 1  # counts
        accelerator.save_state(f"{out}/epoch")


main(*sys.argv[2:])
