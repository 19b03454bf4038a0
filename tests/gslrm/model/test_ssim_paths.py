"""Each path of the SSIM loss against float64 by autograd, on whatever a caller may hand over."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gslrm.model import ssim_plain
from gslrm.model.ssim_loss import SsimTerms, ssim_loss
from gslrm.model.utils_losses import MaskedSsimLoss, SsimLoss
from tests.gslrm.model.by_path import MASKS, PATHS, TERMS, of_path, truth
from tests.gslrm.model.masked_pairs import disc, pair


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("dtype", "value", "gradient"), [(torch.float32, 1e-6, 1e-5), (torch.float64, 1e-12, 1e-12)])
def test_a_path_is_the_formula(path: str, mask: str, dtype: torch.dtype, value: float, gradient: float) -> None:
    # Odd sides, a single window, one row of windows, and wider than a job of the compiled pass.
    for n, c, h, w in ((2, 3, 47, 75), (2, 1, 11, 11), (3, 2, 90, 64), (2, 3, 12, 33), (2, 1, 13, 1100)):
        x, y = (image.to(dtype) for image in pair(n, c, h, w))
        shown = MASKS[mask](n, h, w)
        found, right = of_path(path, x, y, shown), truth(x, y, shown)
        assert found[0] == pytest.approx(right[0], rel=value)
        for one, other in zip(found[1:], right[1:], strict=True):
            assert one.dtype == dtype  # type: ignore[union-attr]
            error = float((one - other).norm())  # type: ignore[operator]
            assert error <= gradient * float(other.norm())  # type: ignore[union-attr]


@pytest.mark.parametrize("path", PATHS)
def test_nearly_equal_images_keep_their_digits(path: str) -> None:
    x, _ = pair(1, 3, 40, 40)
    y = (x + 1e-5 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1))).float()
    mask = disc(1, 40, 40, radius=6)
    found, right = of_path(path, x, y, mask), truth(x, y, mask)
    assert found[0] == pytest.approx(right[0], rel=1e-6)
    assert float((found[1] - right[1]).norm() / right[1].norm()) < 1e-5
    equal = of_path(path, x, x.clone(), mask)
    assert equal[0] == 0.0
    assert not equal[1].any()


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda image: image.to(memory_format=torch.channels_last),
    "transposed": lambda image: image.transpose(2, 3).contiguous().transpose(2, 3),
    "a part": lambda image: torch.nn.functional.pad(image, (3, 2, 1, 4))[..., 1:-4, 3:-2],
    "every other": lambda image: image.repeat_interleave(2, dim=3)[..., ::2],
    "expanded images": lambda image: image[:1].expand_as(image),
    "expanded channels": lambda image: image[:, :1].expand_as(image),
    "expanded columns": lambda image: image[..., :1].expand_as(image),
    "negated when read": lambda image: torch.complex(torch.zeros_like(image), -image).conj().imag,
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_will_do(path: str, layout: str) -> None:
    x, y = pair(2, 3, 30, 41)
    mask = disc(2, 30, 41, radius=9)
    laid_out = LAYOUTS[layout](x)
    for one, other in ((laid_out, y), (y, laid_out)):
        found, right = of_path(path, one, other, mask), of_path(path, one.contiguous(), other.contiguous(), mask)
        assert found[0] == pytest.approx(right[0], rel=1e-6)
        for gradient, expected in zip(found[1:], right[1:], strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_an_empty_mask_has_a_graph_and_no_gradient(path: str) -> None:
    x, y = pair(2, 3, 20, 20)
    value, *gradients = of_path(path, x, y, torch.zeros(2, 1, 20, 20))
    assert value == 0.0
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("which", [0, 1])
def test_only_the_gradient_that_is_wanted_is_calculated(path: str, which: int) -> None:
    x, y = pair(1, 3, 20, 20)
    mask = disc(1, 20, 20)
    right = of_path(path, x, y, mask)
    images = [x, y]
    images[which] = images[which].requires_grad_()
    loss = ssim_loss(*images, mask, SsimTerms(TERMS, path))
    loss.backward()
    torch.testing.assert_close(images[which].grad, right[1 + which], rtol=1e-6, atol=0)
    assert images[1 - which].grad is None
    with torch.no_grad():
        alone = ssim_loss(*images, mask, SsimTerms(TERMS, path))
    assert not alone.requires_grad
    assert alone.item() == loss.item()


@pytest.mark.parametrize("path", PATHS)
def test_a_second_backward_pass_gives_the_same_bits(path: str) -> None:
    x, y = pair(1, 3, 20, 20)
    x.requires_grad_()
    loss = -3.0 * ssim_loss(x, y, disc(1, 20, 20), SsimTerms(TERMS, path))
    (once,), (again,) = torch.autograd.grad(loss, x, retain_graph=True), torch.autograd.grad(loss, x)
    assert once.any()
    assert torch.equal(once, again)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, x)


@pytest.mark.parametrize("path", PATHS)
def test_an_infinite_upstream_gradient_reaches_no_hidden_pixel(path: str) -> None:
    x, y = pair(1, 3, 20, 20)
    mask = disc(1, 20, 20)
    (gradient,) = torch.autograd.grad(ssim_loss(x.requires_grad_(), y, mask, SsimTerms(TERMS, path)) * float("inf"), x)
    assert not gradient.masked_select(mask == 0).any()
    assert not gradient.masked_select(mask == 1).isfinite().any()


@pytest.mark.parametrize("path", PATHS)
def test_values_are_checked_where_the_mask_shows_alone(path: str) -> None:
    x, y = pair(1, 3, 30, 30)
    mask = disc(1, 30, 30)
    loss = MaskedSsimLoss(path=path)
    right = loss(x, y, mask).item()
    for bad in (float("nan"), float("inf"), -1e3):
        spoilt = x.clone()
        spoilt[0, 2, 0, 0] = bad
        assert loss(spoilt, y, mask).item() == right
        spoilt[0, 2, 15, 15] = bad
        with pytest.raises(ValueError, match=r"target (holds NaN or infinity|has values from -1000)"):
            loss(y, spoilt, mask)


@pytest.mark.parametrize("path", PATHS)
def test_a_mask_of_infinities_is_no_nan(path: str) -> None:
    x, y = pair(1, 3, 20, 20)
    mask = disc(1, 20, 20)
    infinite = torch.where(mask > 0.5, float("inf"), -float("inf"))
    loss = MaskedSsimLoss(path=path)
    assert loss(x, y, infinite).item() == loss(x, y, mask).item()
    infinite[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="mask holds NaN"):
        loss(x, y, infinite)


@pytest.mark.parametrize("path", PATHS)
def test_more_threads_change_nothing_that_counts(path: str) -> None:
    x, y = pair(1, 3, 300, 300)
    mask = disc(1, 300, 300, radius=140)
    one = of_path(path, x, y, mask)
    torch.set_num_threads(3)
    try:
        several = of_path(path, x, y, mask)
    finally:
        torch.set_num_threads(1)
    assert several[0] == pytest.approx(one[0], rel=1e-6)
    torch.testing.assert_close(several[1], one[1], rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("path", PATHS)
def test_another_default_device_and_dtype_change_nothing(path: str) -> None:
    x, y = pair(1, 3, 20, 20)
    mask = disc(1, 20, 20)
    right = [MaskedSsimLoss(path=path)(x, y, mask).item(), SsimLoss(path=path)(x, y).item()]
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = [MaskedSsimLoss(path=path)(x, y, mask).item(), SsimLoss(path=path)(x, y).item()]
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == right


@pytest.mark.parametrize("path", PATHS)
def test_threads_at_once_don_t_disturb_each_other(path: str) -> None:
    if path == "triton":
        pytest.skip("Triton's interpreter takes one thread at a time")
    pairs = [pair(2, 3, 64, 64 + 8 * i, seed=i) for i in range(4)]
    masks = [disc(2, 64, 64 + 8 * i, radius=20) for i in range(4)]
    right = [of_path(path, *images, mask) for images, mask in zip(pairs, masks, strict=True)]
    wrong: list[int] = []

    def call(i: int) -> None:
        for _ in range(10):
            value, *gradients = of_path(path, *pairs[i], masks[i])
            same = all(torch.equal(one, other) for one, other in zip(gradients, right[i][1:], strict=True))  # type: ignore[arg-type]
            if value != right[i][0] or not same:
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("mask", ["full", "disc", "islands"])
@pytest.mark.parametrize("pixels", [1, 900, 5000, 12_000])
def test_channels_and_bands_of_large_images_are_put_together(
    pixels: int, mask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssim_plain, "CHUNK_PIXELS", pixels)
    x, y = pair(3, 3, 47, 75)
    shown = MASKS[mask](3, 47, 75)
    found, right = of_path("torch", x, y, shown), truth(x, y, shown)
    assert found[0] == pytest.approx(right[0], rel=1e-6)
    for one, other in zip(found[1:], right[1:], strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-5  # type: ignore[operator, union-attr]


def test_another_path_is_refused() -> None:
    with pytest.raises(ValueError, match="path must be one of auto, numba, triton, torch, not 'fast'"):
        MaskedSsimLoss(path="fast")


def test_without_numba_it_is_torch_s_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gslrm.model.ssim_fused._why_not", "numba is not installed")
    x, y = pair(1, 3, 20, 20)
    assert MaskedSsimLoss()(x, y, disc(1, 20, 20)).item() == MaskedSsimLoss(path="torch")(x, y, disc(1, 20, 20)).item()
    with pytest.raises(RuntimeError, match="numba is not installed"):
        MaskedSsimLoss(path="numba")(x, y, disc(1, 20, 20))
