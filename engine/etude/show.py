"""Pictures for a notebook: an engraved page, a piano roll, a waveform, a player. HTML without scripts."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.measures.side_by_side import Shape, tables_html
from engine.music import types
from engine.music.types import BadInput

PAGE_WIDTH = 800  # pixels of an engraved page
PAGES = 2  # shown at once; the others are collapsed
MAX_SOUND_SEC = 600.0
_WIDTH, _NOTE_PX, _PEDAL_PX = 960, 4, 10  # of the roll: its width, the height of a semitone, of the pedal's row
_HANDS = {0: "#e8590c", 1: "#e8590c", 2: "#1c7ed6"}  # colours by staff
_PAPER = "background:#fff;color:#222;border:1px solid #ccc;border-radius:6px;padding:8px;max-width:1000px"


def score_html(score: types.Score) -> str:
    """The engraved pages of a score. If engraving fails: the repr and the reason."""
    from engine.untrusted.engrave import engrave

    try:
        pages = engrave(score, PAGE_WIDTH).pages
    except BadInput as refusal:
        return _box(score, f"<p>{html.escape(str(refusal))}</p>")
    shown, more = pages[:PAGES], pages[PAGES:]
    folded = f"<details><summary>{len(more)} more pages</summary>{''.join(more)}</details>" if more else ""
    return _box(score, "".join(shown) + folded)


def performance_html(performance: types.Performance) -> str:
    """A piano roll and a player with the preview piano; without a piano only the roll and the reason."""
    return _box(performance, roll_svg(performance) + _sound_of(performance))


def clip_html(clip: types.AudioClip) -> str:
    """A waveform and a player."""
    return _box(clip, waveform_svg(clip) + player_html(clip))


def comparison_html(score: types.Score, shapes: Sequence[Shape]) -> str:
    """The tables of a comparison."""
    return f'<div class="etude" style="{_PAPER}">{tables_html(score, shapes)}</div>'


def _box(shown: object, inside: str) -> str:
    return f'<div class="etude" style="{_PAPER}"><p style="margin:0 0 6px">{html.escape(repr(shown))}</p>{inside}</div>'


def _sound_of(performance: types.Performance) -> str:
    from engine.sound.preview import Preview

    if not len(performance):
        return ""
    try:
        clip = Preview().preview(_until(performance, MAX_SOUND_SEC))
    except BadInput as refusal:
        return f"<p>{html.escape(str(refusal))}</p>"
    return player_html(clip)


def _until(performance: types.Performance, sec: float) -> types.Performance:
    """The notes with an onset before a time."""
    early, down = performance.onset_sec < sec, performance.pedal_sec < sec
    sounding = [getattr(performance, n)[early] for n in ("onset_sec", "duration_sec", "pitch", "velocity")]
    return types.Performance(*sounding, performance.pedal_sec[down], performance.pedal_value[down])  # pyright: ignore


def player_html(clip: types.AudioClip) -> str:
    """An audio element with the sound as MP3, which every browser plays."""
    import soundfile

    data = io.BytesIO()
    samples = clip.samples[: round(MAX_SOUND_SEC * clip.sample_rate)]
    soundfile.write(data, np.clip(samples, -1, 1), clip.sample_rate, format="MP3")
    coded = base64.b64encode(data.getvalue()).decode()
    return f'<audio controls preload="auto" style="width:100%" src="data:audio/mpeg;base64,{coded}"></audio>'


def roll_svg(performance: types.Performance) -> str:
    """Notes over seconds: height is pitch, opacity velocity, colour the staff if the score is known; pedal below."""
    if not len(performance):
        return "<p>No notes.</p>"
    low, high = int(performance.pitch.min()) - 2, int(performance.pitch.max()) + 2
    scale = _WIDTH / max(performance.end_sec, 1.0)
    tall = (high - low + 1) * _NOTE_PX
    colour = [_HANDS.get(int(staff), _HANDS[0]) for staff in _staves(performance)]
    notes = "".join(
        f'<rect class="note" x="{onset * scale:.2f}" y="{(high - pitch) * _NOTE_PX}" '
        f'width="{max(length * scale, 1):.2f}" height="{_NOTE_PX}" fill="{fill}" '
        f'opacity="{0.3 + 0.7 * velocity / 127:.2f}"/>'
        for onset, length, pitch, velocity, fill in zip(
            performance.onset_sec.tolist(), performance.duration_sec.tolist(), performance.pitch.tolist(),
            performance.velocity.tolist(), colour, strict=True,
        )
    )  # fmt: skip
    pedal = "".join(
        f'<rect class="pedal" x="{a * scale:.2f}" y="{tall + 4}" width="{max((b - a) * scale, 0.5):.2f}" '
        f'height="{_PEDAL_PX - 4}" fill="#868e96"/>'
        for a, b in _pedal_down(performance)
    )
    every = next(s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 3600) if performance.end_sec / s <= 20)
    lines = "".join(
        f'<line x1="{t * scale:.1f}" x2="{t * scale:.1f}" y1="0" y2="{tall}" stroke="#ddd"/>'
        f'<text x="{t * scale + 2:.1f}" y="{tall + 24}" font-size="10" fill="#666">{t} s</text>'
        for t in range(0, int(performance.end_sec) + 1, every)
    )
    return (
        f'<svg class="roll" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {tall + 28}" '
        f'style="width:100%" role="img" aria-label="Piano roll">{lines}{notes}{pedal}</svg>'
    )


def _staves(performance: types.Performance) -> NDArray[np.int64]:
    """Staff of each played note, 0 if unknown."""
    out = np.zeros(len(performance), np.int64)
    score, alignment = (getattr(performance, name, None) for name in ("score", "alignment"))
    if score is not None:
        pairs = alignment or types.Alignment.identity(min(len(score), len(performance)))
        out[pairs.performance_index] = score.staff[pairs.score_index]
    return out


def _pedal_down(performance: types.Performance) -> list[tuple[float, float]]:
    """(from, to) seconds in which the sustain pedal is down."""
    spans, since = [], None
    for sec, value in zip(performance.pedal_sec.tolist(), performance.pedal_value.tolist(), strict=True):
        if value >= 64 and since is None:
            since = sec
        elif value < 64 and since is not None:
            spans.append((since, sec))
            since = None
    return spans if since is None else [*spans, (since, max(since, performance.end_sec))]


def waveform_svg(clip: types.AudioClip, columns: int = _WIDTH, height: int = 80) -> str:
    """The peak amplitude per column, of the mean of the channels."""
    samples = np.abs(clip.samples if clip.channels == 1 else clip.samples.mean(1))
    edges = np.linspace(0, len(samples), min(columns, max(len(samples), 1)) + 1).astype(int)
    peaks = np.maximum.reduceat(np.append(samples, 0), edges[:-1]) if len(samples) else np.zeros(1)
    step, middle = _WIDTH / len(peaks), height / 2
    bars = "".join(f"M{k * step:.1f} {middle - p * middle:.1f}V{middle + p * middle:.1f}" for k, p in enumerate(peaks))
    return (
        f'<svg class="waveform" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'style="width:100%" role="img" aria-label="Waveform"><path d="{bars}" stroke="#1c7ed6"/></svg>'
    )
