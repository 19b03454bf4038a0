"""A script as people write them for a GPU: a small transformer on made-up text, float16, a scaler, clipping.

It is run as ``__main__`` with the working folder as its place for checkpoints.
"""

import math
import os
import time
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

device = "cuda"
dtype = "float16"
block_size, batch_size, vocabulary, width, heads = 16, 4, 32, 32, 2
iterations, accumulation, clip = 10, 2, 1.0
bad_iteration = 4
learning_rate = 1e-2

assert torch.cuda.is_available(), "this script needs a GPU"
torch.manual_seed(1337)
torch.backends.cuda.matmul.allow_tf32 = True
torch.backends.cudnn.allow_tf32 = True
device_type = "cuda" if "cuda" in device else "cpu"
ptdtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
context = nullcontext() if device_type == "cpu" else torch.amp.autocast(device_type=device_type, dtype=ptdtype)
text = np.random.default_rng(0).integers(0, vocabulary, 2000).astype(np.uint16)


def get_batch():
    start = torch.randint(len(text) - block_size - 1, (batch_size,))
    x = torch.stack([torch.from_numpy(text[i : i + block_size].astype(np.int64)) for i in start])
    y = torch.stack([torch.from_numpy(text[i + 1 : i + 1 + block_size].astype(np.int64)) for i in start])
    return tuple(t.pin_memory().to(device, non_blocking=True) for t in (x, y))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (
            part.view(b, t, heads, c // heads).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(c, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.norm2(x))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(block_size, width)
        self.block, self.norm = Block(), nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("positions", torch.arange(block_size))

    def forward(self, x, y):
        assert x.device == self.positions.device == self.tokens.weight.device
        hidden = self.norm(self.block(self.tokens(x) + self.places(self.positions[: x.shape[1]])))
        logits = self.head(hidden)
        return logits, F.cross_entropy(logits.view(-1, vocabulary), y.view(-1))


model = Model().to(device)
assert model.head.weight is model.tokens.weight
scaler = torch.amp.GradScaler("cuda", enabled=(dtype == "float16"))
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, fused=True)
model = torch.compile(model)
scales, losses, dtypes, moved = [], [], set(), []
for iteration in range(iterations):
    started = time.time()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * iteration / iterations))
    before = model.tokens.weight.detach().clone()
    for _ in range(accumulation):
        x, y = get_batch()
        with context:
            logits, loss = model(x, y)
            loss = loss / accumulation
        if iteration == bad_iteration:
            loss = loss * float("inf")
        dtypes.add(logits.dtype)
        scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    losses.append(loss.item() * accumulation)
    scales.append(scaler.get_scale())
    moved.append(not torch.equal(before, model.tokens.weight))
peak = torch.cuda.max_memory_allocated()
torch.save({"model": model.state_dict(), "scaler": scaler.state_dict()}, os.path.join(os.getcwd(), "last.pt"))
loaded = torch.load("last.pt", map_location=device)
