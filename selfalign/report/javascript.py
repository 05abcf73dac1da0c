"""The JavaScript that draws the plots: Vega, Vega-Lite and vega-embed as one text, to stand in the page itself."""

from __future__ import annotations

import contextlib
from importlib.metadata import version

from selfalign.durable import write_atomic
from selfalign.user_cache import cache_root


def vega_bundle() -> str:
    """About 0.9 MB; putting it together takes seconds, so that it is kept in the user's cache."""
    kept = cache_root() / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return kept.read_text(encoding="utf-8")
    import vl_convert

    text: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub makes an optional argument required
    with contextlib.suppress(OSError):  # a cache; without one it only takes longer
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, text)
    return text
