"""Uses of CUDA that put tensors on a GPU and ask where they are."""

from __future__ import annotations

from tests.harness.pretence.use import Use

_ON = "x = torch.ones(2, 3, device='cuda')"
_HOST = "x = torch.ones(2, 3)"
_MODEL = "model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))"


def _on_gpu(call: str, before: str = "") -> Use:
    return Use(call, f"({call}).device == torch.device('cuda:0')", before)


FACTORIES = [
    _on_gpu(f"torch.{call}")
    for call in (
        "zeros(2, device='cuda')",
        "ones(2, device='cuda:0')",
        "empty(2, device=torch.device('cuda'))",
        "full((2,), 1.0, device=torch.device('cuda', 0))",
        "tensor([1.0, 2.0], device='cuda')",
        "as_tensor([1.0], device='cuda')",
        "asarray([1.0], device='cuda')",
        "arange(3, device='cuda')",
        "linspace(0, 1, 3, device='cuda')",
        "eye(2, device='cuda')",
        "rand(2, device='cuda')",
        "randn(2, device='cuda')",
        "randint(0, 9, (2,), device='cuda')",
        "randperm(4, device='cuda')",
        "normal(0.0, 1.0, (2,), device='cuda')",
        "hann_window(4, device='cuda')",
        "fft.fftfreq(4, device='cuda')",
        "tril_indices(3, 3, device='cuda')",
        "zeros(2, device=0)",
        "sparse_coo_tensor([[0]], [1.0], (2,), device='cuda')",
        "empty_strided((2,), (1,), device='cuda')",
        "scalar_tensor(1.0, device='cuda')",
    )
]
MOVES = [
    _on_gpu("x.cuda()", _HOST),
    _on_gpu("x.cuda(0)", _HOST),
    _on_gpu("x.cuda(non_blocking=True)", _HOST),
    _on_gpu("x.cuda(torch.device('cuda'))", _HOST),
    _on_gpu("x.to('cuda')", _HOST),
    _on_gpu("x.to('cuda:0', non_blocking=True)", _HOST),
    _on_gpu("x.to(torch.device('cuda'))", _HOST),
    _on_gpu("x.to(0)", _HOST),
    _on_gpu("x.to(device='cuda', dtype=torch.float16)", _HOST),
    _on_gpu("x.to('cuda', torch.float16)", _HOST),
    _on_gpu("x.to(torch.ones(1, device='cuda'))", _HOST),
    _on_gpu("x.to(tensor=torch.ones(1, device='cuda'))", _HOST),
    _on_gpu("x.to(torch.float16)", _ON),
    _on_gpu("x.type('torch.cuda.FloatTensor')", _HOST),
    _on_gpu("torch.from_numpy(numpy.ones(2)).cuda()", "import numpy"),
    Use("x.to('cuda', torch.float16).dtype", "x.to('cuda', torch.float16).dtype is torch.float16", _HOST),
    Use("x.to('cuda') copies", "x.cuda().fill_(7).is_cuda and x.sum().item() == 6", _HOST),
    Use("x.to('cuda') of one that is there", "x.to('cuda') is x and x.cuda() is x", _ON),
    Use("x.cpu()", "x.is_cuda and not x.cpu().is_cuda", _ON),
    Use("x.cpu() copies", "x.cpu().fill_(7).sum().item() == 42 and x.sum().item() == 6", _ON),
    Use("x.to('cpu')", "x.is_cuda and x.to('cpu').device.type == 'cpu'", _ON),
    Use("x.to(device='cpu')", "x.is_cuda and x.to(device='cpu', dtype=torch.float64).is_cpu", _ON),
    Use("torch.as_tensor(x, device='cuda') copies", "y.is_cuda and y.fill_(7) is y and x.sum().item() == 6",
        _HOST + "; y = torch.as_tensor(x, device='cuda')"),
    Use("x.cpu().numpy()", "x.cpu().numpy().shape == (2, 3)", _ON),
    Use("x.item(), x.tolist()", "x.sum().item() == 6.0 and x.tolist()[0] == [1.0, 1.0, 1.0]", _ON),
    Use("gradients through .cuda()", "w.grad.sum().item() == 6 and not w.grad.is_cuda",
        "w = torch.ones(2, 3, requires_grad=True); w.cuda().sum().backward()"),
    Use("host.copy_(x)", "x.is_cuda and not y.is_cuda", _ON + "; y = torch.zeros(2, 3).copy_(x)"),
    Use("x.to('cuda:7')", "'invalid device ordinal' in message", """
try:
    torch.ones(1).to('cuda:7')
except RuntimeError as error:
    message = str(error)
"""),
]  # fmt: skip
ANSWERS = [
    Use("x.is_cuda", "x.is_cuda is True", _ON),
    Use("x.is_cuda of a host tensor", "x.is_cuda is False and x.device.type == 'cpu'", _HOST, anywhere=True),
    Use("x.is_cpu", "x.is_cpu is False", _ON),
    Use("x.get_device()", "x.get_device() == 0", _ON),
    Use("x.type()", "x.type() == 'torch.cuda.FloatTensor'", _ON),
    Use("x.device.index", "x.device.index == 0 and x.device.type == 'cuda'", _ON),
    Use("str(x.device)", "str(x.device) == 'cuda:0'", _ON),
    Use("repr(x)", "repr(x).endswith(\"device='cuda:0')\")", _ON),
    Use("isinstance(x, torch.cuda.FloatTensor)", "isinstance(x, torch.cuda.FloatTensor)", _ON),
    Use("isinstance(x, torch.cuda.FloatTensor) of another", "not isinstance(x, torch.cuda.FloatTensor)", _HOST,
        anywhere=True),
    Use("isinstance(torch.device('cuda'), torch.device)", "isinstance(torch.device('cuda'), torch.device)",
        anywhere=True),
    Use("torch.device('cuda:0')", "torch.device('cuda:0') == torch.device('cuda', 0)", anywhere=True),
    Use("torch.device(0)", "torch.device(0) == torch.device('cuda:0')"),
    _on_gpu("x + 1", _ON),
    _on_gpu("x @ x.T", _ON),
    _on_gpu("x[0]", _ON),
    _on_gpu("x.view(-1).detach()", _ON),
    _on_gpu("x.data", _ON),
    _on_gpu("torch.cat([x, x])", _ON),
    _on_gpu("torch.stack([x, x]).unbind()[1]", _ON),
    _on_gpu("torch.zeros_like(x)", _ON),
    _on_gpu("x.new_zeros(3)", _ON),
    _on_gpu("x.max(dim=0).values", _ON),
    _on_gpu("torch.where(x > 0, x, 0.0)", _ON),
    _on_gpu("torch.einsum('ij,kj->ik', x, x)", _ON),
    _on_gpu("F.softmax(x, -1)", _ON),
    _on_gpu("torch.vmap(torch.sin)(x)", _ON),
    _on_gpu("nn.Parameter(x)", _ON),
    _on_gpu("copy.deepcopy(x)", _ON + "; import copy"),
    _on_gpu("w.grad", "w = torch.ones(2, device='cuda', requires_grad=True); (w * w).sum().backward()"),
    _on_gpu("torch.autograd.grad((w * w).sum(), w)[0]", "w = torch.ones(2, device='cuda', requires_grad=True)"),
    Use("torch.zeros_like(x, device='cpu')", "x.is_cuda and not torch.zeros_like(x, device='cpu').is_cuda", _ON),
    Use("torch.tensor of a list of GPU tensors", "s.is_cuda and not torch.tensor([s, s]).is_cuda",
        _ON + "; s = x.sum()"),
    Use("a hook's gradient", "seen == [torch.device('cuda:0')]", """
seen = []
w = torch.ones(2, device='cuda', requires_grad=True)
w.register_hook(lambda g: seen.append(g.device))
(w * 2).sum().backward()
"""),
    Use("autograd.Function", "seen == ['cuda', 'cuda']", """
seen = []
class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        seen.append(x.device.type)
        return x * 2
    @staticmethod
    def backward(ctx, g):
        seen.append(g.device.type)
        return g.to('cuda') * 2
w = torch.ones(2, device='cuda', requires_grad=True)
Twice.apply(w).sum().backward()
"""),
    Use("in a thread", "seen == ['cuda:0']", """
import threading
seen = []
thread = threading.Thread(target=lambda: seen.append(str(torch.ones(1).cuda().device)))
thread.start(); thread.join()
"""),
]  # fmt: skip
DEFAULTS = [
    Use("with torch.device('cuda')", "x.is_cuda and not torch.ones(1).is_cuda",
        "with torch.device('cuda'):\n    x = torch.ones(1)"),
    Use("torch.set_default_device('cuda')", "x.is_cuda and where.type == 'cuda'", """
torch.set_default_device('cuda')
x, where = torch.ones(1), torch.get_default_device()
torch.set_default_device(None)
"""),
    Use("torch.tensor under torch.device('cuda')", "x.is_cuda",
        "with torch.device('cuda'):\n    x = torch.tensor([1.])"),
    Use("torch.set_default_tensor_type('torch.cuda.FloatTensor')", "x.is_cuda", """
torch.set_default_tensor_type('torch.cuda.FloatTensor')
x = torch.ones(1)
torch.set_default_tensor_type('torch.FloatTensor')
"""),
    Use("nn.Linear under torch.device('cuda')", "m.weight.is_cuda",
        "with torch.device('cuda'):\n    m = nn.Linear(2, 2)"),
    Use("torch.cuda.FloatTensor(3)", "torch.cuda.FloatTensor(3).is_cuda and torch.cuda.FloatTensor(3).shape == (3,)"),
    Use("torch.cuda.LongTensor([1, 2])", "torch.cuda.LongTensor([1, 2]).tolist() == [1, 2]"),
]  # fmt: skip
MODULES = [
    Use("model.cuda()", "all(p.is_cuda for p in model.cuda().parameters())", _MODEL),
    Use("model.to('cuda')", "model.to('cuda') is model and next(model.parameters()).device.type == 'cuda'", _MODEL),
    Use("model.to(0)", "next(model.to(0).parameters()).is_cuda", _MODEL),
    Use("model.to(torch.device('cuda'), torch.float16)",
        "model[0].weight.is_cuda and model[0].weight.dtype is torch.float16",
        _MODEL + "; model.to(torch.device('cuda'), torch.float16)"),
    Use("model.to(device) moves buffers", "all(b.is_cuda for b in model.cuda().buffers())", _MODEL),
    Use("parameters stay the same objects", "before is model[0].weight and before.is_cuda and before.is_leaf",
        _MODEL + "; before = model[0].weight; model.cuda()"),
    Use("tied weights stay tied",
        "a.weight is b.weight and a.weight.is_cuda and b.weight.data_ptr() == a.weight.data_ptr()",
        "a, b = nn.Linear(2, 2), nn.Linear(2, 2); b.weight = a.weight; nn.Sequential(a, b).cuda()"),
    Use("model.cpu()", "model.cuda()[0].weight.is_cuda and not model.cpu()[0].weight.is_cuda", _MODEL),
    Use("nn.Linear(2, 2, device='cuda')", "nn.Linear(2, 2, device='cuda').weight.is_cuda"),
    Use("model.to_empty(device='cuda')", "nn.Linear(2, 2, device='meta').to_empty(device='cuda').weight.is_cuda"),
    Use("model(x).device", "model.cuda()(torch.ones(2, 3).cuda()).device == next(model.parameters()).device", _MODEL),
    Use("nn.LSTM on a GPU", "nn.LSTM(3, 3).cuda()(torch.ones(1, 2, 3).cuda())[0].is_cuda"),
    # A yes would have cuDNN flatten the weights of recurrent layers.
    Use("torch.backends.cudnn.is_acceptable(x)", "x.is_cuda and not torch.backends.cudnn.is_acceptable(x)", _ON),
    Use("nn.DataParallel(model.cuda())", "nn.DataParallel(model.cuda())(torch.ones(2, 3).cuda()).is_cuda", _MODEL),
    Use("model.load_state_dict(...)", "model[0].weight.is_cuda",
        _MODEL + "; state = {k: v.cpu() for k, v in model.cuda().state_dict().items()}; model.load_state_dict(state)"),
    Use("nn.utils.rnn.pack_padded_sequence", "packed.data.is_cuda",
        "packed = nn.utils.rnn.pack_padded_sequence(torch.ones(2, 2, 3).cuda(), torch.tensor([2, 1]))"),
    Use("copy.deepcopy(model)", "copy.deepcopy(model.cuda())[0].weight.is_cuda", _MODEL + "; import copy"),
]  # fmt: skip
LOADING = [
    Use(f"torch.load(f, map_location={where})", f"loaded['x'].is_cuda is {cuda}", f"""
import io
f = io.BytesIO(); torch.save({{'x': torch.ones(2).cuda()}}, f); f.seek(0)
loaded = torch.load(f, map_location={where})
""", anywhere=False)
    for where, cuda in (
        ("'cuda'", True),
        ("'cuda:0'", True),
        ("torch.device('cuda')", True),
        ("{'cpu': 'cuda:0'}", True),
        ("'cpu'", False),
        ("lambda storage, where: storage.cuda(0)", True),
        ("lambda storage, where: storage", False),
    )
]  # fmt: skip
LOADING += [
    Use("torch.save of GPU tensors loads without a GPU", "not loaded['x'].is_cuda", """
import io
f = io.BytesIO(); torch.save({'x': torch.ones(2).cuda()}, f); f.seek(0)
loaded = torch.load(f)
"""),
    Use("x.pin_memory()", "x.pin_memory().is_pinned() and not x.is_pinned()", _HOST),
    Use("torch.empty(2, pin_memory=True)", "torch.empty(2, pin_memory=True).is_pinned()"),
    Use("x.pin_memory().cuda(non_blocking=True)", "x.pin_memory().cuda(non_blocking=True).is_cuda", _HOST),
    Use("DataLoader(pin_memory=True)", "batch.is_pinned() and batch.to('cuda', non_blocking=True).is_cuda", """
from torch.utils.data import DataLoader, TensorDataset
(batch,) = next(iter(DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2, pin_memory=True)))
"""),
    Use("DataLoader(pin_memory=True, num_workers=1)", "batch.is_pinned() and batch.cuda().is_cuda", """
from torch.utils.data import DataLoader, TensorDataset
(batch,) = next(iter(DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2, pin_memory=True, num_workers=1)))
"""),
]  # fmt: skip

BY_TOPIC = {
    "Tensors made on a GPU": FACTORIES,
    "Tensors moved": MOVES,
    "Where a tensor is": ANSWERS,
    "The default device": DEFAULTS,
    "Modules": MODULES,
    "Loading and pinning": LOADING,
}
