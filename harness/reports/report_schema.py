"""The JSON Schema of a run's report, which ``harness schema`` prints and ``harness report`` holds files to."""

from __future__ import annotations

from typing import Any

from harness.reports.json_report import SCHEMA
from harness.reports.words import LEVELS, STATUSES


def report_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12. Numbers that JSON can't hold stand as text: ``nan``, ``inf`` or ``-inf``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        **_object(
            {
                "schema": {"const": SCHEMA},
                "subject": _SUBJECT,
                "command": _text("checks the same again"),
                "step_does": {"type": "object", "additionalProperties": {"type": "string"}},
                "seed": {"type": "integer", "minimum": 0},
                "strict": {"type": "boolean"},
                "environment": {"type": "object"},
                "left_out": _or_null({"type": "string"}),
                "status": {"enum": ["finished", "interrupted", "failed"]},
                "verdict": {"enum": ["held", "violated", "incomplete"]},
                "gone_from_baseline": _list(_object({"kind": _KIND, "property": _text(), "precision": _text()})),
                "seconds": {"type": "number", "minimum": 0},
                "warnings": _list(_WARNING),
                "results": {"type": "array", "items": {"$ref": "#/$defs/cell"}},
            }
        ),
        "$defs": {
            "number": {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]},
            "cell": _object(_CELL),
            "evidence": {
                "anyOf": [_object(_LOSS_EVIDENCE, ("raised", *_MEASURED)), _TIMELINE, _RANKS, {"type": "null"}]
            },
            "array": _object(
                {
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 4},
                    "float32": {
                        "type": "string",
                        "contentEncoding": "base64",
                        "description": "little-endian, row by row",
                    },
                }
            ),
            "op": _object(_OP, ("digits", "share")),
        },
    }


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Nothing but these; all of them, unless optional."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _text(description: str = "") -> dict[str, Any]:
    return {"type": "string", **({"description": description} if description else {})}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_NUMBER = {"$ref": "#/$defs/number"}
