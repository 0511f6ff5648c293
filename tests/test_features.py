"""docs/features.md names the place and the test of each feature; all of them exist."""

import re
from pathlib import Path

from engine.cli import batch
from engine.cli.parser import build_parser

HERE = Path(__file__).parent
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (HERE.parent / "docs" / "features.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| feature")
]


def test_every_feature_names_a_test_that_exists() -> None:
    assert len(ROWS) > 50
    for feature, *_, where, shown in ROWS:
        assert where, feature
        assert shown, feature
        for file, _, name in re.findall(r"`([\w/]+\.py)(::(\w+))?`", shown):
            assert (HERE / file).is_file(), file
            assert not name or f"def {name}(" in (HERE / file).read_text(encoding="utf-8"), f"{file}::{name}"
        assert re.fullmatch(r"`(\w+/)*test_\w+\.py(::test_\w+)?`", shown), feature


def test_every_label_command_and_endpoint_exists() -> None:
    """Labels are in italics; they begin a string, or the text of an element, somewhere in the studio."""
    files = [p for p in (HERE.parent / "studio").rglob("*") if p.suffix in (".py", ".js", ".html")]
    studio = "\n".join(p.read_text(encoding="utf-8") for p in files)
    commands = next(a.choices for a in build_parser(batch.add_commands)._actions if a.dest == "command")
    assert commands
    api = "\n".join(p.read_text(encoding="utf-8") for p in (HERE.parent / "studio" / "api").rglob("*.py"))
    labels = {label for _, where, _ in ROWS for label in re.findall(r"\*([^*]+)\*", where)}
    assert len(labels) > 30
    assert {label for label in labels if not re.search(rf"[\"'>`]{re.escape(label)}", studio)} == set()
    named = {name for row in ROWS for name in re.findall(r"`etude ([a-z]+)", row[1])}
    assert named <= set(commands)
    endpoints = {name for row in ROWS for name in re.findall(r"`/(\w+)`", row[1])}
    assert {name for name in endpoints if f"def {name}(" not in api} == set()
