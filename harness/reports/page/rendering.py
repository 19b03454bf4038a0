"""From a template to a page that needs nothing else: its style and its script stand in it, and it runs no other."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.reports.words import figure, warnings_heading

_FOLDER = Path(__file__).parent


def rendered(template: str, **values: Any) -> str:
    """The template of this folder with these values, which it escapes."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "warnings_heading": warnings_heading}
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        script=Markup(script), style=Markup(style), digest=digest, **values
    )
