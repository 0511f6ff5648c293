"""The report of `make soak`."""

from pathlib import Path

import pytest

from tests.helpers.soak_report import TESTS, Reporter, markdown, read_rows


def test_a_result_is_a_row(tmp_path: Path) -> None:
    Reporter(tmp_path)(7, "uploads | names", asked="0 outside", found="0 of 40 outside", passed=True)
    (row,) = read_rows(tmp_path)
    assert (row.number, row.passed, row.found) == (7, True, "0 of 40 outside")
    assert "| 7 | uploads \\| names | 0 outside | 0 of 40 outside | passed |" in markdown([row])
    assert f"1 of {TESTS} passed" in markdown([row])


def test_a_failure_fails_the_test_and_is_reported(tmp_path: Path) -> None:
    report = Reporter(tmp_path)
    with pytest.raises(AssertionError, match="asked 0; found 3"):
        report(1, "crashes", asked="0", found="3", passed=False)
    assert "**failed**" in markdown(read_rows(tmp_path))
    assert f"0 of {TESTS} passed" in markdown(read_rows(tmp_path))


def test_a_second_run_replaces_the_first_and_parts_stand_apart(tmp_path: Path) -> None:
    for found in ("first", "second"):
        Reporter(tmp_path)(2, "files", asked="all", found=found, passed=True)
    Reporter(tmp_path)(2, "large file", asked="fast", found="0.1 s", passed=True)
    assert [row.found for row in read_rows(tmp_path)] == ["second", "0.1 s"]


def test_tests_without_a_result_are_named(tmp_path: Path) -> None:
    assert read_rows(tmp_path) == []
    assert "No result: 1, 2, 3," in markdown([])


def test_a_short_run_keeps_no_line(soak_report: Reporter) -> None:
    soak_report(3, "this test", asked="nothing kept", found="nothing kept", passed=True)
    assert soak_report._folder is None
