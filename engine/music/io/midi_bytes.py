"""The bytes of a MIDI file, checked against limits and turned into plain arrays; nothing musical is decided here."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.limits import MAX_SCORE_NOTES, MIDI_BYTES, MIDI_MINUTES
from engine.music.types import BadInput, Remark

MAX_EVENTS = 5_000  # tempo and time signature changes together
MAX_PEDALS = 200_000  # sustain events: 30 minutes of a continuous pedal read 100 times a second
_UNENDED_BYTES = 500_000  # files up to this are searched for notes without an end
_DRUMS = 9  # the channel
SLOWEST_BPM, FASTEST_BPM = 10.0, 400.0  # quarters per minute; tempi outside are clamped


@dataclass(frozen=True)
class MidiFile:
    """A MIDI file as read: times in ticks, notes of all tracks together in order of (onset, pitch).

    ticks_per_quarter
    onset_tick, end_tick      (n,) end > onset
    pitch, velocity           (n,)
    track                     (n,) index of the track and channel that has the note, counted from 0
    track_name                one a track
    pedal_tick, pedal_value   (p,) sustain pedal (controller 64), ascending
    tempo_tick, tempo_mspq    (t,) microseconds per quarter; starts at tick 0
    tempo_written             False when the file has no tempo event and 120 is assumed
    meter                     (tick, numerator, denominator) each, ascending; may be empty
    key                       (tick, fifths) each, ascending; may be empty
    mended                    remarks about what was left out or changed in reading, each with its count
    """

    ticks_per_quarter: int
    onset_tick: NDArray[np.int64]
    end_tick: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    track: NDArray[np.int64]
    track_name: tuple[str, ...]
    pedal_tick: NDArray[np.int64]
    pedal_value: NDArray[np.int64]
    tempo_tick: NDArray[np.int64]
    tempo_mspq: NDArray[np.int64]
    tempo_written: bool
    meter: tuple[tuple[int, int, int], ...]
    key: tuple[tuple[int, int], ...]
    mended: tuple[Remark, ...] = ()

    def seconds(self, tick: NDArray) -> NDArray[np.float64]:
        """Seconds from the file's start for ticks of any shape."""
        per_tick = self.tempo_mspq / 1e6 / self.ticks_per_quarter
        reached = np.concatenate([[0.0], np.cumsum(np.diff(self.tempo_tick) * per_tick[:-1])])
        i = np.searchsorted(self.tempo_tick, tick, side="right") - 1
        return reached[i] + (tick - self.tempo_tick[i]) * per_tick[i]


