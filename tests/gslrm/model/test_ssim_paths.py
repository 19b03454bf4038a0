"""Each path of the SSIM loss against float64 by autograd, on whatever a caller may hand over."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from gslrm.model import ssim_fused, ssim_plain
from gslrm.model.foreground_boxes import MOST_BOXES, REACH, cell_boxes, foreground_boxes
from gslrm.model.ssim_difference import SsimConstants
from gslrm.model.ssim_fused import why_not_fused
from gslrm.model.ssim_loss import SsimTerms, ssim_loss
from gslrm.model.torch_threads import run_on_threads
from gslrm.model.utils_losses import MaskedSsimLoss, SsimLoss
from tests.gslrm.model.masked_pairs import disc, pair

_NUMBA = pytest.mark.skipif(bool(why_not_fused()), reason=why_not_fused() or "numba is there")
_TRITON = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1",
    reason="the Triton kernel is tested by nox -s triton: Triton, and TRITON_INTERPRET=1",
)
PATHS = [pytest.param("numba", marks=_NUMBA), pytest.param("triton", marks=_TRITON), "torch"]
TERMS = SsimConstants.of(1.0, offset=1.0)
Gradients = tuple[float, Tensor, Tensor]


def _truth(x: Tensor, y: Tensor, mask: Tensor) -> Gradients:
    """By the formula, with dense windows, in float64."""
    x, y = (image.detach().double().requires_grad_() for image in (x, y))
    shown = mask > 0.5
    d, s = (x - y).where(shown, 0.0), (x + y - 1.0).where(shown, 0.0)
    taps = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    taps = taps / taps.sum()
    window = torch.outer(taps, taps)[None, None]

    def mean(image: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(image.flatten(0, 1)[:, None], window)

    m, n = mean(d), mean(s)
    v, u = mean(d * d) - m * m, mean(s * s) - n * n
    a = m * m / (((n + 1.0) ** 2 + m * m) / 2 + TERMS.c1)
    b = v / ((u + v) / 2 + TERMS.c2)
    loss = (a + b - a * b).mean()
    return (loss.item(), *torch.autograd.grad(loss, (x, y)))


def _of_path(path: str, x: Tensor, y: Tensor, mask: Tensor) -> Gradients:
    x, y = (image.detach().requires_grad_() for image in (x, y))
    loss = ssim_loss(x, y, mask, SsimTerms(TERMS, path))
    assert loss.dtype == x.dtype
    return (loss.item(), *torch.autograd.grad(loss, (x, y)))


def _islands(n: int, h: int, w: int) -> Tensor:
    """A few pixels in each corner, one alone in the middle, and none at all in the last image."""
    mask = torch.zeros(n, 1, h, w)
    mask[..., :2, :3] = mask[..., -4:, :2] = mask[..., :3, -3:] = mask[..., -1:, -1:] = mask[..., h // 2, w // 2] = 1
    mask[n - 1] = 0
    return mask


def _scattered(n: int, h: int, w: int) -> Tensor:
    return (torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(4)) < 0.003).float()


MASKS: dict[str, Callable[[int, int, int], Tensor]] = {
    "full": lambda n, h, w: torch.ones(n, 1, h, w),
    "disc": disc,
    "islands": _islands,
    "scattered": _scattered,
    "booleans": lambda n, h, w: disc(n, h, w) > 0.5,
    "bytes": lambda n, h, w: disc(n, h, w).to(torch.uint8),
    "halves": lambda n, h, w: disc(n, h, w).half(),
    "strided": lambda n, h, w: disc(n, w, h).transpose(2, 3),
    "soft": lambda n, h, w: torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(5)),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("dtype", "value", "gradient"), [(torch.float32, 1e-6, 1e-5), (torch.float64, 1e-12, 1e-12)])
def test_a_path_is_the_formula(path: str, mask: str, dtype: torch.dtype, value: float, gradient: float) -> None:
    # Odd sides, a single window, one row of windows, and wider than a job of the compiled pass.
    for n, c, h, w in ((2, 3, 47, 75), (2, 1, 11, 11), (3, 2, 90, 64), (2, 3, 12, 33), (2, 1, 13, 1100)):
        x, y = (image.to(dtype) for image in pair(n, c, h, w))
        shown = MASKS[mask](n, h, w)
        found, right = _of_path(path, x, y, shown), _truth(x, y, shown)
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
    found, right = _of_path(path, x, y, mask), _truth(x, y, mask)
    assert found[0] == pytest.approx(right[0], rel=1e-6)
    assert float((found[1] - right[1]).norm() / right[1].norm()) < 1e-5
    equal = _of_path(path, x, x.clone(), mask)
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
        found, right = _of_path(path, one, other, mask), _of_path(path, one.contiguous(), other.contiguous(), mask)
        assert found[0] == pytest.approx(right[0], rel=1e-6)
        for gradient, expected in zip(found[1:], right[1:], strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_an_empty_mask_has_a_graph_and_no_gradient(path: str) -> None:
    x, y = pair(2, 3, 20, 20)
    value, *gradients = _of_path(path, x, y, torch.zeros(2, 1, 20, 20))
    assert value == 0.0
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("which", [0, 1])
def test_only_the_gradient_that_is_wanted_is_calculated(path: str, which: int) -> None:
    x, y = pair(1, 3, 20, 20)
    mask = disc(1, 20, 20)
    right = _of_path(path, x, y, mask)
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
    one = _of_path(path, x, y, mask)
    torch.set_num_threads(3)
    try:
        several = _of_path(path, x, y, mask)
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


@pytest.mark.parametrize("mask", ["full", "disc", "islands"])
@pytest.mark.parametrize("pixels", [1, 900, 5000, 12_000])
def test_channels_and_bands_of_large_images_are_put_together(
    pixels: int, mask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssim_plain, "CHUNK_PIXELS", pixels)
    x, y = pair(3, 3, 47, 75)
    shown = MASKS[mask](3, 47, 75)
    found, right = _of_path("torch", x, y, shown), _truth(x, y, shown)
    assert found[0] == pytest.approx(right[0], rel=1e-6)
    for one, other in zip(found[1:], right[1:], strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-5  # type: ignore[operator, union-attr]


@_NUMBA
def test_low_boxes_are_cut_into_as_many_bands_as_a_tall_one() -> None:
    mask = torch.zeros(1, 1, 540, 290)
    mask[..., :512, :240] = 1  # eight bands for eight threads
    mask[..., 528:, 100:112] = 1  # the last of which see no window of their own
    mask[..., 536:, 270:] = 1  # and half of which are empty
    x, y = pair(1, 1, 540, 290)
    right = _truth(x, y, mask)
    torch.set_num_threads(8)
    try:
        found = _of_path("numba", x, y, mask)
    finally:
        torch.set_num_threads(1)
    assert found[0] == pytest.approx(right[0], rel=1e-6)
    assert float((found[1] - right[1]).norm() / right[1].norm()) < 1e-5


@_NUMBA
@pytest.mark.parametrize(
    ("images", "side", "shown", "threads"),
    [(12, 256, 57, 2), (12, 256, 4, 1), (2, 32, 32, 1), (2, 64, 64, 2), (1, 256, 256, 2)],
)
def test_a_thread_is_taken_where_it_has_enough_to_do(
    images: int, side: int, shown: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def watched(task: int, data: int, number: int) -> None:
        started.append(number)
        run_on_threads(task, data, number)

    x, y = pair(images, 3, side, side)
    mask = torch.zeros(images, 1, side, side)
    mask[:, :, :shown, :shown] = 1.0
    _of_path("numba", x, y, mask)
    monkeypatch.setattr(ssim_fused, "run_on_threads", watched)
    torch.set_num_threads(2)
    try:
        _of_path("numba", x, y, mask)
    finally:
        torch.set_num_threads(1)
    # The first looks at the mask.
    assert started[1] == threads


@pytest.mark.parametrize("path", PATHS)
def test_threads_at_once_don_t_disturb_each_other(path: str) -> None:
    if path == "triton":
        pytest.skip("Triton's interpreter takes one thread at a time")
    pairs = [pair(2, 3, 64, 64 + 8 * i, seed=i) for i in range(4)]
    masks = [disc(2, 64, 64 + 8 * i, radius=20) for i in range(4)]
    right = [_of_path(path, *images, mask) for images, mask in zip(pairs, masks, strict=True)]
    wrong: list[int] = []

    def call(i: int) -> None:
        for _ in range(10):
            value, *gradients = _of_path(path, *pairs[i], masks[i])
            same = all(torch.equal(one, other) for one, other in zip(gradients, right[i][1:], strict=True))  # type: ignore[arg-type]
            if value != right[i][0] or not same:
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@_NUMBA
def test_a_forked_child_calls_it_too() -> None:
    x, y = pair(4, 3, 128, 128)
    mask = torch.ones(4, 1, 128, 128)
    terms = SsimTerms(TERMS, "numba")
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def in_child() -> None:
        # Nothing but the loss: torch's own threads are lost in a fork, and are waited for.
        there.send(ssim_loss(x, y, mask, terms).item())

    torch.set_num_threads(2)
    try:
        value = ssim_loss(x, y, mask, terms).item()
        child = context.Process(target=in_child)
        child.start()
    finally:
        torch.set_num_threads(1)
    try:
        assert here.poll(60), "the child hangs"
        assert here.recv() == pytest.approx(value, rel=1e-12)
    finally:
        child.kill()
        child.join()


def test_no_window_sees_two_boxes_and_no_pixel_is_outside() -> None:
    generator = torch.Generator().manual_seed(0)
    for density in (0.0, 0.0005, 0.003, 0.02):
        foreground = torch.rand(3, 1, 170, 210, generator=generator) < density
        boxes = foreground_boxes(foreground)
        covered = torch.zeros_like(foreground, dtype=torch.int64)
        windows = torch.zeros_like(covered)
        for image, top, bottom, left, right in boxes:
            covered[image, 0, top:bottom, left:right] += 1
            windows[image, 0, max(top - REACH, 0) : bottom, max(left - REACH, 0) : right] += 1
        assert bool((covered[foreground] == 1).all())
        assert int(windows.max()) <= 1
    islands = foreground_boxes(_islands(2, 200, 200) > 0.5)
    # The pixel in the last corner is a box of its own.
    assert islands == [
        (0, 0, 2, 0, 3),
        (0, 0, 3, 197, 200),
        (0, 100, 101, 100, 101),
        (0, 196, 200, 0, 2),
        (0, 199, 200, 199, 200),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_of_more_groups_than_boxes_one_box_holds_all(seed: int) -> None:
    # Apart from each other, and the first that is met is neither the leftmost nor the rightmost.
    chosen = np.random.default_rng(seed).random((40, 40)) < 0.8
    occupied = np.zeros((80, 80), dtype=bool)
    occupied[10:70:2, 6:74:2] = chosen[:30, :34]
    occupied[10] = False
    occupied[10, 40] = True
    boxes = np.empty((MOST_BOXES, 4), dtype=np.int64)
    groups = int(occupied.sum())
    assert groups > 2 * MOST_BOXES
    count = cell_boxes(occupied, 1, 80, 80, boxes)
    assert 1 <= count < MOST_BOXES
    rows, columns = np.nonzero(occupied)
    found = boxes[:count]
    inside = [
        any(t <= row < b and left <= column < right for t, b, left, right in found)
        for row, column in zip(rows, columns, strict=True)
    ]
    assert all(inside)
    # No larger than what it holds.
    assert (found[:, 0].min(), found[:, 1].max()) == (rows.min(), rows.max() + 1)
    assert (found[:, 2].min(), found[:, 3].max()) == (columns.min(), columns.max() + 1)


@_NUMBA
def test_there_are_more_islands_than_boxes() -> None:
    mask = torch.zeros(1, 1, 33 * 17, 33 * 17)
    mask[..., 8::33, 8::33] = 1
    x, y = pair(1, 1, *mask.shape[2:])
    found, right = _of_path("numba", x, y, mask), _truth(x, y, mask)
    assert found[0] == pytest.approx(right[0], rel=1e-6)
    assert float((found[1] - right[1]).norm() / right[1].norm()) < 1e-5


@pytest.mark.parametrize("path", PATHS)
def test_a_compiled_model_has_no_graph_break(path: str) -> None:
    x, y = pair(2, 3, 20, 24)
    mask = disc(2, 20, 24)
    loss = MaskedSsimLoss(path=path)

    def scaled(factor: Tensor) -> Tensor:
        return 2.0 * loss(factor * x, y, mask) + SsimLoss(path=path)(factor * x, y)

    found = []
    torch._dynamo.reset()
    for function in (scaled, torch.compile(scaled, fullgraph=True, backend="aot_eager")):
        factor = torch.tensor(0.9, requires_grad=True)
        value = function(factor)
        found.append((value.item(), torch.autograd.grad(value, factor)[0].item()))
    assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_the_operator_is_as_torch_wants_it() -> None:
    x, y = pair(2, 3, 20, 24)
    arguments = (x.requires_grad_(), y, disc(2, 20, 24), [TERMS.c1, TERMS.c2, 1.0, 1.0], "auto", "x", "y", True, False)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.gslrm.ssim_loss.default, arguments, test_utils=checks)


def test_an_exported_model_gives_the_same() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss = MaskedSsimLoss()

        def forward(self, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
            return self.loss(x, y, mask)

    inputs = (*pair(1, 3, 20, 20), disc(1, 20, 20))
    assert torch.export.export(Model(), inputs).module()(*inputs).item() == Model()(*inputs).item()


@pytest.mark.parametrize("path", PATHS)
def test_vmap_and_func_grad_go_image_by_image(path: str) -> None:
    x, y = pair(3, 3, 20, 24)
    mask = disc(3, 20, 24)
    loss = MaskedSsimLoss(path=path)

    def of_one(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        return loss(x[None], y[None], mask[None])

    whole = torch.func.grad(lambda image: loss(image, y, mask))(x)
    each = torch.func.vmap(torch.func.grad(of_one))(x, y, mask)
    torch.testing.assert_close(each, 3 * whole, rtol=1e-4, atol=1e-9)
    outside = x.clone().requires_grad_()
    torch.func.vmap(of_one)(outside, y, mask).mean().backward()
    torch.testing.assert_close(outside.grad, whole, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_a_second_derivative_is_refused(path: str) -> None:
    x, y = pair(1, 3, 20, 20)
    loss = MaskedSsimLoss(path=path)(x.requires_grad_(), y, disc(1, 20, 20))
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        gradient.square().sum().backward()


def test_another_path_is_refused() -> None:
    with pytest.raises(ValueError, match="path must be one of auto, numba, triton, torch, not 'fast'"):
        MaskedSsimLoss(path="fast")


def test_without_numba_it_is_torch_s_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gslrm.model.ssim_fused._why_not", "numba is not installed")
    x, y = pair(1, 3, 20, 20)
    assert MaskedSsimLoss()(x, y, disc(1, 20, 20)).item() == MaskedSsimLoss(path="torch")(x, y, disc(1, 20, 20)).item()
    with pytest.raises(RuntimeError, match="numba is not installed"):
        MaskedSsimLoss(path="numba")(x, y, disc(1, 20, 20))
