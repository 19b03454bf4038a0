"""Settings from a YAML file or a preset, with some overridden."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from gslrm.config.sections import ConfigError, build, unheeded
from gslrm.config.whole import Config

_LOG = logging.getLogger(__name__)
PRESETS = ("tiny", "facelift")
"""`tiny` trains on a CPU in seconds; `facelift` has the public sizes."""


def load_config(
    source: str | Path,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    ignore_unknown: bool = False,
) -> Config:
    """Settings of a preset's name or a YAML file; keys that it leaves out have their defaults.

    overrides: keys with dots to values (`{"training.optimizer.lr": 1e-4}`), or texts `key=value` with the
    value in YAML. ignore_unknown: unknown keys are warned of rather than refused. Public keys that ask for what
    nothing here does are accepted, and named once in the log.

    Raises ConfigError naming the file and the key that is unknown, of a wrong type, out of its range or in
    contradiction with another.
    """
    if str(source) in PRESETS:
        text = (resources.files("gslrm.config") / "presets" / f"{source}.yaml").read_text(encoding="utf-8")
    else:
        text = _read(Path(source))
    raw = _parse(text, str(source))
    if not isinstance(raw, dict):
        raise ConfigError(f"{source}: expected sections model and training, found {type(raw).__name__}")
    ignored: list[str] | None = [] if ignore_unknown else None
    try:
        for key, value in _pairs(overrides):
            _put(raw, key, value)
        config = build(Config, raw, ignored=ignored)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    if ignored:
        warnings.warn(f"{source}: unknown settings left alone: {', '.join(ignored)}", stacklevel=2)
    if unheeded_keys := unheeded(config):
        _LOG.warning("%s: accepted, but nothing acts on these settings: %s", source, ", ".join(unheeded_keys))
    return config


def config_to_yaml(config: Config) -> str:
    """The settings as a YAML file that `load_config` reads back."""
    return yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file, nor a preset ({', '.join(PRESETS)})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None


def _parse(text: str, where: str) -> Any:
    try:
        _refuse_twice(yaml.compose(text, Loader=yaml.SafeLoader))
        parsed = yaml.safe_load(text)
        return {} if parsed is None else parsed
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{where}: not YAML: {said}") from None


def _refuse_twice(root: yaml.Node | None) -> None:
    """Raise MarkedYAMLError for a key that a mapping has twice: YAML's own reader would take the last one's value."""
    nodes, met = [root], set()
    while nodes:
        node = nodes.pop()
        if node is None or id(node) in met:  # an alias may lead back to a node that holds it
            continue
        met.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                nodes.extend((key, value))
                if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                    continue
                if key.value in keys:
                    raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
                keys.add(key.value)


def _pairs(overrides: Mapping[str, Any] | Sequence[str]) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    if isinstance(overrides, str):
        overrides = [overrides]
    pairs = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"override {text!r} is not key=value")
        pairs.append((key.strip(), _value(value, f"override {key.strip()}")))
    return pairs


def _value(text: str, where: str) -> Any:
    """One value written in YAML."""
    values = _parse(f"[{text}]", where)
    if not isinstance(values, list) or len(values) > 1:
        raise ConfigError(f"{where}: expected one value; write a list as [1, 2, 3]")
    return values[0] if values else None


def _put(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set a key with dots; sections that are not there yet are made. Unknown ones are found later."""
    *sections, last = key.split(".")
    for section in sections:
        inner = raw.get(section)
        if inner is None:
            inner = raw[section] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{key}: {section} is no section")
        raw = inner
    raw[last] = value


def _plain(value: Any) -> Any:
    """Tuples as lists: YAML has no other."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(x) for x in value] if isinstance(value, tuple) else value
