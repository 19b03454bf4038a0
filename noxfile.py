"""CI sessions: each installs the project and calls a command that a person can also run by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "tests", "check", "golden"]
nox.options.reuse_existing_virtualenvs = True

# What `versions` tries: every torch here has a wheel for every Python here, so no pair is left out.
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
TORCHES = ("2.6.0", "2.9.1", "2.13.0", "2.14.1")
# The default loss by its Triton kernel, on twice as many cases as usual.
_TRITON_CHECK = (
    "--loss", "--argument", "path=triton", "--precision", "float32",
    "--property", "accuracy", "--property", "gradient-accuracy", "--max-examples", "200",
)  # fmt: skip
# torch 2.6.0 demands sympy 1.13.1 to the letter: what torch itself requires is left to each torch.
_TORCHS_OWN = {
    "torch", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "sympy", "typing-extensions",
}  # fmt: skip

# Libraries whose loops are rehearsed, without what else they ask for: servers, plots, downloads.
_TRAINERS = (
    "pytorch-lightning", "mmengine", "addict", "termcolor", "yapf", "platformdirs", "opencv-python-headless",
)  # fmt: skip
# cosmic-ray makes the mutants; its servers, database and command line, which ask for much else, aren't used.
_MUTANTS = ("cosmic-ray>=8.4", "parso", "stevedore")


def _install(session: nox.Session, extras: str, constraints: str = "constraints.txt") -> None:
    session.install("-c", constraints, "-e", f".[{extras}]")


def _constraints_for(lines: Iterable[str], torch: str) -> str:
    """``constraints.txt`` for another torch: without torch's pin and those of what torch requires."""
    kept = []
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if name and re.sub(r"[-_.]+", "-", name[0]).lower() not in _TORCHS_OWN:
            kept.append(line)
    return "\n".join([*kept, f"torch=={torch}", ""])


@nox.session
def tests(session: nox.Session) -> None:
    """python -m pytest -n auto"""
    _install(session, "test")
    session.install("-c", "constraints.txt", "--no-deps", *_TRAINERS)
    session.install("-c", "constraints.txt", "--no-deps", *_MUTANTS)
    session.run("python", "-m", "pytest", "-n", "auto", *session.posargs)


@nox.session
@nox.parametrize(
    "python,torch",
    [nox.param(p, t, tags=[f"python-{p}", f"torch-{t}"]) for p in PYTHONS for t in TORCHES],
)
def versions(session: nox.Session, torch: str) -> None:
    """python -m pytest -n auto, with another Python and torch; one pair by its name, or several by tag: -t torch-2.6.0

    From an index that serves CUDA builds, each pair is several GB.
    """
    constraints = Path(session.create_tmp()) / "constraints.txt"
    constraints.write_text(_constraints_for(Path("constraints.txt").read_text().splitlines(), torch))
    # First torch alone: the project asks for no build in particular, and takes the one that is there.
    session.install(f"torch=={torch}")
    _install(session, "test", str(constraints))
    session.run("python", "-m", "harness", "doctor")
    session.run("python", "-m", "pytest", "-n", "auto", *session.posargs)


@nox.session
def cuda(session: nox.Session) -> None:
    """python -m harness cuda --out DIR: all that needs a GPU, everything written under one folder"""
    _install(session, "test")
    session.run("python", "-m", "harness", "cuda", *(session.posargs or ["--out", "cuda-session"]))


@nox.session
def check(session: nox.Session) -> None:
    """python -m harness check && python -m harness check --step gslrm.training.amp_step:AmpStep"""
    _install(session, "test")
    session.run("python", "-m", "harness", "check", *session.posargs)
    if not session.posargs:
        # The default training has this step in it; fed losses, it can be held to exact numbers.
        session.run("python", "-m", "harness", "check", "--step", "gslrm.training.amp_step:AmpStep")


@nox.session
def selfcheck(session: nox.Session) -> None:
    """python -m harness selfcheck: known faults and right implementations, from tests/catalogue"""
    _install(session, "test")
    session.run("python", "-m", "harness", "selfcheck", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """python -m tests.mutation: mutants of gslrm's losses and step, and of the harness' oracle and properties"""
    _install(session, "test")
    session.install("-c", "constraints.txt", "--no-deps", *_MUTANTS)
    session.run("python", "-m", "tests.mutation", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """python -m harness conformance: public packages, from conformance/subjects.toml"""
    _install(session, "conformance")
    # piq asks for torchvision, whose build must be torch's own, for its networks: conformance/piq_ssim.py does without.
    # mmengine asks for OpenCV, which its optimizers don't use. fused-ssim is built from its sources, on a GPU.
    alone = ("piq", "mmengine", "addict", "termcolor", "yapf", "platformdirs")
    session.install("-c", "constraints.txt", "--no-deps", *alone)
    session.run("python", "-m", "harness", "conformance", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """python -m pytest tests/harness/fuzzing, with Ray: a campaign on a local cluster, a node of which is lost"""
    _install(session, "test,cluster")
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/harness/fuzzing"]))


@nox.session
def triton(session: nox.Session) -> None:
    """TRITON_INTERPRET=1 python -m pytest tests/gslrm/model -k triton, and the check of that path: no GPU is needed"""
    _install(session, "test")
    # Not pinned: a torch built for CUDA comes with its own.
    session.install("triton>=3.4")
    interpreted = {"TRITON_INTERPRET": "1"}
    session.run("python", "-m", "pytest", "-n", "auto", "tests/gslrm/model", "-k", "triton", env=interpreted)
    session.run("python", "-m", "harness", "check", *_TRITON_CHECK, *session.posargs, env=interpreted)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff check . && ruff format --check . && mypy"""
    _install(session, "test,lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def golden(session: nox.Session) -> None:
    """python -m harness golden check"""
    _install(session, "test")
    session.run("python", "-m", "harness", "golden", "check", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """mkdocs build --strict"""
    project = nox.project.load_toml("pyproject.toml")["project"]
    # Not the project itself: the pages that its code tells are kept, and a test holds them to it.
    session.install("-c", "constraints.txt", *project["optional-dependencies"]["docs"])
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})
