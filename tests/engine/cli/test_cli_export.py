"""`etude export`: tables and files for other programs."""

import csv
import io
import zipfile
from pathlib import Path

import pytest

from engine.files import open_match_file
from tests.helpers.command_line import run
from tests.test_house import ROOT

DATA = ROOT / "tests" / "data"
PAIR = f"{DATA}/bach_fugue_846_Shi05M.mid --score {DATA}/bach_fugue_846.mxl"
MATCH = f"{DATA}/bach_fugue_846_Shi05M.match"


def test_tables_of_a_midi_file_and_its_score(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "notes.csv"
    status, said, _ = run(f"export {PAIR} -o {out} --as notes", capsys)
    assert status == 0
    assert "of them matched" in said
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8-sig"))))
    assert [row["name"] for row in rows[:7]] == ["C4", "D4", "E4", "F4", "G4", "F4", "E4"]
    assert float(rows[1]["onset_sec"]) == pytest.approx(1.095, abs=1e-3)


def test_everything_of_a_match_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "fugue.zip"
    assert run(f"export {MATCH} -o {out}", capsys)[0] == 0
    with zipfile.ZipFile(out) as archive:
        assert len(archive.namelist()) == 7
        (tmp_path / "again.match").write_bytes(archive.read("fugue.match"))
    again, before = open_match_file(tmp_path / "again.match"), open_match_file(Path(MATCH))
    assert (again[0].pitch == before[0].pitch).all()
    assert len(again[2]) == len(before[2])


@pytest.mark.parametrize(
    "command, sentence",
    [
        (f"export {MATCH} -o out.csv", "has no known ending"),
        (f"export {PAIR.split()[0]} -o out.txt", "name it with --score"),
        ("export nothing.mid -o out.match", "There is no file nothing.mid"),
    ],
)
def test_refusals(command: str, sentence: str, capsys: pytest.CaptureFixture) -> None:
    status, _, said = run(command, capsys)
    assert status == 2
    assert sentence in said
