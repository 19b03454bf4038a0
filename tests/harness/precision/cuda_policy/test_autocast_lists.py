"""The reader of torch's autocast header: what it reads from three versions, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.precision.cuda_policy.autocast_lists import (
    APART,
    AutocastLists,
    parse_autocast_header,
    read_autocast_lists,
    with_apart,
)
from harness.precision.cuda_policy.coverage import unlike_dispatcher
from harness.precision.cuda_policy.dispatcher import autocast_ops
from harness.precision.cuda_policy.errors import HeaderNotUnderstoodError
from harness.precision.cuda_policy.recurrent import CUDNN_OP

# Op names that the macros of three released headers list, without the headers' text.
RECORDED = json.loads((Path(__file__).parent / "autocast_lists_by_version.json").read_text())
MACROS = {
    "lower_precision": "AT_FORALL_LOWER_PRECISION_FP",
    "float32": "AT_FORALL_FP32",
    "float32_unless_dtype": "AT_FORALL_FP32_SET_OPT_DTYPE",
    "widest": "AT_FORALL_PROMOTE",
}
POLICIES = "lower_precision_fp = 0, fp32, fp32_set_opt_dtype, fp32_append_dtype, // why\n promote,"


def header_of(ops: dict[str, str], *, misspelt: bool = False) -> str:
    """A header in torch's form that lists these ops."""
    backends = "AT_FORALL_DEPRECATED_AUTOCAST_" + ("BAKCNEDS" if misspelt else "BACKENDS")
    text = f"#define {backends}(_) \\\n  _(cpu, at::kCPU) \\\n  _(xpu, at::kXPU)\n{backends}(DECLARE)\n"
    text += f"enum class CastPolicy : uint8_t {{ {POLICIES} }};\n"
    for policy, macro in MACROS.items():
        entries = " \\\n  ".join(f"_({', '.join(op.split('.'))})" for op in ops[policy].split())
        text += f"/* {macro} */\n#define {macro}(_) \\\n  {entries}\n\n"
    appended = " \\\n  ".join(
        f'_(ADD_NS(norm), "{op}", \\\n'
        "    Tensor(const Tensor&, const std::optional<Scalar>&, IntArrayRef, bool), \\\n"
        "    Tensor( \\\n const Tensor&, const std::optional<Scalar>&, IntArrayRef, bool, ScalarType), \\\n"
        "    fp32_append_dtype)"
        for op in ops["float32_appended"].split()
    )
    return text + f"#define AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(_) \\\n  {appended}\n"


GOOD = header_of(RECORDED["2.13.0"]["ops"])


@pytest.mark.parametrize("version", sorted(RECORDED))
def test_reads_every_entry_of_a_version(version: str) -> None:
    ops = RECORDED[version]["ops"]
    read = parse_autocast_header(header_of(ops, misspelt=version == "2.6.0")).by_policy()
    assert read.pop("banned") == ()
    assert {k: " ".join(v) for k, v in read.items()} == ops


def test_versions_differ_where_they_should() -> None:
    listed = {v: set(" ".join(r["ops"].values()).split()) for v, r in RECORDED.items()}
    assert listed["2.13.0"] - listed["2.6.0"] == {"rms_norm"}
    assert listed["2.6.0"] == listed["2.9.0"]
    assert "softmax.Dimname" in listed["2.9.0"] - listed["2.13.0"]


@pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="the counts are those of torch 2.13")
def test_installed_header_has_the_known_counts() -> None:
    counts = {policy: len(ops) for policy, ops in read_autocast_lists().by_policy().items()}
    assert counts == {
        "lower_precision": 35,
        "float32": 59,
        "float32_unless_dtype": 11,
        "float32_appended": 2,
        "widest": 11,
        "banned": 1,
    }


def test_ops_apart_are_added_where_this_torch_has_them() -> None:
    lists = parse_autocast_header(GOOD)
    assert with_apart(lists, frozenset()) == lists
    both = with_apart(lists, frozenset({"cudnn_convolution", "linalg_matrix_sqrth", "mm"}))
    assert both.lower_precision == (*lists.lower_precision, "cudnn_convolution")
    assert both.float32 == (*lists.float32, "linalg_matrix_sqrth")
    # A header that comes to list one itself has the last word.
    listed = parse_autocast_header(GOOD.replace("_(conv2d)", "_(conv2d) _(linalg_matrix_sqrth)"))
    assert with_apart(listed, frozenset({"linalg_matrix_sqrth"})) == listed
    assert APART["banned"] == ("binary_cross_entropy",)


def test_installed_header_agrees_with_the_dispatcher() -> None:
    lists = read_autocast_lists()
    assert unlike_dispatcher(lists) == {}
    assert set(lists.policy_of()) == autocast_ops("cuda") - {CUDNN_OP}


def test_a_header_of_another_version_is_told_from_the_dispatcher() -> None:
    other = replace(read_autocast_lists(), source="there")
    moved = ["conv2d_new" if op == "conv2d" else op for op in other.lower_precision]
    unlike = unlike_dispatcher(replace(other, lower_precision=(*moved, "add.Tensor")))
    assert {name: reason.split(",")[-1].strip() for name, reason in unlike.items()} == {
        "add.Tensor": "but the dispatcher has no CUDA autocast kernel for it",
        "conv2d": "which torch's header doesn't list",
        "conv2d_new": "but this torch has no such op",
    }


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("_(conv2d)", "_(conv2d, a, b)", r"entry _\(conv2d, a, b\)"),
        ("_(conv2d)", "_(conv2d*)", r"entry _\(conv2d\*\)"),
        ("_(conv2d)", "KERNEL(conv2d)", "which is no entry"),
        ("_(conv2d)", "_(conv1d)", "conv1d is listed under lower_precision and again"),
        ("_(acos)", "_(conv2d)", "conv2d is listed under lower_precision and again under float32"),
        ("AT_FORALL_FP32(", "AT_FORALL_FP33(", "AT_FORALL_FP32 are missing"),
        ("enum class", "#define AT_FORALL_FP8(_) \\\n  _(mm)\nenum class", "AT_FORALL_FP8 are new"),
        ("fp32, ", "fp32, fp8, ", "policies differ from the known five by fp8"),
        ("enum class CastPolicy", "enum class Policy", "enum CastPolicy is missing"),
        ("fp32_append_dtype)", "fp32)", "AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE has the entry"),
        ("bool, ScalarType)", "ScalarType, bool)", "AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE has the entry"),
        ("ADD_NS(norm)", "ADD_NS(sum)", "AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE has the entry"),
    ],
)
def test_refuses_what_it_does_not_understand(old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    with pytest.raises(HeaderNotUnderstoodError, match=complaint) as raised:
        parse_autocast_header(GOOD.replace(old, new, 1), source="torch 9")
    assert "torch 9" in str(raised.value)
    assert "Teach autocast_lists.py" in str(raised.value)


def test_a_missing_header_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(HeaderNotUnderstoodError, match="install torch from a wheel"):
        read_autocast_lists()


def test_an_unreadable_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary.h").write_bytes(b"\xff\xfe\x00")
    for name in ("binary.h", "."):
        with pytest.raises(HeaderNotUnderstoodError, match="Cannot read the CUDA autocast lists from"):
            read_autocast_lists(tmp_path / name)


def test_lists_are_frozen_and_know_their_source() -> None:
    lists = parse_autocast_header(GOOD, source="here")
    assert isinstance(lists, AutocastLists)
    assert lists.source == "here"
    assert lists.policy_of()["pow.Tensor_Scalar"] == "float32"
    with pytest.raises(AttributeError):
        lists.source = "there"  # type: ignore[misc]
