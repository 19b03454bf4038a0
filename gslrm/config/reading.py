"""Settings from a YAML file or a preset, with some overridden."""

from __future__ import annotations

import dataclasses
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from gslrm.config.sections import ConfigError, build, unheeded
from gslrm.config.whole import Config
from gslrm.files import one_line, read_text

_LOG = logging.getLogger(__name__)
PRESETS = ("tiny", "facelift")
"""`tiny` trains on a CPU in seconds; `facelift` has the public sizes."""
LARGEST_FILE = 2**18
"""Bytes of a YAML file, of which a megabyte takes its parser ten seconds."""
DEEPEST, MOST_NODES, LONGEST_VALUE = 32, 100_000, 1000
"""Of a YAML file: sections in each other; values, with aliases written out; characters of a value."""
MOST_WEIGHTS, MOST_LAYERS = 2**33, 1024
"""Of a model: 34 GB in float32."""
LARGEST_SIDE = 4096
"""Of the model's pictures, px."""


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
        _refuse_too_large(config)
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
    if not os.path.lexists(path):
        raise ConfigError(f"{one_line(str(path))}: no such file, nor a preset ({', '.join(PRESETS)})")
    return read_text(path, ConfigError, LARGEST_FILE)


def _refuse_too_large(config: Config) -> None:
    """Raise ConfigError for a model, or pictures, that no machine holds: before anything of it is built."""
    transformer, tokens = config.model.transformer, config.model.image_tokenizer
    # Attention and MLP of a block, and what a patch becomes and is made of.
    block = 12 * transformer.d**2
    ends = transformer.d * tokens.patch_size**2 * (tokens.in_channels + 14)
    if transformer.n_layer * block + ends > MOST_WEIGHTS or transformer.n_layer > MOST_LAYERS:
        raise ConfigError(
            f"model.transformer.d is {transformer.d} and n_layer is {transformer.n_layer}: with patches of "
            f"{tokens.patch_size} px that is over {MOST_WEIGHTS} weights or {MOST_LAYERS} blocks"
        )
    if tokens.image_size > LARGEST_SIDE:
        raise ConfigError(
            f"model.image_tokenizer.image_size is {tokens.image_size}, expected at most {LARGEST_SIDE} px"
        )


def _parse(text: str, where: str) -> Any:
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return {}
        _refuse_hostile(root)
        return loader.construct_document(root)
    # What YAML's constructors raise for tagged text that is none of their kind (`!!int ""`, `!!bool 3`) is anything.
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise ConfigError(f"{one_line(where)}: not YAML: {one_line(str(error))}") from None


def _refuse_hostile(root: yaml.Node) -> None:
    """Raise MarkedYAMLError for what a few lines may blow up to, and for keys given twice."""
    _refuse_twice(root)
    _count_nodes(root, {}, 1)


def _count_nodes(node: yaml.Node, counted: dict[int, int], depth: int) -> int:
    """How many nodes there are when every alias is written out."""
    if depth > DEEPEST:
        raise yaml.MarkedYAMLError(problem=f"nested more than {DEEPEST} deep", problem_mark=node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > LONGEST_VALUE:
            raise yaml.MarkedYAMLError(
                problem=f"a value of over {LONGEST_VALUE} characters", problem_mark=node.start_mark
            )
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > 25:
            raise yaml.MarkedYAMLError(problem="a whole number beyond 64 bits", problem_mark=node.start_mark)
        return 1
    if id(node) not in counted:
        # An alias that leads back to what holds it goes on until it is too deep.
        inner = [x for pair in node.value for x in (pair if isinstance(pair, tuple) else (pair,))]
        counted[id(node)] = 1 + sum(_count_nodes(x, counted, depth + 1) for x in inner)
    if counted[id(node)] > MOST_NODES:
        raise yaml.MarkedYAMLError(
            problem=f"over {MOST_NODES} values when its aliases are written out", problem_mark=node.start_mark
        )
    return counted[id(node)]


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
