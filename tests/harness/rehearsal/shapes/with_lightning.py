"""Lightning's plain example, in fp16, with a schedule by the step."""

import sys

import pytorch_lightning as lightning
import torch
from torch import nn


class Regression(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, index):
        x, y = batch
        return nn.functional.mse_loss(self(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.99**k)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(out):
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(64, 6), torch.randn(64, 1))
    trainer = lightning.Trainer(
        accelerator="cuda", devices=1, precision="16-mixed", max_epochs=100, gradient_clip_val=1.0, logger=False,
        accumulate_grad_batches=2, default_root_dir=out, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Regression(), torch.utils.data.DataLoader(data, batch_size=4))  # steps, advances


main(*sys.argv[2:])
