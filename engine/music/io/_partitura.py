"""Guarded import of partitura.

On import, partitura downloads a SoundFont if `fluidsynth` is importable, so that package is hidden during the import.
The import takes seconds: call `load_partitura` inside a function.
"""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from types import ModuleType

_LOCK = threading.RLock()


def load_partitura(module: str = "partitura") -> ModuleType:
    """Return partitura, or one of its modules by its full name, imported with fluidsynth hidden.

    >>> load_partitura("partitura.score").Part.__name__
    'Part'
    """
    with _LOCK:
        if "partitura" not in sys.modules:
            known = sys.modules.get("fluidsynth")
            sys.modules["fluidsynth"] = None  # type: ignore[assignment]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    importlib.import_module("partitura")
            finally:
                if known is None:
                    del sys.modules["fluidsynth"]
                else:
                    sys.modules["fluidsynth"] = known
        return importlib.import_module(module)
