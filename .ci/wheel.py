"""Build hook: one package, `etude`, for the wheel; the name `etude` for an editable install.

In the clone the folders are packages of their own (`engine`, `studio`). Installed, a user's environment gets only
`etude`: the folders lie inside it, and their imports are rewritten. The weights are too large for a wheel: it holds the
rest of each checkpoint, whose config.json names the SHA-256 of the weights, and they are fetched on first use.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("engine", "studio")
BESIDE = ("docs", "examples", "checkpoints")  # where the packages look for them: one folder up
LEFT_OUT = ("*.safetensors", "*.pyc", "__pycache__", "*.pyi", "imported", "*.png")
NAMED = "|".join(PACKAGES)
IMPORT = re.compile(rf"^(\s*)from ({NAMED})(?=[.\s])", re.MULTILINE)
FUNCTION = re.compile(rf"([\"'])((?:{NAMED})(?:\.\w+)+:\w+[\"'])")  # "module:function", called in a child process
ETUDE = """\"\"\"Étude from Python: see `{package}`.\"\"\"

from {package} import __all__, __dir__, __getattr__, __version__
"""
PLAIN_IMPORT = re.compile(rf"^\s*import ({NAMED})\b.*$", re.MULTILINE)


def rewritten(source: str, name: str = "") -> str:
    """Python source whose imports name the packages inside `etude`. Raises ValueError for what cannot be rewritten.

    >>> rewritten("from engine.music import types")
    'from etude.engine.music import types'
    >>> rewritten('call_apart("engine.music.document.patch:saved_bytes", data)')
    'call_apart("etude.engine.music.document.patch:saved_bytes", data)'
    """
    if found := PLAIN_IMPORT.search(source):
        raise ValueError(f"{name}: {found[0].strip()!r} cannot be rewritten; write `from ... import ...`")
    return FUNCTION.sub(r"\1etude.\2", IMPORT.sub(r"\1from etude.\2", source))


def lay_out(root: Path, target: Path) -> None:
    """Fill `target` with the package `etude`."""
    for name in (*PACKAGES, *BESIDE):
        shutil.copytree(root / name, target / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.copy(root / "app.py", target / "app.py")
    for path in (*(p for name in PACKAGES for p in (target / name).rglob("*.py")), target / "app.py"):
        path.write_text(rewritten(path.read_text(encoding="utf-8"), str(path)), encoding="utf-8")
    (target / "__init__.py").write_text(ETUDE.format(package="etude.engine.etude"), encoding="utf-8")


class EtudeHook(BuildHookInterface):
    """Called by hatchling for every wheel, editable ones too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files of the wheel."""
        self.folder = tempfile.TemporaryDirectory(prefix="etude-wheel-")
        made = Path(self.folder.name)
        if version == "editable":
            (made / "etude.py").write_text(ETUDE.format(package="engine.etude"), encoding="utf-8")
            build_data["force_include_editable"][str(made / "etude.py")] = "etude.py"
            return
        lay_out(Path(self.root), made / "etude")
        build_data["force_include"][str(made / "etude")] = "etude"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the copy."""
        self.folder.cleanup()
