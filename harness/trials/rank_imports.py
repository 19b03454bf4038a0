"""Imported for what it imports: all that a rank needs and a subject doesn't bring, in the process that ranks are forked
from.
"""

from __future__ import annotations

from harness.imports import import_dynamo, quick_imports

with quick_imports():
    import harness.subjects.training
    import harness.trials.training  # noqa: F401

    import_dynamo()
