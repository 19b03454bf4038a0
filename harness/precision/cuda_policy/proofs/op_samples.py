"""One small call of each op of the CUDA autocast lists and of each recurrent layer, to ask the oracle and the
emulation the same question.

Inputs are float32 in [0.1, 0.9], which is inside the domain of every listed op, on CPU, and the same on
every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.precision.cuda_policy.errors import PolicyMismatchError

# No CPU kernel: their casts can be seen, their values cannot.
WITHOUT_CPU_KERNEL = frozenset(
    {
        "cudnn_convolution",
        "cudnn_convolution_transpose",
        "_scaled_dot_product_flash_attention",
        "_thnn_fused_lstm_cell",
        "_thnn_fused_gru_cell",
    }
)


@dataclass(frozen=True)
class OpCall:
    """Arguments for one op of ``torch.ops.aten``."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


def sample_call(name: str) -> OpCall:
    """A call of the listed op ``name`` or ``name.overload``.

    Raises:
        PolicyMismatchError: the lists have an op that this table lacks.
    """
    if name not in _SAMPLES:
        raise PolicyMismatchError(
            f"CUDA autocast lists aten::{name}, for which op_samples.py has no call, so that nothing "
            "checks its casts: add one."
        )
    made = _SAMPLES[name]()
    return made if isinstance(made, OpCall) else OpCall(tuple(made))


def has_sample(name: str) -> bool:
    """Whether `sample_call` knows the op."""
    return name in _SAMPLES


def _t(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).mul(0.8).add(0.1).float()


def _sign(*shape: int) -> Tensor:
    return torch.where(_t(*shape, seed=9) > 0.5, 1.0, -1.0)


