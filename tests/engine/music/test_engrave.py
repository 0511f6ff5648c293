"""Engraving: every note of the score is found on the page by its name, and nothing but shapes and text is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from xml.etree.ElementTree import canonicalize

import numpy as np
import pytest

from engine.music.io.engrave import WIDTHS, clean_svg, engrave_here, engraving_from_bytes, engraving_to_bytes
from engine.music.types import BadInput, Marks, Measures, Score
from engine.untrusted.engrave import engrave
from engine.untrusted.scores import open_score

ROOT = Path(__file__).parents[3]
PIECES = (
    ROOT / "examples" / "bach-prelude-bwv-846.mxl",
    ROOT / "examples" / "chopin-prelude-op-28-7.krn",
    ROOT / "tests" / "data" / "bach_fugue_846.mid",
    ROOT / "tests" / "data" / "anonymous_mazur_6.mei",
)


@cache
def piece(path: Path) -> Score:
    return open_score(path.read_bytes(), path.name)


def a_tie() -> Score:
    """Two bars of 4/4: C4 on the third beat for three quarters, tied over the barline; E4 in the second bar."""
    bars = Measures([0, 4], [4, 4], [0, 0], [4, 4], [4, 4], [0, 0], [1, 2])
    return Score([3, 5], [3, 1], [60, 64], [0, 4], [1, 1], [1, 1], [False, False], Marks.none(2), bars)


@pytest.mark.parametrize("path", PIECES, ids=lambda p: p.name)
def test_every_note_is_on_a_page(path: Path) -> None:
    score = piece(path)
    made = engrave(score)
    drawn = re.findall(r'<g id="(note-[\d-]+)"', "".join(made.pages))
    assert len(made.note_ids) == len(score)
    assert sorted(drawn) == sorted(i for ids in made.note_ids for i in ids)
    struck = [made.onset_quarter[ids[0]] for ids in made.note_ids]
    assert np.allclose(struck, score.onset_quarter, atol=1e-3)
    assert len(made.barlines) == len(made.bar_page) + 1
    assert set(made.bar_page) == set(range(len(made.pages)))


def test_a_tied_note_has_two_heads() -> None:
    made = engrave(a_tie())
    assert made.note_ids == (("note-0", "note-0-1"), ("note-1",))
    assert made.onset_quarter == {"note-0": 3.0, "note-0-1": 4.0, "note-1": 5.0}
    assert made.barlines == (0.0, 4.0, 8.0)
    assert made.bar_page == (0, 0)
    assert engraving_from_bytes(engraving_to_bytes(made)) == made


def test_a_narrow_page_has_more_of_them_and_the_same_notes() -> None:
    score = piece(PIECES[0])
    wide, narrow = engrave(score, WIDTHS[-1]), engrave(score, WIDTHS[0])
    assert len(narrow.pages) > len(wide.pages)
    assert narrow.note_ids == wide.note_ids
    assert f'viewBox="0 0 {WIDTHS[0]} ' in narrow.pages[0]
    assert engrave(score, WIDTHS[0]) == narrow  # the same every time
    with pytest.raises(BadInput, match="are the widths"):
        engrave(score, 999)


def test_text_of_a_file_stays_text() -> None:
    nasty = '<script>alert(1)</script>"><svg onload=alert(1)>'
    made = engrave(replace(a_tie(), title=nasty, composer=nasty))
    assert not any("alert" in page for page in made.pages)  # neither is printed on the page


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>", "<foreignObject/>", '<g onclick="alert(1)"/>', '<use href="http://x/y"/>',
        '<g style="fill:red"/>', "<style>@import 'x'</style>", "<style>a{b:url(http://x)}</style>", "<g>",
        '<image href="#a"/>', "<style>a{b:url\\\n(x)}</style>",
        "<style>a{b:image-set('http://x' 1x)}</style>", "<desc><g/></desc>",
    ],
)  # fmt: skip
def test_a_page_that_could_act_is_refused(inside: str) -> None:
    with pytest.raises(BadInput, match="cannot be engraved"):
        clean_svg(f'<svg xmlns="http://www.w3.org/2000/svg">{inside}</svg>')


def test_a_plain_page_is_let_through() -> None:
    page = '<svg><g id="note-1" class="note"><use href="#a" x="1"></use></g><text>A &lt; B</text></svg>'
    assert clean_svg(page) == page


@pytest.mark.parametrize(
    "hidden", ['<!--><img src=x onerror="f()"> -->', '<?x ><img src=x onerror="f()"> ?>', "<![CDATA[<img src=x>]]>"]
)
def test_what_an_html_parser_would_read_otherwise_is_left_out(hidden: str) -> None:
    assert "<img" not in clean_svg(f"<svg><text>a{hidden}b</text></svg>")


def test_only_rules_for_the_page_itself_are_kept() -> None:
    css = "body{display:none}#p g{fill:red}#p path, body{fill:red}/* #p x{} */#p a:hover{}"
    assert clean_svg(f'<svg id="p"><style>{css}</style></svg>') == (
        '<svg id="p"><style>#p g{fill:red}#p a:hover{}</style></svg>'
    )
    assert clean_svg(f"<svg><style>{css}</style></svg>") == "<svg><style></style></svg>"


def test_nothing_of_a_real_page_is_lost() -> None:
    for page in engrave_here(piece(PIECES[0]), 1100).pages:
        before, after = (re.sub(r"(?s)<style.*?</style>", "", text) for text in (page, clean_svg(page)))
        assert canonicalize(before) == canonicalize(after)
        rules = [re.findall(r"(?s)<style[^>]*>(.*?)</style>", text) for text in (page, clean_svg(page))]
        assert re.sub(r"\s", "", rules[0][0]) == re.sub(r"\s", "", rules[1][0]) != ""


def many_notes() -> Score:
    """Sixty thousand notes: seconds of computing more than are given."""
    n = 60_000
    bars = n // 16
    onset = np.repeat(np.arange(n // 4) / 4.0, 4)
    pitch = np.tile([48, 60, 64, 67], n // 4)
    measures = Measures(
        4.0 * np.arange(bars), np.full(bars, 4.0), np.zeros(bars), np.full(bars, 4), np.full(bars, 4), np.zeros(bars),
        1 + np.arange(bars),
    )  # fmt: skip
    staff = np.where(pitch < 60, 2, 1)
    return Score(onset, np.full(n, 0.25), pitch, np.zeros(n), staff, staff, np.zeros(n, bool), Marks.none(n), measures)


def test_the_work_can_be_stopped_and_the_next_score_is_engraved() -> None:
    """An exception of the check goes on, at once or as soon as the child answers."""

    def stopping() -> Callable[[], None]:
        def check() -> None:
            raise KeyboardInterrupt

        return check

    with pytest.raises(KeyboardInterrupt):
        engrave(many_notes(), check=stopping())
    assert len(engrave(a_tie()).pages) == 1


def test_a_score_that_takes_too_long_is_a_sentence() -> None:
    with pytest.raises(BadInput, match="Engraving this score takes"):
        engrave(many_notes())
