"""Parser of MIDI bytes: limits and plain arrays, without musical interpretation.

symusic reads the events; its onsets and durations are mido's in 71 files (docs/reading.md). It drops notes without an
end, which mido finds.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict, deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.limits import MAX_SCORE_NOTES, MIDI_BYTES, MIDI_MINUTES
from engine.music.types import BadInput, Remark

MAX_EVENTS = 5_000  # tempo and time signature changes together
MAX_PEDALS = 200_000  # sustain events: 30 minutes of a continuous pedal read 100 times a second
_UNENDED_BYTES = 500_000  # larger files are not searched for unterminated notes
_DRUMS = 9  # the channel
_RESET = 121  # controller "reset all controllers", which lifts the pedal
_ALL_OFF = (120, 123, 124, 125, 126, 127)  # controllers that end the notes of their channel
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
    mended, mended_tick       remarks on omissions and changes, with counts; first tick of each
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
    mended_tick: tuple[int, ...] = ()

    def seconds(self, tick: NDArray) -> NDArray[np.float64]:
        """Seconds from the file's start for ticks of any shape."""
        per_tick = self.tempo_mspq / 1e6 / self.ticks_per_quarter
        reached = np.concatenate([[0.0], np.cumsum(np.diff(self.tempo_tick) * per_tick[:-1])])
        i = np.searchsorted(self.tempo_tick, tick, side="right") - 1
        return reached[i] + (tick - self.tempo_tick[i]) * per_tick[i]


