"""Data and scripts as a page carries them: small, and unable to end the element they stand in."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

import vl_convert
from markupsafe import Markup

from steer_heal_love.report.figures.drawing import VEGA_LITE


def as_json(value: Any) -> Markup:
    """JSON for a script element of data: no name in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  (that is the escaping)


def pack_payload(value: Any) -> str:
    """JSON, gzipped, in base64: what a page opens when it is asked for."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    raw = text.encode("utf-8", errors="replace")
    return base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode("ascii")


@cache
def vega_script() -> Markup:
    """Vega, Vega-Lite and vega-embed as one script, which leaves `window.vegaEmbed` behind."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return Markup(bundle.replace("</script", "<\\/script"))  # noqa: S704  (a library's own text)


@cache
def own_file(name: str) -> Markup:
    """A script or style sheet of this package."""
    file = resources.files("steer_heal_love.report.page") / name
    return Markup(file.read_text(encoding="utf-8"))  # noqa: S704  (our own file)


def script_hash(script: str) -> str:
    """A script's hash as a content security policy names it."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
