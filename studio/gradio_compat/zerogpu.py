"""Hosting on ZeroGPU (Hugging Face Spaces): the host refuses an app that names no function for its GPU.

Étude's models are small and play many times faster than real time on two processor cores, so nothing is sent to the GPU
and no visitor's quota is used. Elsewhere, and without the `spaces` package, this module does nothing.
"""

from __future__ import annotations

import importlib.util
import os


def on_zero_gpu() -> bool:
    """Whether this process was started by a ZeroGPU host."""
    return bool(os.environ.get("SPACES_ZERO_GPU")) and importlib.util.find_spec("spaces") is not None


def announce() -> bool:
    """Name a function to the host, if it is one that asks for it; call it before torch is imported."""
    if not on_zero_gpu():
        return False
    import spaces  # type: ignore[import-not-found]

    spaces.GPU(duration=1)(_nothing)
    return True


def _nothing() -> None:
    """What the GPU is asked to do."""
