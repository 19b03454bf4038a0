"""An op that the emulation doesn't know costs those who call it under ``cuda-policy-*``, and nobody else."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.cases.descriptors import Action, Flaw, LossCase, StepCase
from harness.errors import ExitCode, PrecisionError
from harness.precision import PRECISIONS, Precision, refusing_unknown_ops
from harness.precision.cuda_policy.autocast_lists import read_autocast_lists
from harness.precision.cuda_policy.coverage import unemulated_ops
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.precision.cuda_policy.errors import UnknownOpError
from harness.precision.cuda_policy.proofs.cross_check import cross_check
from harness.properties import LOSS_PROPERTIES, STEP_PROPERTIES
from harness.protocols import LossKind
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.adapted_loss import AdaptedLoss
from harness.subjects.step import StepFactory
from tests.harness.judging import judged, judged_loss
from tests.harness.rounding.traces import BF16, F16, F32, A

pytestmark = pytest.mark.usefixtures("leaves_no_trace")
PRECISION = {p.name: p for p in PRECISIONS}
SENTENCE = r"CUDA autocast casts aten::exp, which this version doesn't know \(.*\): .*other precisions"


def test_which_ops_of_the_installed_torch_are_left_out() -> None:
    """Named tensors, which torch had until 2.12, and nothing else of the versions that are tested."""
    named = {
        *("cumprod.dimname", "cumsum.dimname", "log_softmax.Dimname", "norm.names_ScalarOpt_dim"),
        *("prod.dim_Dimname", "softmax.Dimname", "sum.dim_DimnameList"),
    }
    expected = named & set(read_autocast_lists().policy_of())
    assert {name for name, _ in unemulated_ops()} == expected
    assert bool(expected) == hasattr(Tensor, "refine_names")


@pytest.mark.usefixtures("torch_with_unknown_ops")
def test_both_kinds_of_disagreement_are_named() -> None:
    reasons = dict(unemulated_ops())
    assert "header doesn't list" in reasons["exp"]
    assert "the dispatcher has no CUDA autocast kernel" in reasons["sinc"]
    assert "no such op" in reasons["no_such_op"]


@pytest.mark.usefixtures("torch_with_unknown_ops")
def test_who_calls_one_inside_autocast_is_refused() -> None:
    with emulate_cuda_autocast(BF16):
        assert torch.mm(A, A).dtype is BF16
        with pytest.raises(UnknownOpError, match=SENTENCE) as raised:
            A.exp()
        with pytest.raises(UnknownOpError, match="aten::sinc"):
            A.sinc()
    assert isinstance(raised.value, PrecisionError)
    assert raised.value.exit_code is ExitCode.PRECISION


@pytest.mark.usefixtures("torch_with_unknown_ops")
def test_elsewhere_it_runs_as_stock_torch_does() -> None:
    halves = A.bfloat16()
    with torch.autocast("cpu", dtype=BF16):
        stock = halves.exp()
    with emulate_cuda_autocast(F16, enabled=False), refusing_unknown_ops():
        assert A.exp().dtype is F32
        assert halves.exp().dtype is BF16
        with torch.autocast("cuda", dtype=F16), torch.autocast("cuda", enabled=False):
            assert halves.exp().dtype is BF16
    with torch.autocast("cpu", dtype=BF16), refusing_unknown_ops():
        assert halves.exp().equal(stock)


@pytest.mark.skipif(not hasattr(torch.library, "get_kernel"), reason="this torch cannot call an overridden kernel")
@pytest.mark.usefixtures("torch_with_unknown_ops")
def test_another_thread_runs_it_as_stock_torch_does() -> None:
    seen: list[Any] = []

    def other() -> None:
        with torch.autocast("cpu", dtype=BF16):
            seen.append(A.bfloat16().exp().dtype)

    with emulate_cuda_autocast(F16), refusing_unknown_ops():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    with torch.autocast("cpu", dtype=BF16):
        assert seen == [A.bfloat16().exp().dtype]


def _swallows() -> Tensor:
    try:
        return A.exp()
    except Exception:
        return A


def _turns_it_into_another() -> Tensor:
    try:
        return A.exp()
    except Exception as error:
        raise ValueError("bad input") from error


def _exits() -> Tensor:
    try:
        return A.exp()
    except Exception:
        raise SystemExit(0) from None


@pytest.mark.parametrize("subject", [_swallows, _turns_it_into_another, _exits])
@pytest.mark.usefixtures("torch_with_unknown_ops")
def test_what_a_subject_does_with_the_error_hides_nothing(subject: Any) -> None:
    with emulate_cuda_autocast(F16):
        with pytest.raises(UnknownOpError, match=SENTENCE), refusing_unknown_ops():
            subject()
        with refusing_unknown_ops():  # each block answers for itself
            torch.mm(A, A)


@pytest.mark.usefixtures("torch_with_unknown_ops")
def test_an_interrupt_goes_through() -> None:
    @refusing_unknown_ops()
    def interrupted() -> None:
        _swallows()
        raise KeyboardInterrupt

    with emulate_cuda_autocast(F16), pytest.raises(KeyboardInterrupt):
        interrupted()


def _loss(x: Tensor, y: Tensor) -> Tensor:
    try:
        return ((x - y) ** 2).exp().mean() - 1
    except Exception:
        return ((x - y) ** 2).mean()


@pytest.mark.parametrize("name", ["finite", "side-effects", "bad-input"])
@pytest.mark.usefixtures("torch_with_unknown_ops")
def test_a_loss_that_calls_one_gets_no_verdict_of_that_precision(name: str) -> None:
    subject = AdaptedLoss(SubjectSpec("loss", "here:loss"), LossKind.BARE, _loss)
    property_ = next(p for p in LOSS_PROPERTIES if p.name == name)
    case = LossCase(flaw=Flaw.NAN if Flaw.NAN in property_.flaws else None)

    def check(precision: Precision) -> None:
        with precision.installed():
            judged_loss(subject, property_, precision, case)

    with pytest.raises(UnknownOpError, match=SENTENCE):
        check(PRECISION["cuda-policy-bfloat16"])
    for other in ("float32", "float16-inputs", "cpu-autocast-bfloat16"):
        check(PRECISION[other])


class _Step:
    """Calls an op that isn't known in a region of its own, and never says so."""

    def __init__(self, parts: Any) -> None:
        self._parts, self._passes = parts, 0

    def micro_step(self, loss: Tensor) -> None:
        with torch.autocast("cuda", dtype=F16):
            try:
                loss.exp()
            except Exception:
                self._passes += 1
        self._passes += 1

    def counters(self) -> tuple[int, int]:
        return self._passes, 0

    def averaged(self) -> None:
        return None


