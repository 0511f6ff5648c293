"""docs/limits.md agrees with engine/limits.py: each row of the table contains the figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine import limits as L
from engine.process.client import BUSY_SEC, MEMORY_BYTES, SILENT_SEC
from engine.process.remote_engine import LEAST_SEC, NOTE_SEC, RENDER_SEC, SOUND_SEC
from engine.sound import clip, prompts

TEXT = (Path(__file__).parents[1] / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| ([^|]+?) \| (.+) \|$", TEXT, re.MULTILINE))
NUMBERS = {
    2: "two", 3: "three", 4: "four", 10: "ten", 15: "15", 60: "a minute", 300: "five minutes", 600: "ten minutes"
}  # fmt: skip


def mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


@pytest.mark.parametrize(
    "row, phrases",
    [
        ("score file", [
            mb(L.SCORE_BYTES), f"MIDI {mb(L.MIDI_BYTES)}", f"kern {mb(L.KERN_BYTES)}", f"{L.MAX_SCORE_NOTES:,} notes",
            f"{L.NOTATION_BARS:,} bars (MIDI {L.MAX_BARS:,})", f"{L.MIDI_MINUTES} minutes of MIDI",
        ]),
        ("reading a score, a project or a recording", [
            f"{L.READ_SECONDS} s of computing", f"{L.READ_MEMORY_BYTES / 1e9:.1f} GB",
        ]),
        ("performance with edits", [f"{L.PERFORMANCE_NOTES:,} notes", {3600: "one hour"}[round(L.PERFORMANCE_SEC)]]),
        ("comparison", [f"recording of up to {mb(L.AUDIO_BYTES)}", f"and {NUMBERS[round(L.COMPARED_SEC)]}"]),
        ("style over time", [f"{L.MAX_CURVE_POINTS} breakpoints"]),
        ("composing", [
            f"to {L.COMPOSED_NOTES:,} notes", f"1 to {L.COMPOSED_BARS} bars", f"{L.COMPOSED_TAKES} takes",
        ]),
        ("reference recording", [
            f"up to {mb(L.AUDIO_BYTES)}", {60: "the first minute is read"}[round(clip.LONGEST_SEC)],
            f"{prompts.SHORTEST_SEC:.0f} to {prompts.LONGEST_SEC:.0f} s of it",
            f"{L.MIN_RATE // 1000} to {L.MAX_RATE // 1000} kHz", f"up to {L.AUDIO_CHANNELS} channels",
        ]),
        ("rendering", [f"the last {NUMBERS[L.KEPT_RENDERS]} renders"]),
        ("project file", [
            mb(L.PROJECT_BYTES), f"the last {L.KEPT_PIECES} pieces of undo", f"{L.KEPT_TAKES} takes",
            f"{L.KEPT_RENDERS} renders of up to {({1800: 'half an hour'})[round(L.KEPT_RENDER_SEC)]} each",
        ]),
        ("visitors", [
            f"up to {NUMBERS[L.PERFORMANCES_AT_ONCE]} performances",
            f"{NUMBERS[L.PREVIEWS_AT_ONCE]} previews made", f"at most {L.WAITING_SHORT}", f"and {L.WAITING_LONG} to",
        ]),
        ("a visit", [
            f"{L.MAX_VISITS} at one time", f"idle for {NUMBERS[round(L.VISIT_IDLE_SEC)]}",
            f"up to {L.MAX_VISITS * L.VISITS_OVER}", {6: "six hours"}[round(L.VISIT_SEC / 3600)],
            f"not been asked about for {L.ABANDONED_SEC:.0f} s",
        ]),
        ("engine", [
            f"{NUMBERS[round(LEAST_SEC)]} and {NOTE_SEC} s a note",
            f"{NUMBERS[round(RENDER_SEC)]} and {SOUND_SEC:.0f} s for a second", f"over {MEMORY_BYTES / 1e9} GB",
            f"silent for {SILENT_SEC:.0f} s", f"after {BUSY_SEC:.0f} s",
        ]),
        ("uploaded files", [
            f"{NUMBERS[L.CLIENT_UPLOADS]} at a time", f"{mb(L.CLIENT_BYTES)} in {NUMBERS[round(L.UPLOAD_YOUNG_SEC)]}",
            f"{L.UPLOAD_IDLE_SEC:.0f} s without a byte", {500: "half a gigabyte"}[L.ALL_UPLOADS_BYTES // 10**6],
            f"none before {NUMBERS[round(L.UPLOAD_YOUNG_SEC)]}",
        ]),
        ("work kept between visits", [
            f"{NUMBERS[round(L.KEEP_AFTER_SEC)]} seconds after a change",
            f"at the latest {NUMBERS[round(L.KEEP_WITHIN_SEC)]} seconds", f"the last {L.BROWSER_TABS} tabs",
            f"{mb(L.BROWSER_BYTES)} of a browser", f"{L.KEPT_SEC / 86400:.0f} days", f"{L.KEPT_BYTES / 1e9:.0f} GB",
            {7: "used for a week"}[round(L.KEPT_FRESH_SEC / 86400)],
        ]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_page_of_limits_agrees_with_the_code(row: str, phrases: list[str]) -> None:
    missing = [phrase for phrase in phrases if phrase not in ROWS[row]]
    assert missing == [], ROWS[row]
