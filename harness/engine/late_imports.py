"""What torch imports only when it is first needed: taken beforehand, where else every fork would import it again."""

from __future__ import annotations

import contextlib
import importlib


def import_dynamo() -> None:
    """What every optimizer's step imports, and a mode that sees every op: 0.9 s."""
    # Another torch may have it elsewhere: it is then imported when it is needed.
    with contextlib.suppress(Exception):
        importlib.import_module("torch._dynamo")