def _ids(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _conv(n: int, *tail: Any) -> tuple[Any, ...]:
    return (_t(1, 2, *[6] * n), _t(3, 2, *[3] * n, seed=1), _t(3, seed=2), *tail)


def _transposed(n: int) -> tuple[Any, ...]:
    return (_t(1, 2, *[6] * n), _t(2, 3, *[3] * n, seed=1))


def _full_conv(*tail: Any) -> tuple[Any, ...]:
    return (_t(1, 2, 6, 6), _t(3, 2, 3, 3, seed=1), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, *tail)


def _cell(gates: int) -> tuple[Any, ...]:
    return (_t(gates * 4, 3, seed=2), _t(gates * 4, 4, seed=3), _t(gates * 4, seed=4), _t(gates * 4, seed=5))


def _layer(gates: int, *states: Tensor) -> tuple[Any, ...]:
    """One layer over a sequence of 5, a batch of 2, 3 features in and 4 out; an LSTM has two states."""
    states = states or (_t(1, 2, 4, seed=1),)
    state: Any = list(states) if len(states) > 1 else states[0]
    return (_t(5, 2, 3), state, list(_cell(gates)), True, 1, 0.0, False, False, False)


def _packed(gates: int, *states: Tensor) -> tuple[Any, ...]:
    """The same over two sequences of 5 and 3, packed."""
    _, state, weights, *_ = _layer(gates, *states)
    return (_t(8, 3), _ids(2, 2, 2, 1, 1), state, weights, True, 1, 0.0, False, False)


def _lstm_states() -> tuple[Tensor, Tensor]:
    return _t(1, 2, 4, seed=1), _t(1, 2, 4, seed=6)


def _unary() -> tuple[Any, ...]:
    return (_t(3, 4),)


def _pair() -> tuple[Any, ...]:
    return (_t(3, 4), _t(3, 4, seed=1))


def _qkv() -> tuple[Any, ...]:
    return tuple(_t(1, 2, 4, 8, seed=s) for s in range(3))


def _image(n: int, *tail: Any) -> tuple[Any, ...]:
    return (_t(1, 2, *[4] * n), [8] * n, *tail)


_UNARY = (
    *("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal"),
    *("rsqrt", "sinh", "tan", "softplus", "pdist"),
)
_PAIRS = (
    *("cosine_similarity", "kl_div", "l1_loss", "smooth_l1_loss", "huber_loss", "mse_loss", "dist", "cdist"),
    *("pow.Tensor_Tensor", "binary_cross_entropy_with_logits", "binary_cross_entropy"),
)

_SAMPLES: dict[str, Callable[[], OpCall | tuple[Any, ...]]] = {
    # lower precision
    "_convolution.deprecated": lambda: _full_conv(False, False, True),
    "_convolution": lambda: _full_conv(False, False, True, True),
    "convolution": _full_conv,
    "conv1d": lambda: _conv(1),
    "conv2d": lambda: _conv(2),
    "conv3d": lambda: _conv(3),
    "conv_tbc": lambda: (_t(6, 1, 2), _t(3, 2, 3, seed=1), _t(3, seed=2), 0),
    "conv_transpose1d": lambda: _transposed(1),
    "conv_transpose2d.input": lambda: _transposed(2),
    "conv_transpose3d.input": lambda: _transposed(3),
    "cudnn_convolution": lambda: (*_conv(2)[:2], [0, 0], [1, 1], [1, 1], 1, False, False, True),
    "cudnn_convolution_transpose": lambda: (
        *_transposed(2),
        [0, 0],
        [0, 0],
        [1, 1],
        [1, 1],
        1,
        False,
        False,
        True,
    ),
    "prelu": lambda: (_t(1, 2, 3) - 0.5, _t(2, seed=1)),
    "addmm": lambda: (_t(3, 4), _t(3, 5, seed=1), _t(5, 4, seed=2)),
    "addmv": lambda: (_t(3), _t(3, 5, seed=1), _t(5, seed=2)),
    "addr": lambda: (_t(3, 4), _t(3, seed=1), _t(4, seed=2)),
    "matmul": lambda: (_t(2, 3, 4), _t(4, 5, seed=1)),
    "einsum": lambda: ("ij,jk->ik", [_t(3, 4), _t(4, 5, seed=1)]),
    "mm": lambda: (_t(3, 4), _t(4, 5, seed=1)),
    "mv": lambda: (_t(3, 4), _t(4, seed=1)),
    "linalg_vecdot": _pair,
    "linear": lambda: (_t(2, 4), _t(3, 4, seed=1), _t(3, seed=2)),
    "addbmm": lambda: (_t(3, 5), _t(2, 3, 4, seed=1), _t(2, 4, 5, seed=2)),
    "baddbmm": lambda: (_t(2, 3, 5), _t(2, 3, 4, seed=1), _t(2, 4, 5, seed=2)),
    "bmm": lambda: (_t(2, 3, 4), _t(2, 4, 5, seed=1)),
    "chain_matmul": lambda: ([_t(2, 3), _t(3, 4, seed=1), _t(4, 5, seed=2)],),
    "linalg_multi_dot": lambda: ([_t(2, 3), _t(3, 4, seed=1), _t(4, 5, seed=2)],),
    "_thnn_fused_lstm_cell": lambda: (_t(2, 16), _t(2, 16, seed=1), _t(2, 4, seed=2), _t(16), _t(16)),
    "_thnn_fused_gru_cell": lambda: (_t(2, 12), _t(2, 12, seed=1), _t(2, 4, seed=2), _t(12), _t(12)),
    "lstm_cell": lambda: (_t(2, 3), [_t(2, 4), _t(2, 4, seed=1)], *_cell(4)),
    "gru_cell": lambda: (_t(2, 3), _t(2, 4), *_cell(3)),
    "rnn_tanh_cell": lambda: (_t(2, 3), _t(2, 4), *_cell(1)),
    "rnn_relu_cell": lambda: (_t(2, 3), _t(2, 4), *_cell(1)),
    "_scaled_dot_product_flash_attention": _qkv,
    "scaled_dot_product_attention": _qkv,
    # recurrent layers
    "lstm.input": lambda: _layer(4, *_lstm_states()),
    "lstm.data": lambda: _packed(4, *_lstm_states()),
    "gru.input": lambda: _layer(3),
    "gru.data": lambda: _packed(3),
    "rnn_tanh.input": lambda: _layer(1),
    "rnn_tanh.data": lambda: _packed(1),
    "rnn_relu.input": lambda: _layer(1),
    "rnn_relu.data": lambda: _packed(1),
    # float32
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_PAIRS, _pair),
    "linalg_matrix_sqrth": lambda: (_t(3, 4) @ _t(3, 4).mT + torch.eye(3),),
    "pow.Tensor_Scalar": lambda: (_t(3, 4), 2),
    "pow.Scalar": lambda: (2, _t(3, 4)),
    "layer_norm": lambda: (_t(2, 4), [4], _t(4, seed=1), _t(4, seed=2)),
    "native_layer_norm": lambda: (_t(2, 4), [4], _t(4, seed=1), _t(4, seed=2), 1e-5),
    "rms_norm": lambda: (_t(2, 4), [4], _t(4, seed=1)),
    "group_norm": lambda: (_t(2, 4, 3), 2, _t(4, seed=1), _t(4, seed=2)),
    "frobenius_norm.dim": lambda: (_t(3, 4), [1]),
    "nuclear_norm": _unary,
    "nuclear_norm.dim": lambda: (_t(3, 4), [0, 1]),
    "poisson_nll_loss": lambda: (*_pair(), True, False, 1e-8, 1),
    "cosine_embedding_loss": lambda: (*_pair(), _sign(3)),
    "nll_loss": lambda: (_t(3, 4).log(), _ids(0, 2, 3)),
    "nll_loss2d": lambda: (_t(1, 4, 1, 3).log(), _ids(0, 2, 3).view(1, 1, 3)),
    "hinge_embedding_loss": lambda: (_t(3, 4), _sign(3, 4)),
    "margin_ranking_loss": lambda: (*_pair(), _sign(3, 4)),
    "multilabel_margin_loss": lambda: (_t(2, 3), _ids(0, 2, -1, 1, -1, -1).view(2, 3)),
    "soft_margin_loss": lambda: (_t(3, 4), _sign(3, 4)),
    "triplet_margin_loss": lambda: (*_pair(), _t(3, 4, seed=2)),
    "multi_margin_loss": lambda: (_t(3, 4), _ids(0, 2, 3)),
    "renorm": lambda: (_t(3, 4), 2, 0, 0.5),
    "logsumexp": lambda: (_t(3, 4), [1]),
    "upsample_nearest1d": lambda: _image(1),
    "_upsample_nearest_exact1d": lambda: _image(1),
    "upsample_nearest2d": lambda: _image(2),
    "_upsample_nearest_exact2d": lambda: _image(2),
    "upsample_nearest3d": lambda: _image(3),
    "_upsample_nearest_exact3d": lambda: _image(3),
    "upsample_linear1d": lambda: _image(1, False),
    "upsample_bilinear2d": lambda: _image(2, False),
    "_upsample_bilinear2d_aa": lambda: _image(2, False),
    "upsample_trilinear3d": lambda: _image(3, False),
    "upsample_bicubic2d": lambda: _image(2, False),
    "_upsample_bicubic2d_aa": lambda: _image(2, False),
    # float32 unless a dtype is given
    "prod": _unary,
    "prod.dim_int": lambda: (_t(3, 4), 1),
    "softmax.int": lambda: (_t(3, 4), 1),
    "log_softmax.int": lambda: (_t(3, 4), 1),
    "cumprod": lambda: (_t(3, 4), 1),
    "cumsum": lambda: (_t(3, 4), 1),
    "linalg_vector_norm": _unary,
    "linalg_matrix_norm": lambda: (_t(3, 4), 1),
    "linalg_matrix_norm.str_ord": _unary,
    "sum": _unary,
    "sum.dim_IntList": lambda: (_t(3, 4), [1]),
    "norm.Scalar": _unary,
    "norm.ScalarOpt_dim": lambda: (_t(3, 4), 2, [1]),
    # widest input
    "addcdiv": lambda: (*_pair(), _t(3, 4, seed=2)),
    "addcmul": lambda: (*_pair(), _t(3, 4, seed=2)),
    "atan2": _pair,
    "bilinear": lambda: (_t(2, 3), _t(2, 4, seed=1), _t(5, 3, 4, seed=2), _t(5, seed=3)),
    "cross": lambda: (_t(2, 3), _t(2, 3, seed=1)),
    "dot": lambda: (_t(4), _t(4, seed=1)),
    "vdot": lambda: (_t(4), _t(4, seed=1)),
    "grid_sampler": lambda: (_t(1, 2, 4, 4), _t(1, 3, 3, 2, seed=1), 0, 0, False),
    "index_put": lambda: (_t(4), [_ids(0, 2)], _t(2, seed=1)),
    "tensordot": lambda: (_t(3, 4), _t(4, 5, seed=1), [1], [0]),
    "scatter_add": lambda: (_t(3, 4), 0, _ids(0, 1, 2, 0).view(1, 4), _t(1, 4, seed=1)),
}
