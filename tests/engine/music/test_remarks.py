"""Remarks of the readers: as lines, through the reading child and a project, bounded."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.music.remarks import LEFT_OUT, MAX_REMARKS, bounded, from_json, remark_lines, to_json
from engine.music.score_bytes import score_from_bytes, score_to_bytes
from engine.music.types import Remark
from studio.page.wire import PLAY_VOICE, roll_score
from studio.project.music import read_score, score_table
from tests.studio.test_project_files import a_session

FOUND = (Remark(3, "<cue>", "cue notes are not played"), Remark(5, "<cue>", "cue notes are not played"),
         Remark(0, "MIDI", "2 drum notes are left out"))  # fmt: skip


def test_each_kind_is_one_line_with_its_bars():
    assert remark_lines(FOUND) == ["Bars 3, 5: cue notes are not played (<cue>).", "2 drum notes are left out (MIDI)."]
    many = [Remark(k, "x", "left out") for k in range(1, 41, 2)]
    assert remark_lines(many) == ["Bars 1, 3, 5, 7, 9, 11, 13, 15 and 12 more places: left out (x)."]


def test_remarks_travel_with_the_score_and_leave_its_digest():
    plain = a_session().score
    score = replace(plain, remarks=FOUND)
    assert score.digest == plain.digest
    assert score_from_bytes(score_to_bytes(score)).remarks == FOUND
    assert read_score(json.loads(json.dumps(score_table(score)))).remarks == FOUND
    old = {name: value for name, value in score_table(score).items() if name != "remarks"}
    assert read_score(old).remarks == ()
    assert json.loads(roll_score(replace(a_session(), score=score)))["remarks"] == remark_lines(FOUND)


def test_the_page_explains_how_an_omitted_voice_is_played():
    score = replace(a_session().score, remarks=(Remark(1, "part “Voice”", LEFT_OUT),))
    lines = json.loads(roll_score(replace(a_session(), score=score)))["remarks"]
    assert lines == [*remark_lines(score.remarks), PLAY_VOICE]


def test_remarks_from_outside_are_bounded():
    many = bounded(Remark(k, "<a>\n", "x" * 1000) for k in range(2 * MAX_REMARKS))
    assert len(many) == MAX_REMARKS
    assert many[0].element == "<a>"
    assert len(many[0].text) == 300
    assert many[-1].text == f"{MAX_REMARKS + 1} further remarks are not listed"
    assert from_json(to_json(FOUND)) == FOUND
    for rows in ({}, [1], [{"bar": "1", "element": "", "text": ""}], [{"bar": 1}]):
        with pytest.raises(ValueError, match="remark"):
            from_json(rows)
