"""Reading within limits: what is refused, in one line, and that it is refused before it is held."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import harness.cases.image_folder as image_folder
from harness.cases.descriptors import MOST_ELEMENTS, LossCase, Mask, MaskKind
from harness.cases.image_folder import ImageFolder
from harness.cases.serialization import case_from_json, case_to_json
from harness.cli.main import main
from harness.config import Settings
from harness.engine.plan import Task
from harness.errors import ExitCode, UsageError
from harness.files import LARGEST_TEXT, json_line, json_value, read_bytes, read_json, read_toml, shown
from harness.findings.case_file import CaseFile
from harness.goldens.suite import read_suite
from harness.subject_spec import SubjectKind


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ("[" * 100_000, "nested more than"),
        ("[" * 70 + "]" * 70, "nested more than"),
        ("9" * 5000, "beyond 64 bits"),
        ("18446744073709551617", "beyond 64 bits"),
        ("NaN", "not finite"),
        ("1e999", "not finite"),
        (r'"\ud800"', "a character that no text has"),
        (r'"\u0000"', "a character that no text has"),
    ],
)
def test_json_that_is_none_or_hostile_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["a = [", "a = " + "9" * 5000, "a = " + "[" * 5000, ".".join("a" * 9000) + " = 1"])
def test_toml_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UsageError, match=r"a\.toml (is not valid TOML|has a line)"):
        read_toml(tmp_path / "a.toml")


def test_only_regular_files_of_a_stated_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)  # it takes no room on the disk
    cases = {
        "pipe": "no regular file", "zero": "no regular file", "": "regular file|directory", "loop": "can't be read",
        "none": "No such file", "x" * 300: "can't be read", "a\0": "no file has such a name",
        "large": "has 1099511627776 bytes",
    }  # fmt: skip
    for name, words in cases.items():
        with pytest.raises(UsageError, match=words):
            read_bytes(tmp_path / name, LARGEST_TEXT)


@pytest.mark.parametrize(
    "value",
    [{"a": [1.5, (math.inf, -math.inf)], "b": {"c": math.nan}}, {"a": [1, "x", None]}, MappingProxyType({"a": 1})],
)
def test_a_line_of_json_holds_what_is_not_finite_as_text(value: Any) -> None:
    line = json_line(value)
    assert "\n" not in line
    assert json.loads(line) == json_value(value)
    with pytest.raises(TypeError):
        json_line({"a": object()})


def test_values_are_shown_in_short() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 10_000_000)) < 150
    assert shown(10**5000).startswith("a int that is too large")


def test_a_case_larger_than_any_memory_is_the_harness_own_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = LossCase(4096, 4096, 64, 64)
    path = tmp_path / "case.json"
    task = Task(SubjectKind.LOSS, "range", "float32")
    CaseFile.of(Settings(loss="gslrm.model.utils_losses:MaskedSsimLoss"), task, case).write(path)
    assert main(["replay", str(path)]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert f"has {case.elements} elements, but at most {MOST_ELEMENTS}" in said
    assert said.count("\n") == 1


def test_products_are_bounded_before_anything_is_built() -> None:
    fits = LossCase(1024, 1024, mask=Mask(MaskKind.DISC, 10**6))
    assert case_from_json(case_to_json(fits), "x") == fits
    for large in (LossCase(1024, 1024, 2), LossCase(11, 11, 64, 64, mask=Mask(MaskKind.BLOB, 121))):
        with pytest.raises(UsageError, match=r"x has \d+ (elements|drawn pixels), but at most"):
            case_from_json(case_to_json(large), "x")
    program = {"kind": "step", "accumulation": 1, "scale_exponent": 3, "growth_interval": 2, "actions": ["good"] * 5000}
    with pytest.raises(UsageError, match="5000 entries"):
        case_from_json(program, "x")


def test_a_case_outside_its_propertys_claim_convicts_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "case.json"
    settings = Settings(loss="gslrm.model.utils_losses:MaskedSsimLoss")
    CaseFile.of(settings, Task(SubjectKind.LOSS, "identity", "float32"), LossCase()).write(path)
    document = json.loads(path.read_text())
    document["case"]["perturbation"]["kind"] = "noise"
    path.write_text(json.dumps(document))
    assert main(["replay", str(path)]) == ExitCode.USAGE
    assert "'identity' says nothing of a perturbation of kind 'noise'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", ".hidden", "a\\\\b", "x" * 101, " "])
def test_goldens_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    group = f'[group."{name}"]\nkind = "function"\nsubject = "a:b"\nprecisions = ["float32"]\n'
    (tmp_path / "suite.toml").write_text(group)
    with pytest.raises(UsageError, match="can't be part of a file's name"):
        read_suite(tmp_path)


def test_pictures_that_are_too_large_deep_or_of_other_formats_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "program.eps")
    (tmp_path / "program.eps").rename(tmp_path / "program.png")  # Pillow would start Ghostscript
    Image.new("1", (4097, 4097)).save(tmp_path / "large.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    os.mkfifo(tmp_path / "pipe.png")
    Image.new("P", (20, 20)).save(tmp_path / "palette.png")
    Image.new("LA", (20, 20)).save(tmp_path / "grey.png")
    folder = ImageFolder(tmp_path)
    for name, words in {
        "deep.png": "more than 8 bits",
        "program.png": "can't be read as a picture",
        "large.png": "4097×4097; at most",
        "bomb.png": "too large|at most",
        "pipe.png": "no regular file",
    }.items():
        with pytest.raises(UsageError, match=words):
            folder.load(name)
    monkeypatch.setattr(image_folder, "_KEPT_PIXELS", 500)
    for name in ("palette.png", "grey.png"):
        assert folder.load(name)[0].shape == (20, 20, 3)
    assert len(folder._loaded) == 1, "pictures are kept within limits"
