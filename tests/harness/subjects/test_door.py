from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import SubjectError, UsageError
from harness.subjects.door import load_object
from harness.subjects.import_root import subject_root

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


_PACKAGE = {
    "losses/__init__.py": "from .kinds import KIND\n",
    "losses/kinds.py": "KIND = 'package'\n",
    "losses/terms/__init__.py": "",
    "losses/terms/ssim.py": (
        "from ..kinds import KIND\nfrom . import sibling\nimport losses.kinds\n"
        "class Loss:\n    origin = KIND, sibling.NAME, losses.kinds.KIND is KIND\n"
        "    def __call__(self, x, y):\n        return (x - y).square().mean()\n"
    ),
    "losses/terms/sibling.py": "NAME = 'sibling'\n",
    "plain-folder/loss.py": (
        "from .helper import NAME\nimport other\nfrom .deeper.more import DEEP\n"
        "class Loss:\n    origin = NAME, other.NAME, DEEP\n"
    ),
    "plain-folder/helper.py": "NAME = 'helper'\n",
    "plain-folder/other.py": "NAME = 'other'\n",
    "plain-folder/deeper/more.py": "from ..helper import NAME\nDEEP = NAME + ' from below'\n",
    "test/__init__.py": "STARTED = True\n",
    "test/loss.py": "from . import STARTED as origin\n",
    "twice/up/loss.py": "from ..beside import NAME as origin\n",
    "twice/beside.py": "NAME = 'beside'\n",
    "plain-folder/missing.py": "from .nowhere import x\n",
    "raising/__init__.py": "raise ValueError('in the package')\n",
    "raising/loss.py": "from . import x\n",
}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for name, text in _PACKAGE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "origin"),
    [
        ("losses/terms/ssim.py:Loss.origin", ("package", "sibling", True)),
        ("plain-folder/loss.py:Loss.origin", ("helper", "other", "helper from below")),
        # A package whose name is one of Python's own.
        ("test/loss.py:origin", True),
        ("twice/up/loss.py:origin", "beside"),
    ],
)
@pytest.mark.parametrize("rooted", [False, True])
def test_a_file_with_relative_imports_is_loaded_in_its_package(
    packages: Path, spec: str, origin: object, rooted: bool
) -> None:
    root = None
    if rooted:
        # As with --subject-root: the checkout, or for a plain folder's absolute imports, that folder.
        root = packages / "plain-folder" if spec.startswith("plain") else packages
    for _ in range(2):
        assert load_object(f"{packages}/{spec}", root) == origin


def test_a_file_of_a_package_under_a_root_without_init_files(checkout: Path) -> None:
    (checkout / "gslrm" / "model" / "other.py").write_text("from .utils_losses import SsimLoss\n")
    printed = _in_a_new_process(
        "from harness.subjects.door import load_object;"
        f"c = load_object('gslrm/model/other.py:SsimLoss', {str(checkout)!r}); print(c.origin, c.__module__)"
    )
    assert printed == "checkout gslrm.model.utils_losses"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("plain-folder/missing.py:x", r"the module '\.nowhere' is missing"),
        ("raising/loss.py:x", "raised ValueError: in the package"),
    ],
)
def test_a_relative_import_that_fails_is_one_sentence(packages: Path, spec: str, words: str) -> None:
    with pytest.raises(SubjectError, match=words):
        load_object(f"{packages}/{spec}")


def test_a_loss_with_relative_imports_is_checked(packages: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "check", "--loss", "losses/terms/ssim.py:Loss", "--truth", "mse"),
            *("--property", "range", "--precision", "float32", "--max-examples", "5", "--workers", "2"),
            *("--cases-dir", str(packages / "cases")),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=packages,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 held" in done.stdout
