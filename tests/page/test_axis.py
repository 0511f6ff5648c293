"""The page's helpers of time and geometry, tested by Node's own test runner; Playwright brings a Node."""

from __future__ import annotations

import subprocess
from pathlib import Path

from playwright._impl._driver import compute_driver_executable


def test_helpers_of_time_and_geometry() -> None:
    node = compute_driver_executable()[0]
    told = subprocess.run(
        [node, "--test", str(Path(__file__).with_name("axis.test.mjs"))], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "# pass 6" in told.stdout or "pass 6" in told.stdout, told.stdout