def parse_midi(data: bytes) -> MidiFile:
    """Read a MIDI file within the limits above; percussion is left out.

    Raises BadInput, one sentence, for anything that is no MIDI file, has no notes, or is past a limit.
    """
    from symusic import Score as SymusicScore

    if len(data) > MIDI_BYTES:
        raise BadInput(f"This MIDI file has {len(data) / 1e6:.1f} MB; up to {MIDI_BYTES / 1e6:.0f} MB is accepted.")
    if data[:4] != b"MThd":
        raise BadInput("This is not a MIDI file (it does not begin with MThd); choose a .mid file.")
    try:
        file = SymusicScore.from_midi(bytes(data))
        ticks_per_quarter = int(file.ticks_per_quarter)
        tracks = [t for t in file.tracks if len(t.notes) or len(t.controls)]
        tempos, meters, keys = file.tempos, file.time_signatures, file.key_signatures
    except (RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise BadInput(
            "This MIDI file is damaged or of an unusual kind; export it again as a standard MIDI file."
        ) from error
    if not 1 <= ticks_per_quarter <= 32_767:
        raise BadInput(f"This MIDI file has {ticks_per_quarter} ticks a quarter note; 1 to 32767 are accepted.")
    if len(tempos) + len(meters) > MAX_EVENTS:
        raise BadInput(
            f"This MIDI file has {len(tempos) + len(meters)} tempo and meter changes; up to {MAX_EVENTS} are accepted."
        )
    if sum(len(t.notes) for t in tracks) > MAX_SCORE_NOTES:
        raise BadInput(f"This MIDI file has more than {MAX_SCORE_NOTES} notes; open a part of it.")
    if sum(len(t.controls) for t in tracks) > 3 * MAX_PEDALS:
        raise BadInput(
            f"This MIDI file has more than {3 * MAX_PEDALS} controller events; export it again without them."
        )
    pitched = [t for t in tracks if not t.is_drum]
    notes = _notes(pitched)
    if len(notes["time"]) == 0:
        raise BadInput("This MIDI file has no piano notes; a file with at least one note is needed.")
    tempo_tick, tempo_mspq = _tempo(tempos)
    pedal_tick, pedal_value = _pedal(pitched)
    end = notes["time"] + np.maximum(notes["duration"], 1)
    meters = [(int(m.time), int(m.numerator), int(m.denominator)) for m in meters]
    read = MidiFile(
        ticks_per_quarter, notes["time"], end, notes["pitch"], notes["velocity"], notes["track"],
        tuple(_clean(t.name) for t in pitched if len(t.notes)), pedal_tick, pedal_value,
        tempo_tick, tempo_mspq, len(tempos) > 0,
        tuple(m for m in meters if _is_meter(*m[1:])),
        tuple((int(k.time), int(k.key)) for k in keys if -7 <= k.key <= 7),
    )  # fmt: skip
    last = float(read.seconds(read.end_tick).max())
    if not np.isfinite(last) or last > 60 * MIDI_MINUTES:
        raise BadInput(f"This MIDI file lasts {last / 60:.0f} minutes; up to {MIDI_MINUTES} are accepted.")
    inside = read.seconds(pedal_tick) <= 60 * MIDI_MINUTES
    counts = (
        ("drum note", "left out", sum(len(t.notes) for t in tracks if t.is_drum)),
        ("impossible note", "left out", sum(len(t.notes) for t in pitched) - len(notes["time"])),
        ("note without length", "given the shortest length", int((notes["duration"] < 1).sum())),
        (
            "extreme tempo", f"brought into {SLOWEST_BPM:.0f} to {FASTEST_BPM:.0f} quarters a minute",
            sum(not 60e6 / FASTEST_BPM - 1 <= t.mspq <= 60e6 / SLOWEST_BPM + 1 for t in tempos),
        ),
        ("unusable time signature", "left out", len(meters) - len(read.meter)),
        ("unusable key signature", "left out", len(keys) - len(read.key)),
        ("pedal event after the end", "left out", int((~inside).sum())),
    )  # fmt: skip
    mended = _unended(data) + tuple(Remark(0, what, _counted(n, what, done)) for what, done, n in counts if n)
    return replace(read, pedal_tick=pedal_tick[inside], pedal_value=pedal_value[inside], mended=mended)


def _unended(data: bytes) -> tuple[Remark, ...]:
    """A remark for each key with a note that has no end; such notes are left out. () where that cannot be seen."""
    import mido

    if len(data) > _UNENDED_BYTES:
        return ()
    try:
        file = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except Exception:  # whatever mido met in a stranger's file, which was read by another library
        return ()
    lost: Counter[int] = Counter()
    for track in file.tracks:
        sounding: Counter[tuple[int, int]] = Counter()
        for message in track:
            if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
                continue
            key = message.channel, message.note
            if message.type == "note_on" and message.velocity:
                sounding[key] += 1
            else:
                sounding[key] = max(sounding[key] - 1, 0)
        lost.update({note: count for (_, note), count in sounding.items() if count})
    return tuple(
        Remark(0, f"note {note}", _counted(count, "note without end", "left out"))
        for note, count in sorted(lost.items())
    )


def _counted(n: int, what: str, done: str) -> str:
    """
    >>> _counted(2, "note without length", "left out"), _counted(1, "drum note", "left out")
    ('2 notes without length are left out', '1 drum note is left out')
    """
    if n == 1:
        return f"1 {what} is {done}"
    words = re.sub(r"\b(note|event|tempo|signature)\b", r"\1s", what, count=1)
    return f"{n:,} {words} are {done}"


def _notes(tracks: list) -> dict[str, NDArray[np.int64]]:
    """The sounding notes of all tracks, sorted by (onset, pitch, track)."""
    columns: dict[str, list] = {name: [] for name in ("time", "duration", "pitch", "velocity", "track")}
    number = 0
    for track in tracks:
        if len(track.notes) == 0:
            continue
        values = track.notes.numpy()
        for name in ("time", "duration", "pitch", "velocity"):
            columns[name].append(values[name].astype(np.int64))
        columns["track"].append(np.full(len(values["time"]), number))
        number += 1
    if not number:
        return {name: np.zeros(0, np.int64) for name in columns}
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    good = (joined["pitch"] >= 0) & (joined["pitch"] <= 127) & (joined["velocity"] >= 1) & (joined["time"] >= 0)
    joined = {name: values[good] for name, values in joined.items()}
    joined["velocity"] = np.minimum(joined["velocity"], 127)
    order = np.lexsort((joined["track"], joined["pitch"], joined["time"]))
    return {name: values[order] for name, values in joined.items()}


def _tempo(tempos: list) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(tick, microseconds per quarter) of the tempo map, clamped, from tick 0; of several at a tick the last counts."""
    by_tick = {0: 500_000}
    for t in sorted(tempos, key=lambda t: t.time):
        if t.time >= 0:
            by_tick[int(t.time)] = int(np.clip(t.mspq, 60e6 / FASTEST_BPM, 60e6 / SLOWEST_BPM))
    return np.array(sorted(by_tick), np.int64), np.array([by_tick[k] for k in sorted(by_tick)], np.int64)


def _pedal(tracks: list) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(tick, value) of every sustain event, ascending."""
    times, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for track in tracks:
        if len(track.controls):
            controls = track.controls.numpy()
            sustain = (controls["number"] == 64) & (controls["time"] >= 0)
            times.append(controls["time"][sustain].astype(np.int64))
            values.append(np.clip(controls["value"][sustain].astype(np.int64), 0, 127))
    tick, value = np.concatenate(times), np.concatenate(values)
    order = np.argsort(tick, kind="stable")
    return tick[order][:MAX_PEDALS], value[order][:MAX_PEDALS]


def _is_meter(numerator: int, denominator: int) -> bool:
    return 1 <= numerator <= 64 and denominator in (1, 2, 4, 8, 16, 32, 64)


def _clean(text: str) -> str:
    """A name as one printable line of at most 200 characters."""
    return "".join(c for c in text if c.isprintable() and c != "\ufffd").strip()[:200]
