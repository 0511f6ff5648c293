"""Pausing a training: while a file exists, the loop waits between two steps."""

from __future__ import annotations

import os
import time
from pathlib import Path

PAUSE_VARIABLE = "TRAINING_PAUSE_FILE"


def wait_while_paused(poll_sec: float = 0.5) -> float:
    """Wait while the file named by TRAINING_PAUSE_FILE exists; returns the seconds waited."""
    name = os.environ.get(PAUSE_VARIABLE)
    if not name or not os.path.exists(name):
        return 0.0
    began = time.monotonic()
    print("paused", flush=True)
    while Path(name).exists():
        time.sleep(poll_sec)
    print("continues", flush=True)
    return time.monotonic() - began
