"""The report of `make soak`: one row for each test of reliability, gathered while they run.

A test asks for the fixture `soak_report` and calls it once, at its end:

    soak_report(1, "mutated MIDI files", asked="10,000: 0 crashes, 0 over 1 s", found="...", passed=crashes == 0)

which fails the test when it did not pass, and writes a line into runs/soak/report.jsonl if the test is marked `soak`.
`python -m tests.helpers.soak_report` makes runs/soak/report.md of these lines; of several lines of the same test and
part the last one counts.
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
    what     what was done
    asked    what must come out
    found    what came out, with figures
    passed   whether it is as asked
    seconds  how long it took
    day      when it ended, YYYY-MM-DD
    """

    number: int
    what: str
    asked: str
    found: str
    passed: bool
    seconds: float
    day: str


class Reporter:
    """What a test calls with its result."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is where lines are kept; None in a short run, which only passes or fails."""
        self._folder, self._began = folder, time.monotonic()

    def __call__(self, number: int, what: str, *, asked: str, found: str, passed: bool) -> None:
        """Keep the result. Raises AssertionError when it is not as asked."""
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
    """The table, and which tests left no line: those that did not run, or broke before their end."""
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
