from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import Settings, load_settings
from harness.errors import UsageError


def _pyproject(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    folder = _pyproject(tmp_path, "[tool.harness]\nseed = 3\nmax-examples = 4\nworkers = 5\n")
    settings = load_settings(
        {"seed": 1}, directory=folder, environment={"HARNESS_SEED": "2", "HARNESS_MAX_EXAMPLES": "6"}
    )
    assert (settings.seed, settings.max_examples, settings.workers) == (1, 6, 5)
    assert settings.cases_dir == str(tmp_path / Settings().cases_dir)


def test_one_named_subject_displaces_both_defaults(tmp_path: Path) -> None:
    folder = _pyproject(tmp_path, '[tool.harness]\nloss = "a:b"\nstep = "c:d"\nsimilarity = true\n')
    both = load_settings({}, directory=folder, environment={})
    assert (both.loss, both.step, both.similarity) == ("a:b", "c:d", True)
    one = load_settings({"loss": "e:f"}, directory=folder, environment={})
    assert (one.loss, one.step, one.similarity) == ("e:f", None, False)


def test_an_empty_flag_asks_for_one_default_alone(tmp_path: Path) -> None:
    folder = _pyproject(tmp_path, '[tool.harness]\nloss = "a:b"\nstep = "c:d"\nsubject-root = "e"\n')
    only = load_settings({"step": ""}, directory=folder, environment={})
    assert (only.loss, only.step, only.subject_root) == (None, "c:d", str(folder / "e"))
    named = load_settings({"loss": "f:g", "step": ""}, directory=folder, environment={})
    assert (named.loss, named.step) == ("f:g", "c:d")
    from_environment = load_settings({"step": ""}, directory=folder, environment={"HARNESS_STEP": "h:i"})
    assert (from_environment.loss, from_environment.step) == (None, "h:i")
    with pytest.raises(UsageError, match=r"--loss names no loss, and \[tool.harness\]"):
        load_settings({"loss": ""}, directory=_pyproject(tmp_path, "[tool.harness]\n"), environment={})


def test_folders_are_told_from_where_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _pyproject(tmp_path, '[tool.harness]\nloss = "a:b"\nsubject-root = "."\nimages = "pictures"\n')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    settings = load_settings({"cases_dir": "cases"}, environment={"HARNESS_GOLDEN_DIR": "../golden"})
    assert Path(settings.subject_root or "") == folder
    assert Path(settings.images or "") == folder / "pictures"
    assert Path(settings.cases_dir) == inner / "cases"
    assert Path(settings.golden_dir).resolve() == tmp_path / "a" / "golden"
    assert Path(load_settings({}, environment={}).cases_dir) == inner / ".harness" / "cases"
    absolute = load_settings({"images": "/pictures"}, environment={})
    assert absolute.images == "/pictures"


def test_the_truth_comes_with_the_loss(tmp_path: Path) -> None:
    folder = _pyproject(tmp_path, '[tool.harness]\nloss = "a:b"\ntruth = "mse"\n')
    assert load_settings({}, directory=folder, environment={}).truth == "mse"
    assert load_settings({"loss": "e:f"}, directory=folder, environment={}).truth == "auto"
    assert load_settings({"loss": "e:f"}, directory=folder, environment={"HARNESS_TRUTH": "l2"}).truth == "l2"
    assert load_settings({"truth": "l1"}, directory=folder, environment={"HARNESS_TRUTH": "l2"}).truth == "l1"


def test_the_file_is_looked_for_upwards(tmp_path: Path) -> None:
    _pyproject(tmp_path, "[tool.harness]\nseed = 8\n")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert load_settings({}, directory=inner, environment={}).seed == 8


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ("[tool.harness]\nsed = 1\n", {}, "unknown key 'sed'"),
        ("[tool.harness]\nseed = 1.5\n", {}, "not a valid seed"),
        ("[tool.harness]\nloss = 3\n", {}, "not a valid loss"),
        ("[tool.harness\n", {}, "not valid TOML"),
        ("", {"HARNESS_SEED": "many"}, "HARNESS_SEED is 'many'"),
        ("", {"HARNESS_MAX_TIME": "-1"}, "at least 0"),
        ("", {"HARNESS_SIMILARITY": "perhaps"}, "not a valid similarity"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, text: str, environment: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_settings({}, directory=_pyproject(tmp_path, text), environment=environment)