_MAYBE = _or_null(_NUMBER)
_MAYBE_TEXT = _or_null({"type": "string"})
_MAYBE_FLAG = {"type": ["boolean", "null"]}
_COUNT = {"type": "integer", "minimum": 0}
_SOURCE = _or_null(_object({"file": _text(), "line": _COUNT}))
_SUBJECT = _object(
    {
        "loss": _MAYBE_TEXT,
        "step": _MAYBE_TEXT,
        "root": _MAYBE_TEXT,
        "similarity": {"type": "boolean"},
        "truth": _text("what the loss is held to by name, or auto"),
        "held_to": _MAYBE_TEXT,
        "another_definition": {"type": "boolean"},
        "held_to_words": _text(),
        "data_range": {},
        "data_range_words": _text(),
        "loss_source": _SOURCE,
        "step_source": _SOURCE,
        "arguments": {"type": "object"},
    },
    ("arguments",),
)
_WARNING = _object(
    {
        "category": _text("the class of a Python warning that the subject raised"),
        "message": _text("of those that differ in numbers alone, one"),
        "where": _text("file and line"),
        "times": {"type": "integer", "minimum": 1},
    }
)
_KIND = {"enum": ["loss", "step"]}
_LEVEL = {"enum": list(LEVELS)}
_CELL = {
    "property": _text(),
    "kind": _KIND,
    "claim": _text(),
    "precision": _text(),
    "status": {"enum": ["violated", *STATUSES]},
    "level": {"enum": [*LEVELS, None]},
    "examples": _COUNT,
    "seconds": {"type": "number", "minimum": 0},
    "worst": _MAYBE,
    "message": _text("why violated, not applicable or not run"),
    "case": {"type": ["object", "null"]},
    "case_words": _text(),
    "case_file": _MAYBE_TEXT,
    "replay": _MAYBE_TEXT,
    "worst_case": {"type": ["object", "null"]},
    "worst_words": _text(),
    "worst_replay": _MAYBE_TEXT,
    "earlier_calls": _COUNT,
    "last_words": _text("the last lines that the subject printed, where it took its process with it"),
    "cut_short": {"type": "boolean"},
    "known_cases": {**_COUNT, "description": "that failed before, and were tried first"},
    "broken_regressions": _list(
        _object({"file": _text(), "message": _text(), "level": _LEVEL, "replay": _text()}),
    ),
    "standing": {"enum": ["new", "worse", "expired", "accepted", None]},
    "accepted": _or_null(_object({"because": _text(), "level": _LEVEL, "badness": _NUMBER})),
    "counts": {"type": "boolean", "description": "the run fails for it"},
    "badness": {**_NUMBER, "description": "1 at the bound, more outside"},
    "evidence": {"$ref": "#/$defs/evidence"},
    "worst_evidence": {"$ref": "#/$defs/evidence"},
}
_OP = {
    "index": {"type": "integer", "minimum": 0},
    "op": _text(),
    "where": _text("file and line"),
    "takes": _list({"type": "string"}),
    "gives": _text("dtype"),
    "error": _NUMBER,
    "expected": _NUMBER,
    "digits": _NUMBER,
    "share": _NUMBER,
}
_ONE_OP = {"$ref": "#/$defs/op"}
_ROUNDING = _object(
    {
        "ops": _COUNT,
        "names": _list({"type": "string"}),
        "first": _or_null(_ONE_OP),
        "cancellations": _list(_ONE_OP),
        "mismatches": _list(
            _object({"ops": {**_list(_ONE_OP), "minItems": 1}, "means": _list(_NUMBER), "apart": _NUMBER})
        ),
        "half": _or_null(_ONE_OP),
        "clamps": _list(_ONE_OP),
        "result dtype": _text(),
        "raised": _text(),
    }
)
_SWEEP = _object(
    {
        "perturbation": _text(),
        "own": _MAYBE,
        "magnitudes": _list({"type": "number", "exclusiveMinimum": 0}),
        "float64": _list(_NUMBER),
        "losses": {"type": "object", "additionalProperties": _list(_MAYBE)},
    }
)
_SHOWN = _object(dict.fromkeys(("image", "images", "height", "width", "top", "left"), _COUNT))
_MEASURED = ("value", "value bound", "gradient norm", "gradient cosine", "gradient largest", "has graph")
_LOSS_EVIDENCE = {
    "true value": _NUMBER,
    "true gradient norm": _NUMBER,
    "formula": _text(),
    "raised": _text(),
    **dict.fromkeys(_MEASURED[:-1], _MAYBE),
    "has graph": {"type": "boolean"},
    "arrays": {"type": "object", "additionalProperties": {"$ref": "#/$defs/array"}},
    "shown": _SHOWN,
    "rounding": _or_null(_ROUNDING),
    "sweep": _or_null(_SWEEP),
}
_ROW = _object(
    {
        "action": _text(),
        "loss": _MAYBE,
        "stepped": _MAYBE_FLAG,
        "reason": _MAYBE_TEXT,
        "moved": {"type": "boolean"},
        "should step": {"type": "boolean"},
        "why": _MAYBE_TEXT,
        "gradient norm": _MAYBE,
        "scale": _NUMBER,
        "growth tracker": {"type": "integer"},
        "learning rate": _NUMBER,
        "passes": {"type": "integer"},
        "updates": {"type": "integer"},
        "raised": _MAYBE_TEXT,
    }
)
_TIMELINE = _object({"timeline": _list(_ROW)})
_RANK = _object(
    {
        "loss": _MAYBE,
        "stepped": _MAYBE_FLAG,
        "passes": {"type": "integer"},
        "updates": {"type": "integer"},
        "learning_rate": _NUMBER,
        "scale": _NUMBER,
        "parameters": _text("digest"),
        "raised": _MAYBE_TEXT,
    }
)
_RANKS = _object({"ranks": _list(_list(_RANK))})
