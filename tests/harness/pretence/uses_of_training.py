"""Uses of CUDA in a training step: autocast, scaler, optimizers, attention, checkpoints, processes."""

from __future__ import annotations

from tests.harness.pretence.use import Use

_AB = "a = torch.ones(4, 4, device='cuda'); b = torch.ones(4, 4, device='cuda')"
_STEP = """
import warnings
model = nn.Linear(4, 4).cuda()
optimizer = torch.optim.{optimizer}
scaler = torch.amp.GradScaler('cuda')
before = model.weight.detach().clone()
def step(factor=1.0):
    with torch.autocast('cuda', torch.float16):
        loss = model(torch.ones(2, 4, device='cuda')).float().pow(2).mean() * factor
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
"""
_SGD = _STEP.format(optimizer="SGD(model.parameters(), 0.1)")


def _autocast(call: str, dtype: str, result: str = "a @ b") -> Use:
    return Use(f"{call}: {result}", f"r.dtype is torch.{dtype}", f"{_AB}\n{call}:\n    r = {result}")


AUTOCAST = [
    _autocast("with torch.autocast('cuda')", "float16"),
    _autocast("with torch.autocast(device_type='cuda', dtype=torch.bfloat16)", "bfloat16"),
    _autocast("with torch.amp.autocast('cuda', torch.float16)", "float16"),
    _autocast("with torch.cuda.amp.autocast()", "float16"),
    _autocast("with torch.cuda.amp.autocast(dtype=torch.bfloat16)", "bfloat16"),
    _autocast("with torch.autocast(a.device.type, torch.float16)", "float16"),
    _autocast("with torch.autocast('cuda', torch.float16, cache_enabled=False)", "float16"),
    _autocast("with torch.autocast('cuda'), torch.autocast('cuda', torch.bfloat16)", "bfloat16"),
    _autocast("with torch.autocast('cuda', torch.float16)", "float32", "(a @ b).pow(2)"),
    _autocast("with torch.autocast('cuda', torch.float16)", "float32", "(a @ b).sum()"),
    _autocast("with torch.autocast('cuda', torch.float16)", "float16", "(a @ b) * 2"),
    _autocast("with torch.autocast('cuda', torch.float16)", "float16", "F.scaled_dot_product_attention(a, a, a)"),
    Use("torch.autocast('cuda', enabled=False) inside", "r.dtype is torch.float32", f"""{_AB}
with torch.autocast('cuda', torch.float16):
    half = a @ b
    with torch.autocast('cuda', enabled=False):
        r = a @ b
assert half.dtype is torch.float16
"""),
    Use("@torch.autocast('cuda')", "f(a, b).dtype is torch.float16 and (a @ b).dtype is torch.float32", f"""{_AB}
@torch.autocast('cuda', torch.float16)
def f(x, y):
    return x @ y
"""),
    Use("torch.is_autocast_enabled('cuda')", "inside is True and torch.is_autocast_enabled('cuda') is False",
        "with torch.autocast('cuda'):\n    inside = torch.is_autocast_enabled('cuda')"),
    Use("torch.is_autocast_enabled()", "inside is True",
        "with torch.autocast('cuda'):\n    inside = torch.is_autocast_enabled()"),
    Use("torch.get_autocast_dtype('cuda')", "inside is torch.bfloat16",
        "with torch.autocast('cuda', torch.bfloat16):\n    inside = torch.get_autocast_dtype('cuda')", anywhere=True),
    Use("torch.amp.is_autocast_available('cuda')", "torch.amp.is_autocast_available('cuda')", anywhere=True),
    Use("autocast in a thread", "seen == [torch.float16]", f"""{_AB}
import threading
seen = []
def work():
    with torch.autocast('cuda', torch.float16):
        seen.append((a @ b).dtype)
thread = threading.Thread(target=work); thread.start(); thread.join()
"""),
    *[
        Use(f"{name}", "seen == [torch.float32, False, torch.float32]", f"""{_AB}
seen = []
class Square(torch.autograd.Function):
    @staticmethod
    @{fwd}
    def forward(ctx, x):
        seen.append(x.dtype); seen.append(torch.is_autocast_enabled('cuda'))
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    @{bwd}
    def backward(ctx, g):
        x, = ctx.saved_tensors
        seen.append(x.dtype)
        return 2 * x * g
a.requires_grad_()
with torch.autocast('cuda', torch.float16):
    Square.apply(a @ b).sum().backward()
""")
        for name, fwd, bwd in (
            ("torch.amp.custom_fwd(device_type='cuda', cast_inputs=torch.float32)",
             "torch.amp.custom_fwd(device_type='cuda', cast_inputs=torch.float32)",
             "torch.amp.custom_bwd(device_type='cuda')"),
            ("torch.cuda.amp.custom_fwd(cast_inputs=torch.float32)",
             "torch.cuda.amp.custom_fwd(cast_inputs=torch.float32)", "torch.cuda.amp.custom_bwd"),
        )
    ],
]  # fmt: skip
SCALER = [
    Use("torch.amp.GradScaler('cuda')", "torch.amp.GradScaler('cuda').is_enabled()"),
    Use("torch.amp.GradScaler()", "torch.amp.GradScaler().is_enabled()"),
    Use("torch.cuda.amp.GradScaler()", "torch.cuda.amp.GradScaler().is_enabled()"),
    Use("torch.amp.GradScaler(enabled=False)", "not torch.amp.GradScaler('cuda', enabled=False).is_enabled()",
        anywhere=True),
    Use("scaler.scale(loss)", "scaler.scale(torch.ones((), device='cuda')).item() == 8.0",
        "scaler = torch.amp.GradScaler('cuda', init_scale=8.0)"),
    Use("scaler.scale([a, b])", "[t.item() for t in scaler.scale([x, 2 * x])] == [8.0, 16.0]",
        "scaler = torch.amp.GradScaler('cuda', init_scale=8.0); x = torch.ones((), device='cuda')"),
    Use("scaler.step(optimizer) moves", "not torch.equal(before, model.weight) and scaler.get_scale() == 65536.0",
        _SGD + "step()"),
    Use("scaler.step(optimizer) skips on inf", "torch.equal(before, model.weight) and scaler.get_scale() == 32768.0",
        _SGD + "step(float('inf'))"),
    Use("fused AdamW skips on inf", "torch.equal(before, model.weight) and scaler.get_scale() == 32768.0",
        _STEP.format(optimizer="AdamW(model.parameters(), fused=True)") + "step(float('inf'))"),
    Use("fused AdamW moves", "not torch.equal(before, model.weight) and scaler.is_enabled()",
        _STEP.format(optimizer="AdamW(model.parameters(), fused=True)") + "step()"),
    Use("the scale grows", "scaler.get_scale() == 131072.0", _SGD + "scaler.set_growth_interval(2); step(); step()"),
    Use("scaler.update(new_scale)", "scaler.get_scale() == 4.0", _SGD + "step(); scaler.update(4.0)"),
    Use("scaler.update(tensor)", "scaler.get_scale() == 4.0", _SGD + "step(); scaler.update(torch.tensor(4.0).cuda())"),
    Use("scaler.state_dict(), load_state_dict()", "scaler.get_scale() == 16.0 and len(scaler.state_dict()) == 5",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "scaler.load_state_dict({**scaler.state_dict(), 'scale': 16.0})"),
    Use("scaler.get_growth_factor() and the like",
        "(scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval()) == (3.0, 0.5, 2000)",
        "scaler = torch.amp.GradScaler('cuda'); scaler.set_growth_factor(3.0); scaler.set_backoff_factor(0.5)"),
    Use("scaler._scale.device", "scaler._scale.is_cuda", _SGD + "step()"),
    Use("unscale_ twice", "'already been called' in message", _SGD + """
scaler.scale(model(torch.ones(1, 4).cuda()).sum()).backward()
scaler.unscale_(optimizer)
try:
    scaler.unscale_(optimizer)
except RuntimeError as error:
    message = str(error)
"""),
]  # fmt: skip
OPTIMIZERS = [
    Use(f"torch.optim.{call}", "not torch.equal(before, w) and w.is_cuda", f"""
w = nn.Parameter(torch.ones(3, device='cuda')); parameters = [w]
before = w.detach().clone()
optimizer = torch.optim.{call}
(w * w).sum().backward(); optimizer.step()
""")
    for call in (
        "SGD(parameters, 0.1, momentum=0.9)",
        "SGD(parameters, 0.1, fused=True)",
        "Adam(parameters, fused=True)",
        "AdamW(parameters, foreach=True)",
        "AdamW(parameters, capturable=True)",
        "RMSprop(parameters)",
        "Adagrad(parameters)",
    )
]  # fmt: skip
OPTIMIZERS += [
    Use("optimizer.state is on the GPU", "optimizer.state[w]['exp_avg'].is_cuda", """
w = nn.Parameter(torch.ones(3, device='cuda'))
optimizer = torch.optim.AdamW([w]); w.sum().backward(); optimizer.step()
"""),
    Use("optimizer.load_state_dict(...)", "optimizer.state[w]['exp_avg'].is_cuda", """
w = nn.Parameter(torch.ones(3, device='cuda'))
optimizer = torch.optim.AdamW([w]); w.sum().backward(); optimizer.step()
import io
f = io.BytesIO(); torch.save(optimizer.state_dict(), f); f.seek(0)
optimizer = torch.optim.AdamW([w]); optimizer.load_state_dict(torch.load(f, map_location='cpu'))
"""),
    Use("clip_grad_norm_(..., foreach=True)", "norm.is_cuda", """
w = nn.Parameter(torch.ones(3, device='cuda')); w.sum().backward()
norm = nn.utils.clip_grad_norm_([w], 1.0, foreach=True)
"""),
    Use("torch.nn.utils.clip_grad_norm_", "norm.is_cuda", """
w = nn.Parameter(torch.ones(3, device='cuda')); w.sum().backward()
norm = nn.utils.clip_grad_norm_([w], 1.0)
"""),
]  # fmt: skip
REST = [
    *[
        Use(f"sdpa_kernel(SDPBackend.{name})", "r.is_cuda and r.shape == (1, 2, 4, 8)", f"""
from torch.nn.attention import SDPBackend, sdpa_kernel
q = torch.ones(1, 2, 4, 8, device='cuda')
with sdpa_kernel(SDPBackend.{name}):
    r = F.scaled_dot_product_attention(q, q, q, is_causal=True)
""")
        for name in ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH", "CUDNN_ATTENTION")
    ],
    Use("nn.MultiheadAttention under autocast", "r.dtype is torch.float16 and r.is_cuda", """
attention = nn.MultiheadAttention(8, 2, batch_first=True).cuda(); x = torch.ones(1, 4, 8, device='cuda')
with torch.autocast('cuda', torch.float16):
    r, _ = attention(x, x, x, need_weights=False)
"""),
    Use("torch.utils.checkpoint keeps dropout", "x.is_cuda and torch.allclose(x.grad * x, y)", """
from torch.utils.checkpoint import checkpoint
x = torch.ones(99, device='cuda', requires_grad=True)
y = checkpoint(lambda v: F.dropout(v, 0.5), x, use_reentrant=False)
y.sum().backward()
y = y.detach()
"""),
    Use("torch.utils.checkpoint, reentrant, under autocast", "seen == [torch.float16] * 2", """
from torch.utils.checkpoint import checkpoint
seen, m = [], nn.Linear(4, 4).cuda()
def block(v):
    y = m(v.to('cuda')); seen.append(y.dtype)
    return y
x = torch.ones(2, 4, device='cuda', requires_grad=True)
with torch.autocast('cuda', torch.float16):
    y = checkpoint(block, x, use_reentrant=True)
y.float().sum().backward()
"""),
    Use("torch.autograd.graph.saved_tensors_hooks(...)", "seen == [True, True] and w.grad.tolist() == [2.0, 2.0]", """
seen = []
w = torch.ones(2, device='cuda', requires_grad=True)
def pack(t):
    seen.append(t.to('cuda').is_cuda)
    return t.cpu()
with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t.cuda()):
    y = (w * w).sum()
y.backward()
"""),
    Use("torch.autograd.graph.save_on_cpu(pin_memory=True)", "w.grad.is_cuda and w.grad.tolist() == [2.0, 2.0]", """
w = torch.ones(2, device='cuda', requires_grad=True)
with torch.autograd.graph.save_on_cpu(pin_memory=True):
    y = (w * w).sum()
y.backward()
"""),
    Use("torch.compile(model)", "compiled(x).is_cuda and compiled._orig_mod is model",
        "model = nn.Linear(2, 2).cuda(); x = torch.ones(1, 2).cuda(); compiled = torch.compile(model)"),
    Use("torch.compile(model).state_dict()",
        "all(k.startswith('_orig_mod.') for k in state) and state['_orig_mod.bias'].is_cuda",
        "state = torch.compile(nn.Linear(2, 2).cuda(), mode='max-autotune').state_dict()"),
    Use("@torch.compile", "f(torch.ones(1).cuda()).item() == 2.0",
        "@torch.compile(fullgraph=True)\ndef f(x):\n    return x + 1"),
    Use("model.half()", "nn.Linear(2, 2).cuda().half()(torch.ones(1, 2).cuda().half()).dtype is torch.float16"),
]  # fmt: skip

BY_TOPIC = {
    "Autocast": AUTOCAST,
    "The gradient scaler": SCALER,
    "Optimizers": OPTIMIZERS,
    "Attention, checkpoints, compilation": REST,
}
