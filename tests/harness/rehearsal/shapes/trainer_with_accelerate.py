"""The shape of Hugging Face's Trainer: accelerate inside, the schedule held on a skip, NaN losses masked in the log."""

import sys

import torch
from accelerate import Accelerator
from torch import nn


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x, labels=None):
        return {"loss": nn.functional.mse_loss(self.body(x).float(), labels)}


class Trainer:
    def __init__(self, model, loader, out):
        self.accelerator = Accelerator(mixed_precision="fp16", gradient_accumulation_steps=2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.99**k)
        prepared = self.accelerator.prepare(model, optimizer, loader)
        self.model, self.optimizer, self.loader = prepared
        self.out, self.global_step, self.logged = out, 0, torch.tensor(0.0)

    def training_step(self, batch):
        self.model.train()
        x, y = batch
        loss = self.model(x, labels=y)["loss"]
        self.accelerator.backward(loss)
        return loss.detach()

    def train(self, epochs):
        for _ in range(epochs):
            for batch in self.loader:
                with self.accelerator.accumulate(self.model):
                    loss = self.training_step(batch)
                    if torch.isnan(loss) or torch.isinf(loss):
                        self.logged = self.logged + self.logged / (1 + self.global_step)
                    else:
                        self.logged = self.logged + loss
                    if not self.accelerator.sync_gradients:
                        continue
                    self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
                    self.optimizer.step()  # steps
                    if not self.accelerator.optimizer_step_was_skipped:
                        self.schedule.step()
                    self.model.zero_grad()
                    self.global_step += 1  # counts
                    if self.global_step % 5 == 0:
                        self.save()

    def save(self):
        torch.save(self.optimizer.state_dict(), f"{self.out}/optimizer.pt")
        torch.save(self.schedule.state_dict(), f"{self.out}/scheduler.pt")
        torch.save(self.accelerator.scaler.state_dict(), f"{self.out}/scaler.pt")


def main(out):
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(64, 6), torch.randn(64, 1))
    Trainer(Regression(), torch.utils.data.DataLoader(data, batch_size=4), out).train(200)


main(*sys.argv[2:])
