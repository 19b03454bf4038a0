"""The perceptual loss with seeded random weights: its value, gradient, precision and weight files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from gslrm.model.perceptual import PerceptualLoss
from gslrm.model.vgg_weights import VggWeights, random_weights, read_weights

LAYERS = ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "3_4", "4_1", "4_2", "4_3", "4_4", "5_1", "5_2"]
TORCHVISION = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30]


@pytest.fixture(scope="module")
def weights() -> VggWeights:
    return random_weights(0)


@pytest.fixture(scope="module")
def loss(weights: VggWeights) -> PerceptualLoss:
    return PerceptualLoss(weights)


def pictures(seed: int, height: int = 32, width: int = 32, n: int = 2) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    first = torch.rand(n, 3, height, width, generator=rng)
    return first, (first + 0.2 * torch.randn(first.shape, generator=rng)).clamp(0, 1)


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Correlation of (h, w, in) with (out, in, 3, 3), zeros around, as nine shifted products."""
    h, w, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    return bias + sum(padded[i : i + h, j : j + w] @ kernel[:, :, i, j].T for i in range(3) for j in range(3))


def truth(a: Tensor, b: Tensor, weights: VggWeights) -> float:
    """The loss by numpy in float64, from the definition."""
    kernels = [k.double().numpy() for k in weights.kernels]
    biases = [k.double().numpy() for k in weights.biases]
    total = 0.0
    for one, two in zip(a.double().numpy(), b.double().numpy(), strict=True):
        x, y = (p.transpose(1, 2, 0) * 255 - np.array([123.68, 116.779, 103.939]) for p in (one, two))
        distance = np.abs(x - y).mean()
        for i, name in enumerate(LAYERS):
            x, y = (np.maximum(convolved(p, kernels[i], biases[i]), 0) for p in (x, y))
            weight = {"1_2": 1 / 2.6, "2_2": 1 / 4.8, "3_2": 1 / 3.7, "4_2": 1 / 5.6, "5_2": 10 / 1.5}.get(name, 0)
            distance += weight * np.abs(x - y).mean()
            if name in ("1_2", "2_2", "3_4", "4_4"):
                h, w = x.shape[0] // 2, x.shape[1] // 2
                x, y = (p[: 2 * h, : 2 * w].reshape(h, 2, w, 2, -1).mean((1, 3)) for p in (x, y))
        total += distance / 255
    return total / len(a)


@pytest.mark.parametrize("size", [(32, 32), (16, 16), (19, 33)])
def test_it_is_what_numpy_says(loss: PerceptualLoss, weights: VggWeights, size: tuple[int, int]) -> None:
    a, b = pictures(1, *size)
    expected = truth(a, b, weights)
    assert expected > 0.1
    assert float(loss(a, b)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(a.double(), b.double())) == pytest.approx(expected, rel=1e-12)


def test_zero_at_identity_with_a_finite_gradient(loss: PerceptualLoss) -> None:
    a, _ = pictures(2)
    a.requires_grad_()
    value = loss(a, a.detach().clone())
    value.backward()
    assert float(value.detach()) == 0
    assert a.grad is not None
    assert not a.grad.any()


@pytest.mark.parametrize("seed", range(3))
def test_positive_and_symmetric_with_a_gradient_that_descends(loss: PerceptualLoss, seed: int) -> None:
    a, b = pictures(seed)
    a.requires_grad_()
    value = loss(a, b)
    assert float(value.detach()) > 0
    assert float(loss(b, a).detach()) == pytest.approx(float(value.detach()), rel=1e-6)
    (gradient,) = torch.autograd.grad(value, a)
    assert torch.isfinite(gradient).all()
    step = 1e-3 * gradient / gradient.norm()
    assert float(loss(a.detach() - step, b)) < float(value.detach())


