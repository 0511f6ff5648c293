"""The report of `make soak`: one row for each reliability test, collected during the run.

A test uses the fixture `soak_report` and calls it once, at its end:

    soak_report(1, "mutated MIDI files", asked="10,000: 0 crashes, 0 over 1 s", found="...", passed=crashes == 0)

This fails the test if `passed` is false, and appends a line to runs/soak/report.jsonl if the test is marked `soak`.
`python -m tests.helpers.soak_report` writes runs/soak/report.md from these lines, with the last line of each test and
part.
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

TESTS = 36
FOLDER = Path(__file__).parents[2] / "runs" / "soak"


@dataclass(frozen=True)
class Row:
    """One test, or a part of one.

    number   as in the list of tests, from 1
    what     description of the test
    asked    requirement
    found    result, with figures
    passed   whether the result meets the requirement
    seconds  duration
    day      date of its end, YYYY-MM-DD
    """

    number: int
    what: str
    asked: str
    found: str
    passed: bool
    seconds: float
    day: str


class Reporter:
    """Callable that records the result of a test."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is the folder of report.jsonl; None in a short run, which records nothing."""
        self._folder, self._began = folder, time.monotonic()

    def __call__(self, number: int, what: str, *, asked: str, found: str, passed: bool) -> None:
        """Record the result. Raises AssertionError if it does not meet the requirement."""
        assert 1 <= number <= TESTS, f"there is no test {number}"
        row = Row(number, what, asked, found, bool(passed), round(time.monotonic() - self._began, 1), today())
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / "report.jsonl").open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
        assert passed, f"{what}: asked {asked}; found {found}"


def today() -> str:
    """The date of today."""
    return time.strftime("%Y-%m-%d")


def read_rows(folder: Path) -> list[Row]:
    """The rows so far, the last of each test and part, in the order of the tests."""
    path = folder / "report.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    latest = {(row.number, row.what): row for row in (Row(**json.loads(line)) for line in lines)}
    return sorted(latest.values(), key=lambda row: row.number)


def markdown(rows: list[Row]) -> str:
    """The table, and the tests without a line: not run, or ended by an error."""
    head = "| # | what | asked | found | | time | day |\n|---|---|---|---|---|---|---|\n"
    body = "".join(
        f"| {r.number} | {_cell(r.what)} | {_cell(r.asked)} | {_cell(r.found)} "
        f"| {'passed' if r.passed else '**failed**'} | {r.seconds:.0f} s | {r.day} |\n"
        for r in rows
    )
    missing = [str(n) for n in range(1, TESTS + 1) if n not in {r.number for r in rows}]
    passed = {r.number for r in rows} - {r.number for r in rows if not r.passed}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return f"{len(passed)} of {TESTS} passed ({machine}).\n\n{head}{body}\n" + (
        f"No result: {', '.join(missing)}.\n" if missing else ""
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Write and print the report."""
    report = markdown(read_rows(FOLDER))
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "report.md").write_text(report, encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
