"""docs/features.md says where each feature is and which test shows it; those tests exist."""

import re
from pathlib import Path

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