@pytest.mark.usefixtures("torch_with_unknown_ops")
@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_step_that_calls_one_gets_no_verdict_of_that_precision() -> None:
    factory = StepFactory(SubjectSpec("step", "here:step"), keeps_state=False, reports=False, build=_Step)  # type: ignore[arg-type]
    property_ = next(p for p in STEP_PROPERTIES if p.name == "never-raises")
    for name in ("cuda-policy-float16", "float32"):
        precision = PRECISION[name]
        with precision.installed():
            if precision.cuda_policy:
                with pytest.raises(UnknownOpError, match=SENTENCE):
                    judged(SubjectKind.STEP, factory, property_, precision, StepCase(actions=(Action.GOOD,)))
            else:
                assert judged(SubjectKind.STEP, factory, property_, precision, StepCase(actions=(Action.GOOD,))).holds


@pytest.mark.filterwarnings("ignore")
def test_the_cross_check_names_what_it_could_not_ask() -> None:
    lists = read_autocast_lists()
    short = type(lists)(
        **{**lists.by_policy(), "float32": tuple(op for op in lists.float32 if op != "exp")}, source="here"
    )
    done = cross_check(short)
    assert {name for name, _ in done.unasked} == {"exp"} | {name for name, _ in unemulated_ops()}


@pytest.mark.skipif(not hasattr(Tensor, "refine_names"), reason="this torch has no named tensors")
@pytest.mark.filterwarnings("ignore:Named tensors")
def test_named_tensors_are_refused_as_not_known() -> None:
    named = A.refine_names("a", "b")
    with (
        emulate_cuda_autocast(F16),
        pytest.raises(UnknownOpError, match=r"rename\(None\)"),
        refusing_unknown_ops(),
    ):
        named.sum("b")
