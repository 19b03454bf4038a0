from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import SubjectError, UsageError
from harness.subjects.door import load_object, subject_root

# A FaceLift checkout's own shape: gslrm/ without __init__.py, and a trainer that imports from it.
_TREE = {
    "gslrm/model/utils_losses.py": (
        "class SsimLoss:\n    origin = 'checkout'\n"
        "    def __call__(self, x, y):\n        return (x - y).square().mean()\n"
    ),
    "gslrm/model/utils_train.py": "def helper():\n    return 'checkout helper'\n",
    "train_gslrm.py": (
        "from gslrm.model.utils_train import helper\n"
        "import gslrm.model.utils_losses as losses\n"
        "class GSLRMTrainer:\n"
        "    def __init__(self):\n        raise RuntimeError('needs a GPU and a data set')\n"
        "    def optimizer_step(self, result):\n"
        "        runtime = self.config.training.runtime\n"
        "        if (self.fwdbwd_pass_step + 1) % runtime.get('grad_accum_steps', 1) != 0:\n            return\n"
        "        self.scaler.step(self.optimizer)\n"
        "        self.scaler.update()\n"
        "        self.param_update_step += 1\n"
        "        self.optimizer.zero_grad()\n"
    ),
    "wandb/run-1/files/code/x.py": "",
    "needs.py": "import a_module_that_is_not_there\n",
    "broken.py": "raise ValueError('on import')\n",
    "script.py": "import sys\nsys.exit(3)\n",
}


@pytest.fixture(autouse=True)
def _imports_are_put_back() -> Iterator[None]:
    """A root is entered for the rest of the process, which here is other tests' process too."""
    modules, path, finders = dict(sys.modules), list(sys.path), list(sys.meta_path)
    yield
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)
    sys.path[:], sys.meta_path[:] = path, finders


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in _TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def _in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("already", ["pass;", "import gslrm.model.utils_losses;"])
def test_a_namespace_package_of_the_root_beats_the_installed_one(checkout: Path, already: str) -> None:
    printed = _in_a_new_process(
        f"{already} from harness.subjects.door import load_object;"
        f"t = load_object('train_gslrm.py:GSLRMTrainer', {str(checkout)!r});"
        "import sys; m = sys.modules[t.__module__]; print(m.helper(), m.losses.SsimLoss.origin)"
    )
    assert printed == "checkout helper checkout"


def test_a_dotted_spec_is_looked_for_in_the_root(checkout: Path) -> None:
    printed = _in_a_new_process(
        "from harness.subjects.door import load_object;"
        f"print(load_object('gslrm.model.utils_losses:SsimLoss', {str(checkout)!r}).origin)"
    )
    assert printed == "checkout"


def test_a_files_own_folder_is_its_root(checkout: Path) -> None:
    printed = _in_a_new_process(
        "from harness.subjects.door import load_object;"
        f"print(load_object({str(checkout / 'train_gslrm.py')!r} + ':helper')())"
    )
    assert printed == "checkout helper"


def test_the_root_is_left_again(checkout: Path) -> None:
    import gslrm.model.utils_losses as installed

    path, finders = list(sys.path), list(sys.meta_path)
    with subject_root(checkout):
        import gslrm.model.utils_losses as inside

        assert inside.SsimLoss.origin == "checkout"  # type: ignore[attr-defined]
    import gslrm.model.utils_losses as after

    assert after is installed
    assert (sys.path, sys.meta_path) == (path, finders)


def test_folders_of_logs_shadow_nothing(checkout: Path) -> None:
    with subject_root(checkout), pytest.raises(ModuleNotFoundError):
        import wandb.run  # noqa: F401


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("needs.py:x", SubjectError, "'a_module_that_is_not_there' is missing"),
        ("broken.py:x", SubjectError, "raised ValueError: on import"),
        ("script.py:x", SubjectError, "raised SystemExit: 3"),
        ("nowhere.py:x", SubjectError, "no file nowhere.py"),
        ("gslrm.nowhere:x", SubjectError, "'gslrm.nowhere' is missing"),
        ("gslrm.model.utils_losses:SsimLos", SubjectError, "Did you mean 'SsimLoss'"),
        ("gslrm.model.utils_losses", UsageError, "write package.module:name"),
        (":x", UsageError, "write package.module:name"),
    ],
)
def test_what_can_not_be_loaded_is_named(checkout: Path, spec: str, error: type[Exception], words: str) -> None:
    if spec.endswith(".py:x") and not spec.startswith("nowhere"):
        spec = f"{checkout}/{spec}"
    with pytest.raises(error, match=words):
        load_object(spec)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        load_object("gslrm.model.utils_losses:SsimLoss", tmp_path / "nowhere")


def test_a_trainer_is_checked_as_it_is(checkout: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "check", "--step", "train_gslrm.py:GSLRMTrainer"),
            *("--subject-root", str(checkout), "--property", "never-raises", "--precision", "float32"),
            *("--max-examples", "5", "--workers", "1", "--cases-dir", str(checkout / "cases")),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 held" in done.stdout