def test_the_gradient_is_the_finite_difference(loss: PerceptualLoss) -> None:
    a, b = (p.double() for p in pictures(4, n=1))
    a.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(a, b), a)
    way = torch.randn(a.shape, dtype=a.dtype, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        slope = float(loss(a + 1e-7 * way, b) - loss(a - 1e-7 * way, b)) / 2e-7
    assert float((gradient * way).sum()) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing_to_the_bit(loss: PerceptualLoss, dtype: torch.dtype) -> None:
    a, b = pictures(6)
    a.requires_grad_()
    expected = loss(a, b)
    (gradient,) = torch.autograd.grad(expected, a)
    with torch.autocast("cpu", dtype=dtype):
        found = loss(a, b)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(torch.autograd.grad(found, a)[0], gradient)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_pictures_are_cast_up(loss: PerceptualLoss, dtype: torch.dtype) -> None:
    a, b = (p.to(dtype) for p in pictures(7))
    a.requires_grad_()
    value = loss(a, b)
    assert torch.equal(value, loss(a.float(), b.float()))
    assert torch.autograd.grad(value, a)[0].dtype == dtype


def test_vgg19_is_fixed_and_stays_out_of_checkpoints(loss: PerceptualLoss) -> None:
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_random_weights_are_seeded_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = random_weights(3), random_weights(3), random_weights(4)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.kernels, again.kernels, strict=True))
    assert not torch.equal(first.kernels[0], other.kernels[0])


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.rand(1, 3, 15, 32), torch.rand(1, 3, 15, 32), "at least 16 × 16"),
        (torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 33), "expected the same"),
        (torch.rand(1, 4, 32, 32), torch.rand(1, 4, 32, 32), r"\(n, 3, height, width\)"),
        (torch.rand(0, 3, 32, 32), torch.rand(0, 3, 32, 32), "at least one"),
    ],
)
def test_wrong_pictures_are_named(loss: PerceptualLoss, a: Tensor, b: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss(a, b)


def matconvnet(weights: VggWeights, skip: str = "") -> dict[str, np.ndarray]:
    """The content of a .mat file like the public one: a 1 × n cell of structs, weights (h, w, in, out)."""
    cells: list[dict[str, object]] = []
    for i, name in enumerate(LAYERS):
        pair = np.empty((1, 2), dtype=object)
        pair[0, 0] = weights.kernels[i].permute(2, 3, 1, 0).numpy()
        pair[0, 1] = weights.biases[i].numpy()[:, None]
        if name != skip:
            cells.append({"name": f"conv{name}", "type": "conv", "weights": pair, "pad": 1, "stride": 1})
        cells.append({"name": f"relu{name}", "type": "relu"})
        if name in ("1_2", "2_2", "3_4", "4_4"):
            cells.append({"name": f"pool{name[0]}", "type": "pool", "method": "max", "stride": 2})
    layers = np.empty((1, len(cells)), dtype=object)
    layers[0, :] = cells
    return {"layers": layers}


def by_name(weights: VggWeights, names: list[str]) -> dict[str, Tensor]:
    kernels = {f"{name}.weight": k.contiguous() for name, k in zip(names, weights.kernels, strict=True)}
    return kernels | {f"{name}.bias": b.contiguous() for name, b in zip(names, weights.biases, strict=True)}


def same(a: VggWeights, b: VggWeights) -> bool:
    pairs = zip((*a.kernels, *a.biases), (*b.kernels, *b.biases), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_the_three_kinds_of_file_give_the_same_weights(tmp_path: Path, weights: VggWeights) -> None:
    savemat = pytest.importorskip("scipy.io", reason="scipy is not installed").savemat
    savemat(tmp_path / "vgg.mat", matconvnet(weights))
    save_file(by_name(weights, [f"conv{name}" for name in LAYERS]), tmp_path / "ours.safetensors")
    whole = by_name(weights, [f"features.{i}" for i in TORCHVISION])
    whole["classifier.0.weight"] = torch.rand(2, 2)  # a whole network holds more than the loss needs
    save_file(whole, tmp_path / "torchvision.safetensors")
    for name in ("vgg.mat", "ours.safetensors", "torchvision.safetensors"):
        assert same(read_weights(tmp_path / name), weights), name


def write_mat(path: Path, content: dict[str, np.ndarray]) -> Path:
    pytest.importorskip("scipy.io", reason="scipy is not installed").savemat(path, content)
    return path


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path)
    return path


def write_bytes(path: Path) -> Path:
    path.write_bytes(b"neither")
    return path


OURS = [f"conv{name}" for name in LAYERS]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda d, w: write_tensors(d / "a.safetensors", {"x": torch.rand(1)}),
            "conv1_1.weight.* missing .14 in all",
        ),
        (
            lambda d, w: write_tensors(d / "a.safetensors", by_name(w, OURS) | {"conv3_2.bias": torch.rand(7)}),
            r"bias of conv3_2 has shape \(7,\), expected \(256,\)",
        ),
        (
            lambda d, w: write_tensors(
                d / "a.safetensors", by_name(w, OURS) | {"conv1_1.bias": torch.full((64,), torch.nan)}
            ),
            "bias of conv1_1 holds a NaN",
        ),
        (lambda d, w: write_bytes(d / "a.safetensors"), "not a safetensors file"),
        (lambda d, w: write_bytes(d / "a.mat"), "not a MATLAB file"),
        (lambda d, w: write_bytes(d / "a.pth"), r"from a \.mat or \.safetensors file"),
        (lambda d, w: write_mat(d / "a.mat", {"x": np.zeros(3)}), r"no 'layers' in it; it holds \['x'\]"),
        (lambda d, w: write_mat(d / "a.mat", {"layers": np.zeros(3)}), "not a list of MatConvNet layers"),
        (lambda d, w: write_mat(d / "a.mat", matconvnet(w, skip="4_2")), "no weights for conv4_2"),
        (
            lambda d, w: write_mat(
                d / "a.mat",
                matconvnet(replaced(w, torch.rand(64, 3, 5, 5))),
            ),
            r"kernel of conv1_1 has shape \(64, 3, 5, 5\)",
        ),
    ],
)
def test_a_wrong_file_is_named(
    tmp_path: Path, weights: VggWeights, write: Callable[[Path, VggWeights], Path], message: str
) -> None:
    path = write(tmp_path, weights)
    with pytest.raises(ValueError, match=message) as error:
        read_weights(path)
    assert str(path) in str(error.value)


def replaced(weights: VggWeights, kernel: Tensor) -> VggWeights:
    """Weights with a first kernel that the dataclass itself would refuse."""
    wrong = replace(weights)
    object.__setattr__(wrong, "kernels", (kernel, *weights.kernels[1:]))
    return wrong


def test_a_missing_file_says_that_nothing_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="never fetched"):
        read_weights(tmp_path / "imagenet-vgg-verydeep-19.mat")
