"""Étude from Python, as `import etude`: scores, performances and sound, and what the studio does with them.

    score = etude.Score.open("fugue.musicxml")
    performance = etude.perform(score, style="WangA", tempo=+1)
    performance.save("fugue.mid")

Every name is imported when it is first used, so that `import etude` takes no time; see examples/notebook.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.cli import main as main
    from engine.engine import Engine as Engine
    from engine.etude.calls import align as align
    from engine.etude.calls import compare as compare
    from engine.etude.calls import compose as compose
    from engine.etude.calls import load as load
    from engine.etude.calls import perform as perform
    from engine.etude.calls import preview as preview
    from engine.etude.calls import prompts as prompts
    from engine.etude.calls import render as render
    from engine.etude.calls import style_of as style_of
    from engine.etude.calls import styles as styles
    from engine.etude.calls import transcribe as transcribe
    from engine.etude.objects import Alignment as Alignment
    from engine.etude.objects import AudioClip as AudioClip
    from engine.etude.objects import Comparison as Comparison
    from engine.etude.objects import Performance as Performance
    from engine.etude.objects import Score as Score
    from engine.music.types import BadInput as BadInput
    from engine.music.types import BundleError as BundleError

__version__ = "0.1.0"
_ABOVE = __name__.rpartition(".")[0]  # "engine" in the clone, "etude.engine" where it is installed
_HOME = {
    **dict.fromkeys(("Score", "Performance", "AudioClip", "Alignment", "Comparison"), "etude.objects"),
    **dict.fromkeys(
        ("align", "compare", "compose", "load", "perform", "preview", "prompts", "render", "style_of", "styles",
         "transcribe"), "etude.calls",
    ),
    **dict.fromkeys(("BadInput", "BundleError"), "music.types"),
    "Engine": "engine",
    "main": "cli",
}  # fmt: skip
__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'etude' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")
    return getattr(importlib.import_module(f"{_ABOVE}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
