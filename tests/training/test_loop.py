"""Logs of the shared training loop."""

from __future__ import annotations

import json
from pathlib import Path

from training.core.loop import drop_lines_after


def test_a_resumed_run_repeats_no_line_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    drop_lines_after(log, 5)
    assert not log.exists(), "a new run has none"
    log.write_text("".join(json.dumps({"step": step}) + "\n" for step in (10, 29, 59)) + '{"step": 6')
    drop_lines_after(log, 29)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [10, 29]
