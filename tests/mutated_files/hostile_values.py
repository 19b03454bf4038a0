"""What is put in the place of values: too much, of another kind, out of range, or another name that there is."""

from __future__ import annotations

from typing import Any

from harness.cases.descriptors import Action, Flaw, MaskKind, PassKind, PerturbationKind, PictureKind
from harness.oracle.definitions import DEFINITIONS
from harness.precision import PRECISIONS
from harness.properties import LOSS_PROPERTIES, STEP_PROPERTIES

# Written into JSON as they stand.
RAW = (
    "9" * 5000, "-" + "9" * 400, "1e999", "-1e999", "NaN", "Infinity", "[" * 3000 + "]" * 3000,
    '{"a":' * 500 + "1" + "}" * 500, '{"a": 1, "a": 2}', "1e-999", "-0.0", "18446744073709551616",
    "9223372036854775807",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 64, 4096, 4097, 10**9, 10**12, 0.5, -0.5, 1.5, "", "x", "../../etc/passwd",
    "/etc/passwd",
    "..", "a\0b", "\ud800", "x" * 100_000, "é\n\r\t\x1b[31m", "9" * 5000, "nan", "inf", [], {}, [[]], [1, 2, 3],
    [None] * 20_000,
    {"kind": "loss"}, {"x": 1}, ["good"] * 3000, [0.0] * 4, "C:\\x", "con", "-1",
)  # fmt: skip
TOML = (
    "9" * 5000, "nan", "inf", "-1", "0", "true", "'../x'", '"a\\u0000b"', "[]", "{}", "[1, 'a']", "1979-05-27",
    "07:32:00",
    "[" * 400 + "]" * 400, "'" + "x" * 9000 + "'", "0x" + "f" * 5000, "1e999", "[[['a']]]", "{a = 1, a = 2}", "",
    "=", "4096",
    "10000000000", "['float32', 'float32']", "'float64'", "''", "['../x']", "['__main__']", "4", "['none']", "a.b",
    "{relative = inf}",
)  # fmt: skip
YAML = (
    "9" * 5000, ".nan", ".inf", "-1", "0", "true", "~", "../x", "[]", "{}", "[1, a]", "1979-05-27", "2001-99-99",
    '!!int ""',
    '!!float ""', "!!bool 3", "!!timestamp x", "!!set [1]", "!!omap 3", "!!binary ***",
    "!!python/object/apply:os.mkdir [evil]",
    "[" * 400 + "]" * 400, "x" * 9000, "0x" + "f" * 5000, "1:" * 3000 + "1", "1e999", "&a [*a]", "&a {<<: *a}", "*b",
    "? [1]", "10000000000",
    "4096", "1e30", "*", "'", '"\\ud800"', "\t", "!!str 3", "0b1", "1_000", "0o17", "<<", "{a: 1, a: 2}", "[1, 2, 3]",
)  # fmt: skip
# What the harness has names for, so that a changed name may be another's.
WORDS = (
    *(p.name for p in (*LOSS_PROPERTIES, *STEP_PROPERTIES, *PRECISIONS)), "ranks-agree", *DEFINITIONS,
    *(word.value for words in (Action, Flaw, MaskKind, PassKind, PerturbationKind, PictureKind) for word in words),
    "a.png", "a.jpg", "coffee.png", "0.png", "images/1.png", "loss", "step", "training",
    "gslrm.model.utils_losses:MaskedSsimLoss", "gslrm.training.amp_step:AmpStep", "gslrm.model.utils_losses:nothing",
    "os:getcwd",
    "gslrm.testing.tiny_training:TinyTraining", "nowhere:x", "x.py:y", "0x1.8p+1", "nan",
)  # fmt: skip
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