def parse_midi(data: bytes) -> MidiFile:
    """Read a MIDI file within the limits above, without percussion. Raises BadInput for an invalid file, one without
    notes, or one over a limit.
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
    held = _hold(notes, _unended(data))
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
    drums = [int(n.time) for t in tracks if t.is_drum for n in t.notes]
    short = notes["time"][notes["duration"] < 1].tolist()
    extreme = [int(t.time) for t in tempos if not 60e6 / FASTEST_BPM - 1 <= t.mspq <= 60e6 / SLOWEST_BPM + 1]
    impossible = sum(len(t.notes) for t in pitched) + len(held) - len(notes["time"])
    found = [
        ("drum note", "left out", drums),
        ("impossible note", "left out", [0] * impossible),
        ("note without length", "given the shortest length", short),
        ("extreme tempo", f"brought into {SLOWEST_BPM:.0f} to {FASTEST_BPM:.0f} quarters a minute", extreme),
        ("unusable time signature", "left out", [t for t, *meter in meters if not _is_meter(*meter)]),
        ("unusable key signature", "left out", [int(k.time) for k in keys if not -7 <= k.key <= 7]),
        ("pedal event after the end", "left out", pedal_tick[~inside].tolist()),
    ]
    remarks = [(min(at), Remark(0, what, _counted(len(at), what, done))) for what, done, at in found if at]
    for pitch in sorted({n.pitch for n in held if not n.stopped}):
        at = [n.tick for n in held if n.pitch == pitch and not n.stopped]
        text = _counted(len(at), "note without end", "held until its track ends")
        remarks.append((min(at), Remark(0, f"note {pitch}", text)))
    return replace(
        read, pedal_tick=pedal_tick[inside], pedal_value=pedal_value[inside],
        mended=tuple(r for _, r in remarks), mended_tick=tuple(t for t, _ in remarks),
    )  # fmt: skip


@dataclass(frozen=True)
class _Unended:
    """A note without a note-off; it ends with its track, or is stopped by an "all notes off" for its channel."""

    tick: int
    end: int
    pitch: int
    velocity: int
    stopped: bool = False


def _unended(data: bytes) -> list[_Unended]:
    """The unterminated notes of a file, without percussion. symusic drops such notes, so mido finds them."""
    import mido

    if len(data) > _UNENDED_BYTES:
        return []
    try:
        file = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except Exception:  # any error of mido on a file that symusic could read
        return []
    lost: list[_Unended] = []
    for track in file.tracks:
        sounding: dict[tuple[int, int], deque[tuple[int, int]]] = defaultdict(deque)  # tick and velocity
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "control_change" and message.control in _ALL_OFF:
                for (channel, note), open_ in sounding.items():
                    if channel == message.channel:
                        lost += [_Unended(start, tick, note, velocity, True) for start, velocity in open_]
                        open_.clear()
            if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
                continue
            open_ = sounding[message.channel, message.note]
            if message.type == "note_on" and message.velocity:
                open_.append((tick, message.velocity))
            elif open_:
                open_.popleft()
        lost += [_Unended(start, tick, note, v) for (_, note), open_ in sounding.items() for start, v in open_]
    return [n for n in lost if n.end > n.tick]


def _hold(notes: dict[str, NDArray[np.int64]], unended: list[_Unended]) -> list[_Unended]:
    """Add unterminated notes to the sounding notes, on the track with the closest pitches; returns those added."""
    tracks = np.unique(notes["track"])
    mean = [notes["pitch"][notes["track"] == t].mean() for t in tracks]
    known = set(zip(notes["time"].tolist(), notes["pitch"].tolist(), notes["duration"].tolist(), strict=True))
    added = [n for n in unended if (n.tick, n.pitch, n.end - n.tick) not in known]
    columns = {
        "time": [n.tick for n in added], "duration": [n.end - n.tick for n in added],
        "pitch": [n.pitch for n in added], "velocity": [n.velocity for n in added],
        "track": [int(tracks[np.argmin(np.abs(np.array(mean) - n.pitch))]) for n in added],
    }  # fmt: skip
    for name, values in columns.items():
        notes[name] = np.concatenate([notes[name], np.array(values, np.int64)])
    order = np.lexsort((notes["track"], notes["pitch"], notes["time"]))
    for name in columns:
        notes[name] = notes[name][order]
    return added


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
        values = {name: values[name].astype(np.int64) for name in ("time", "duration", "pitch", "velocity")}
        values["duration"] = _until_all_off(track, values["time"], values["duration"])
        for name, column in values.items():
            columns[name].append(column)
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


def _until_all_off(track: Any, time: NDArray[np.int64], duration: NDArray[np.int64]) -> NDArray[np.int64]:
    """Durations (n,) cut where an "all notes off" for the channel comes while the note sounds."""
    if not len(track.controls):
        return duration
    controls = track.controls.numpy()
    stops = np.unique(controls["time"][np.isin(controls["number"], _ALL_OFF)].astype(np.int64))
    if not len(stops):
        return duration
    following = np.searchsorted(stops, time, side="right")
    stop = np.where(following < len(stops), stops[np.minimum(following, len(stops) - 1)], np.iinfo(np.int64).max)
    return np.minimum(duration, stop - time)


def _tempo(tempos: list) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(tick, microseconds per quarter) of the tempo map, clamped, from tick 0; the last of several at one tick is
    used."""
    by_tick = {0: 500_000}
    for t in sorted(tempos, key=lambda t: t.time):
        if t.time >= 0:
            by_tick[int(t.time)] = int(np.clip(t.mspq, 60e6 / FASTEST_BPM, 60e6 / SLOWEST_BPM))
    return np.array(sorted(by_tick), np.int64), np.array([by_tick[k] for k in sorted(by_tick)], np.int64)


def _pedal(tracks: list) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(tick, value) of every sustain event, ascending; "reset all controllers" lifts the pedal."""
    times, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for track in tracks:
        if len(track.controls):
            controls = track.controls.numpy()
            reset = controls["number"] == _RESET
            sustain = ((controls["number"] == 64) | reset) & (controls["time"] >= 0)
            times.append(controls["time"][sustain].astype(np.int64))
            value = np.clip(controls["value"].astype(np.int64), 0, 127)
            values.append(np.where(reset, 0, value)[sustain])
    tick, value = np.concatenate(times), np.concatenate(values)
    order = np.argsort(tick, kind="stable")
    return tick[order][:MAX_PEDALS], value[order][:MAX_PEDALS]


def _is_meter(numerator: int, denominator: int) -> bool:
    return 1 <= numerator <= 64 and denominator in (1, 2, 4, 8, 16, 32, 64)


def _clean(text: str) -> str:
    """A name as one printable line of at most 200 characters."""
    return "".join(c for c in text if c.isprintable() and c != "\ufffd").strip()[:200]
