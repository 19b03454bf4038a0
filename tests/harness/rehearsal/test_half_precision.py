"""A script in the other half precision, and a large model in float16."""

from __future__ import annotations

from pathlib import Path

from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Script
from harness.rehearsal.processes import Processes
from harness.rehearsal.rehearsal import rehearse
from tests.harness.rehearsal.recipe import RIGHT, Rehearse, line_of

_LARGE = """\
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode as mode

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 600, 1), torch.nn.Conv2d(600, 600, 1))
        self.register_full_backward_hook(lambda *_: self.look())

    def look(self):
        assert type(mode()).__name__ == "HalfProducts"

    def forward(self, x):
        self.look()
        return self.layers(x)

model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
scaler = torch.amp.GradScaler("cpu")
for _ in range(100):
    with torch.autocast("cpu", dtype=torch.float16):
        loss = model(torch.ones(2, 3, 4, 4)).square().mean()
    optimizer.zero_grad()
    assert mode() is None
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""


def test_a_large_model_in_float16_is_computed_by_quicker_kernels(rehearsed: Rehearse) -> None:
    found = rehearsed(_LARGE, (Fault.NAN_OUTPUT,))
    assert found.findings == []
    assert dict(found.table)["a NaN loss"] == "the scaler skips the step"


def test_another_half_precision(processes: Processes, tmp_path: Path) -> None:
    """With bfloat16 a scaler is off, and a right loop that looks at the norm alone is not right any more."""
    path = tmp_path / "train.py"
    path.write_text(RIGHT)
    faults = (Fault.NAN_GRADIENT, Fault.INF_GRADIENT)
    script = Script(str(path))
    found = rehearse(script, faults, pretend_cuda=False, budget=300.0, processes=processes, half="bfloat16")
    table = dict(found.table)
    assert table["autocast"] == "bfloat16, where the script asks for float16"
    assert table["a gradient scaler"] == "none, or off"
    assert {(one.rule, one.where) for one in found.findings} == {
        ("nonfinite-moves-nothing", line_of(RIGHT, "scaler.step(optimizer)"))
    }
    # And back: a script for bfloat16, its scaler off, as float16 would have it.
    path.write_text(RIGHT.replace("torch.float16", "torch.bfloat16").replace("1024.0)", "1024.0, enabled=False)"))
    found = rehearse(script, faults, pretend_cuda=True, budget=300.0, processes=processes, half="float16")
    table = dict(found.table)
    assert table["autocast"] == "float16, where the script asks for bfloat16"
    assert (table["a gradient scaler"], table["NaN in one group's gradients"]) == ("on", "the scaler skips the step")
    assert found.findings == []


def test_another_half_precision_leaves_what_the_script_casts_itself(processes: Processes, tmp_path: Path) -> None:
    """As the guide and ``--help`` say."""
    cast = "            assert (x @ x.t()).dtype == torch.bfloat16\n"
    cast += "            assert (x.half().dtype, x.to(torch.float16).dtype) == (torch.float16, torch.float16)\n"
    cast += "            assert nn.Linear(1, 1).half().weight.dtype == torch.float16\n"
    path = tmp_path / "train.py"
    path.write_text(RIGHT.replace("            prediction = ", cast + "            prediction = "))
    script = Script(str(path))
    found = rehearse(script, (Fault.HUGE_NORM,), pretend_cuda=True, budget=300.0, processes=processes, half="bfloat16")
    assert found.findings == []
    assert dict(found.table)["autocast"] == "bfloat16, where the script asks for float16"
