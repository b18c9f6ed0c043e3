"""Put data and scripts into a page so that nothing in the data can end its element, whoever wrote it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

ENVIRONMENT = Environment(loader=PackageLoader("plugrad.report", "page"), autoescape=True, undefined=StrictUndefined)
UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}
"""In JSON they occur in texts alone."""


def coded(text: str) -> Markup:
    """Return a text of plugrad's or a plugin's with the words between backticks as code, and everything else as text."""
    parts = re.split(r"``?([^`]+)``?", text)
    return Markup().join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


ENVIRONMENT.filters["coded"] = coded


def json_in_html(value: Any) -> Markup:
    """Return JSON for a `<script type="application/json">`."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(UNSAFE))


def page(template: str, *, scripts: Sequence[str], connects: bool = False, **context: Any) -> str:
    """Return a whole page of one template, with its style and its scripts in it.

    The page's policy forbids every other script, and every request: but to where it came from, if it `connects`.
    """
    script = "\n".join(part(name) for name in scripts)
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        f"connect-src {chr(39)}{'self' if connects else 'none'}{chr(39)}; base-uri 'none'; form-action 'none'"
    )
    style = "\n".join(part(name) for name in ("uplot/uPlot.min.css", "page/style.css"))
    rendered = ENVIRONMENT.get_template(template).render(
        policy=policy,
        script=Markup(script),
        style=Markup(style),
        **context,
    )
    # Half of a surrogate pair, which a file name may hold, is no UTF-8.
    return rendered.encode("utf-8", "replace").decode("utf-8")


@cache
def part(name: str) -> str:
    """Return a script or a style of this package."""
    return files("plugrad.report").joinpath(*name.split("/")).read_text(encoding="utf-8")
