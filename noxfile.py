"""CI sessions: each installs the project and calls a command that a person can also run by hand."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "tests", "check", "golden"]
nox.options.reuse_existing_virtualenvs = True


def _install(session: nox.Session, extras: str) -> None:
    session.install("-c", "constraints.txt", "-e", f".[{extras}]")


@nox.session
def tests(session: nox.Session) -> None:
    """python -m pytest -n auto"""
    _install(session, "test")
    session.run("python", "-m", "pytest", "-n", "auto", *session.posargs)


@nox.session
def check(session: nox.Session) -> None:
    """python -m harness check && python -m harness check --step gslrm.training.amp_step:AmpStep"""
    _install(session, "test")
    session.run("python", "-m", "harness", "check", *session.posargs)
    if not session.posargs:
        # The default training has this step in it; fed losses, it can be held to exact numbers.
        session.run("python", "-m", "harness", "check", "--step", "gslrm.training.amp_step:AmpStep")


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
