"""What else the SSIM loss can be put into: compiled and exported models, vmap, second derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gslrm.model.utils_losses import MaskedSsimLoss, SsimLoss
from tests.gslrm.model.by_path import PATHS, TERMS
from tests.gslrm.model.masked_pairs import disc, pair


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
