"""``python docs/generate.py``: write the pages of the reference that are told by the code; a test holds them to it."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

FOLDER = Path(__file__).parent / "reference"
_PRECEDENCE = """\
A setting is a flag, else an environment variable, else a key under `[tool.harness]` in the nearest `pyproject.toml`,
else its default. A folder in `pyproject.toml` is told from there; one in a flag or variable, from the working folder.
With a loss or step named by flag or variable, the default for the other, and what is said of the default, don't apply.
"""


def pages() -> dict[str, str]:
    """Every generated page by its file's name."""
    return {
        "commands.md": "\n".join(_commands()),
        "settings.md": "\n".join(_settings()),
        "precisions.md": "\n".join(_precisions()),
        "properties.md": "\n".join(_properties()),
        "definitions.md": "\n".join(_definitions()),
        "pretended-cuda-uses.md": "\n".join(_pretended_cuda()),
    }


def _commands() -> Iterator[str]:
    from harness.cli.main import command_line

    yield "# Commands\n"
    (subcommands,) = (a for a in command_line()._actions if isinstance(a, argparse._SubParsersAction))
    helps = {choice.dest: choice.help for choice in subcommands._choices_actions}
    for name, parser in subcommands.choices.items():
        yield from _command(f"harness {name}", parser, helps[name] or "")
    yield from _command("pytest", _pytest_options(), "What the pytest plugin adds: the properties and goldens as tests")


def _pytest_options() -> argparse.ArgumentParser:
    """The plugin's options, as a parser of their own."""
    from harness.plugin import pytest_addoption

    class Options:
        """What the plugin sees of pytest's parser."""

        def __init__(self) -> None:
            self.parser = argparse.ArgumentParser(add_help=False)

        def getgroup(self, name: str, description: str = "") -> Options:
            return self

        def addoption(self, *names: str, **attributes: Any) -> None:
            self.parser.add_argument(*names, **attributes)

    options = Options()
    pytest_addoption(cast(Any, options))
    return options.parser


def _command(name: str, parser: argparse.ArgumentParser, help_: str) -> Iterator[str]:
    yield f"## `{name}`\n"
    yield _sentence(parser.description or help_) + "\n"
    rows = [a for a in parser._actions if not isinstance(a, (argparse._HelpAction, argparse._SubParsersAction))]
    if rows:
        yield "| option | |\n|---|---|"
    for action in rows:
        value = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ())
        if action.nargs == "?" and value and action.option_strings:
            value = f"[{value}]"
        takes_none = action.nargs == 0
        shown = ", ".join(action.option_strings) + ("" if takes_none or not value else f" {value}")
        yield f"| `{(shown or value).strip()}` | {_cell(action.help or '')} |"
    yield ""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help for choice in action._choices_actions}
            for inner, inner_parser in action.choices.items():
                yield from _command(f"{name} {inner}", inner_parser, helps.get(inner) or "")


def _settings() -> Iterator[str]:
    from harness.config import Settings

    yield "# Settings\n"
    yield _PRECEDENCE
    told = _attributes(Settings)
    yield "| key | variable | default | |\n|---|---|---|---|"
    for field in dataclasses.fields(Settings):
        default = getattr(Settings(), field.name)
        shown = (
            "" if default in (None, (), {}) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        )
        variable = f"HARNESS_{field.name.upper()}"
        yield f"| `{field.name.replace('_', '-')}` | `{variable}` | {shown} | {_cell(told[field.name])} |"
    yield ""


def _attributes(cls: type) -> dict[str, str]:
    """What the class' docstring says of each attribute."""
    text = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    told: dict[str, str] = {}
    for names, said in re.findall(r"^    (\S[^:]*): (.*(?:\n        .*)*)", text, re.MULTILINE):
        for name in names.split(", "):
            told[name] = " ".join(said.split())
    return told


def _precisions() -> Iterator[str]:
    from harness.precision import PRECISIONS

    yield "# Precisions\n"
    yield "`--precision NAME` runs one alone; without it, all run that this machine has.\n"
    yield "| name | tensors on | a loss's inputs in | autocast | for |\n|---|---|---|---|---|"
    for one in PRECISIONS:
        device = {"cpu": "the CPU", "cuda": "a GPU"}[one.device]
        subjects = "losses and steps" if one.applies_to_steps else "losses"
        inputs = str(one.input_dtype).removeprefix("torch.")
        yield f"| `{one.name}` | {device} | {inputs} | {one.autocast_words} | {subjects} |"
    yield ""


def _properties() -> Iterator[str]:
    from harness.kinds.registry import KINDS

    yield "# Properties\n"
    yield "`harness check --property NAME` runs one alone. A claim is the docstring of the function that tests it.\n"
    seen: set[str] = set()
    for kind in sorted(KINDS, key=lambda kind: kind.role.value):
        alike = [other for other in KINDS if other.role is kind.role and other.properties == kind.properties]
        rows = [row for row in kind.properties if f"{kind.role.value} {row.name}" not in seen]
        if not rows:
            continue
        yield f"## Of a {kind.name if len(alike) == 1 else kind.role.value}\n"
        yield "| property | claim |\n|---|---|"
        for row in rows:
            seen.add(f"{kind.role.value} {row.name}")
            yield f"| `{row.name}` | {_cell(row.claim)} |"
        yield ""


def _definitions() -> Iterator[str]:
    from harness.oracle.definitions import DEFINITIONS

    yield "# Definitions\n"
    yield "What a loss can be held to: `--truth NAME`. Each has a float64 truth of its own in `harness/oracle`.\n"
    yield "| name | the loss is | takes | range | smallest side |\n|---|---|---|---|---|"
    for one in DEFINITIONS.values():
        takes = "points" if one.on_points else "images"
        bound = "from 0 up" if one.upper == float("inf") else f"0 to {one.upper:g}"
        yield f"| `{one.name}` | {_cell(one.formula)} | {takes} | {bound} | {one.smallest_side} |"
    yield ""


def _pretended_cuda() -> Iterator[str]:
    sys.path.insert(0, str(FOLDER.parents[1]))
    try:
        from tests.harness.pretence.uses import BY_TOPIC
    finally:
        sys.path.pop(0)
    yield "# Uses of CUDA that are tried\n"
    yield "A test runs each in [the pretence](pretended-cuda.md) and asks whether it does what it does on a GPU.\n"
    for topic, uses in BY_TOPIC.items():
        yield f"## {topic}\n"
        yield "\n".join(f"- `{call}`" for call in dict.fromkeys(use.call for use in uses))
        yield ""


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _cell(text: str) -> str:
    return " ".join(text.replace("%%", "%").split()).replace("|", "\\|").replace("``", "`")


def main() -> None:
    for name, text in pages().items():
        (FOLDER / name).write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
