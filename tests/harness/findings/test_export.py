from __future__ import annotations

import base64
import zlib
from math import inf, nan

import pytest
import torch

from harness.cases.descriptors import LossCase, Perturbation, PerturbationKind
from harness.config import Settings
from harness.engine.plan import Task
from harness.findings.case_file import CaseFile
from harness.findings.export.literals import arguments_source, tensor_source
from harness.findings.export.script import Draft, with_header
from harness.subject_spec import SubjectKind

_RANDOM = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
_TENSORS = {
    "constant": torch.full((1, 3, 11, 11), 0.1),
    "written": _RANDOM,
    "half": _RANDOM.half(),
    "brain half": _RANDOM.bfloat16(),
    "double": _RANDOM.double() / 3,
    "whole numbers": torch.tensor([[[[0.0, 1.0, 2.0, -0.0]]]]),
    "a zero with a sign": torch.tensor([[0.0, -0.0]]),
    "smallest": torch.tensor([1e-45, 3.4028235e38, 1.17549435e-38]),
    "not finite": torch.tensor([[[[nan, inf, -inf, 0.5]]]]),
    "one plane": _RANDOM[:, :1].repeat(1, 3, 1, 1),
    "mask": (_RANDOM[:, :1] > 0.5).float(),
    "bytes": (_RANDOM * 255).to(torch.uint8),
    "large": torch.rand(2, 3, 48, 96, generator=torch.Generator().manual_seed(1)),
    "large half": torch.rand(2, 3, 48, 96).half(),
    "channels last": _RANDOM.to(memory_format=torch.channels_last),
    "empty": torch.empty(1, 3, 0, 4),
}


@pytest.mark.parametrize("name", _TENSORS)
def test_a_tensor_is_built_again_to_the_bit(name: str) -> None:
    tensor, made = _TENSORS[name], {}
    source = "\n".join(tensor_source("made", tensor))
    exec(source, {"torch": torch, "base64": base64, "zlib": zlib, "nan": nan, "inf": inf}, made)
    built = made["made"]
    assert (built.dtype, built.shape, built.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
    numbers = {"nan": 7.0} if tensor.is_floating_point() else {}
    one, other = (t.nan_to_num(**numbers) if numbers else t for t in (built, tensor))
    assert torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
    assert max(map(len, source.splitlines())) <= 120


def test_nothing_of_a_case_file_becomes_code() -> None:
    """A file's words stand in comments of one line each, and its names in quotes."""
    assert arguments_source({"size": 11, "name": "a'b"}) == 'size=11, name="a\'b"'
    hostile = arguments_source({"x); import os; (": 1})
    assert hostile == "**{'x); import os; (': 1}"
    task = Task(SubjectKind.LOSS, "range", "float32")
    case = LossCase(perturbation=Perturbation(PerturbationKind.NOISE))
    message = 'a\nimport os\r\n"""\u2028import sys\x0b'
    file = CaseFile.of(Settings(loss="m:L"), task, case, message)
    text = with_header(file, Draft("body = 1"), "printed\nimport os", reproduces=False)
    code = [line for line in text.split("\n") if line and not line.startswith("#")]
    assert code == ["body = 1"]
    compile(text, "case.py", "exec")
    assert "did NOT show the failure" in text
