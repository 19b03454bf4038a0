"""The oracle's numbers, forms and pictures and the properties' attributes are as recorded: constants too."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.harness.properties.recorded_judges import FILE, SECTIONS, plain

# Other orders of summation move a truth's last digits.
_RELATIVE = 1e-8


def _differences(found: Any, recorded: Any, place: str = "") -> list[str]:
    if isinstance(found, dict) and isinstance(recorded, dict) and list(found) == list(recorded):
        return [text for name in found for text in _differences(found[name], recorded[name], f"{place}/{name}")]
    if isinstance(found, list) and isinstance(recorded, list) and len(found) == len(recorded):
        pairs = enumerate(zip(found, recorded, strict=True))
        return [text for index, pair in pairs for text in _differences(*pair, f"{place}/{index}")]
    if type(found) is float and type(recorded) is float:
        same = math.isclose(found, recorded, rel_tol=_RELATIVE)
    else:
        same = type(found) is type(recorded) and found == recorded
    return [] if same else [f"{place}: {found!r}, recorded {recorded!r}"]


@pytest.mark.parametrize("section", SECTIONS)
def test_it_is_what_was_recorded(section: str) -> None:
    recorded = json.loads(FILE.read_text())[section]
    found = json.loads(json.dumps(plain(SECTIONS[section]())))
    assert not _differences(found, recorded)


def test_a_difference_is_told_with_its_place() -> None:
    assert _differences({"a": [1.0, 2]}, {"a": [1.0, 3]}) == ["/a/1: 2, recorded 3"]
    assert _differences({"a": 1.0}, {"b": 1.0}) == [": {'a': 1.0}, recorded {'b': 1.0}"]
    assert not _differences([1.0, 0.0], [1.0 + 1e-12, 0.0])
    assert _differences([1.0, True], [1.000001, 1]) == ["/0: 1.0, recorded 1.000001", "/1: True, recorded 1"]
