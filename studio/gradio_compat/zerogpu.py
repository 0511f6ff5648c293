"""Hosting on ZeroGPU (Hugging Face Spaces), which refuses an app without a GPU function.

Étude's models are small and run many times faster than real time on two CPU cores, so nothing uses the GPU or a
visitor's quota. Elsewhere, and without the `spaces` package, this module does nothing.
"""

from __future__ import annotations

import importlib.util
import os


def on_zero_gpu() -> bool:
    """Whether this process was started by a ZeroGPU host."""
    return bool(os.environ.get("SPACES_ZERO_GPU")) and importlib.util.find_spec("spaces") is not None


def announce() -> bool:
    """Register a function with a ZeroGPU host; call it before torch is imported."""
    if not on_zero_gpu():
        return False
    import spaces  # type: ignore[import-not-found]

    spaces.GPU(duration=1)(_nothing)
    return True


def _nothing() -> None:
    """The registered function; it does nothing."""
