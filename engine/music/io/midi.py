"""Reading MIDI files as scores or performances, and writing performances.

`write_midi` is for playback (a tick is a millisecond); `write_midi_locked` is for music programs: it aligns the score's
bars and beats with the performance.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.music.engraving.hands import split_hands
from engine.music.engraving.spelling import spell
from engine.music.io.midi_bytes import FASTEST_BPM, SLOWEST_BPM, MidiFile, parse_midi
from engine.music.types import MARK_NAMES, BadInput, Marks, Measures, Performance, Remark, Score

MAX_MEASURES = 5_000
_GRIDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 5, 10, 20, 32, 7, 14, 28, 9, 18)  # parts of a quarter, in order of preference
_PERFORMED_GRID = 12  # divisions of a quarter for rounding a live recording read as a score
_MIN_QUARTER = 1 / 32  # minimum length of a written note
_GUESSED = Remark(1, "notes", "from here on this is a live recording, so its bars and note values are a guess")
_TICKS_PER_SECOND = 1000  # of write_midi
_LOOSE_VELOCITY = 64  # of a note without a dynamic mark
_LOCKED_TICKS = 480  # per quarter, of write_midi_locked
_NAMELESS = (
    "piano",
    "track",
    "staff",
    "midi",
    "untitled",
    "instrument",
    "right",
    "left",
    "upper",
    "lower",
    "acoustic",
    "grand",
)


def read_midi_performance(data: bytes) -> Performance:
    """Read a MIDI file as a performance: every note and sustain-pedal event of all its tracks, in seconds.

    Notes come sorted by (onset, pitch). Raises BadInput for an invalid MIDI file or one over a limit of `midi_bytes`.
    """
    file = parse_midi(data)
    onset, end = file.seconds(file.onset_tick), file.seconds(file.end_tick)
    order = np.lexsort((file.pitch, onset))
    return Performance(
        onset[order], np.maximum(end - onset, 1e-3)[order], file.pitch[order], file.velocity[order],
        file.seconds(file.pedal_tick), file.pedal_value,
    )  # fmt: skip


def read_midi_score(data: bytes) -> Score:
    """Read a MIDI file as a score: quarters, measures, hands, note names; without repeats. Onsets and ends within a
    tick of a simple fraction of a quarter are rounded to it, others are kept exactly. Unisons stay two notes. Two
    tracks are the two staves (the higher one is the upper); a single track is divided between the hands. Varying
    velocities become the mark `written_velocity`, tempo events `tempo_bpm` (a single 120, a common default, is
    ignored). A live recording without a grid is rounded to twelfths of a quarter, with a remark that its bars are
    guesses. Raises BadInput as `read_midi_performance`, and for more than 5,000 measures.
    """
    file = parse_midi(data)
    performed = _off_grid(file)
    onset = _quarters(file.onset_tick, file.ticks_per_quarter, performed)
    end = _quarters(file.end_tick, file.ticks_per_quarter, performed)
    duration = np.where(end > onset, end - onset, 1 / _PERFORMED_GRID if performed else _MIN_QUARTER)
    order = np.lexsort((-duration, file.pitch, onset))
    onset, duration, pitch, velocity, track = (
        a[order] for a in (onset, duration, file.pitch, file.velocity, file.track)
    )
    measures = _measures(file, float((onset + duration).max()))
    table = np.zeros((len(onset), len(MARK_NAMES)), np.int16)
    if velocity.min() != velocity.max():
        table[:, MARK_NAMES.index("written_velocity")] = velocity
    if file.tempo_written and (len(file.tempo_tick) > 1 or file.tempo_mspq[0] != 500_000):
        i = np.searchsorted(file.tempo_tick, file.onset_tick[order], side="right") - 1
        table[:, MARK_NAMES.index("tempo_bpm")] = np.round(60e6 / file.tempo_mspq[i])
    spelling = spell(pitch, file.key[0][1] if file.key else None)
    voice = track + 1 if len(file.track_name) > 2 else np.zeros(len(onset))
    return Score(
        onset, duration, pitch, spelling, _staff(onset, duration, pitch, track), voice, np.zeros(len(onset), bool),
        Marks(table), measures, title=_title(file), remarks=_remarks(file, measures, performed),
    )  # fmt: skip


def _remarks(file: MidiFile, measures: Measures, performed: bool) -> tuple[Remark, ...]:
    """Remarks on guesses and repairs, with their first bar."""
    at = np.array(file.mended_tick) / file.ticks_per_quarter
    bars = measures.number[np.maximum(np.searchsorted(measures.onset_quarter, at + 1e-6, side="right") - 1, 0)]
    mended = (replace(r, bar=int(bar)) for r, bar in zip(file.mended, bars, strict=True))
    return (*((_GUESSED,) if performed else ()), *mended)


def _off_grid(file: MidiFile) -> bool:
    """Whether under half of the onsets are on sixteenths or twelfths of a quarter; False for coarse files."""
    if file.ticks_per_quarter < 90:
        return False
    quarter = np.unique(file.onset_tick) / file.ticks_per_quarter
    off = np.minimum(*(np.abs(quarter - np.round(quarter * d) / d) for d in (16, 12)))
    return bool((off <= min(1.01 / file.ticks_per_quarter, 1 / 400)).mean() < 0.5) and len(quarter) >= 8


def _quarters(tick: NDArray, ticks_per_quarter: int, performed: bool) -> NDArray[np.float64]:
    """Ticks as quarters, rounded to a simple fraction of a quarter if within rounding error."""
    exact = tick / ticks_per_quarter
    if performed:
        return np.round(exact * _PERFORMED_GRID) / _PERFORMED_GRID
    near = (1.01 if ticks_per_quarter >= 240 else 0.51) / ticks_per_quarter
    out, open_ = exact.copy(), np.ones(len(exact), bool)
    for parts in _GRIDS if near < 0.01 else ():
        grid = np.round(exact * parts) / parts
        hit = open_ & (np.abs(exact - grid) <= near)
        out[hit] = grid[hit]
        open_ &= ~hit
    return out


def _measures(file: MidiFile, end: float) -> Measures:
    """Barlines from the time signatures, 4/4 when there is none; a bar cut short by a new signature stays short."""
    meters = {0: (4, 4)} | {round(tick / file.ticks_per_quarter, 6): (num, den) for tick, num, den in file.meter}
    starts = [s for s in sorted(meters) if s < end]
    rows = []
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        num, den = meters[start]
        nominal = 4 * num / den
        last = stop == end
        count = int(np.ceil(round((stop - start) / nominal, 6)))
        if len(rows) + count > MAX_MEASURES:
            raise BadInput(f"This MIDI file has more than {MAX_MEASURES} measures; open a part of it.")
        for k in range(count):
            at = start + k * nominal
            rows.append((at, nominal if last else min(nominal, stop - at), num, den))
    onset, duration, num, den = (np.array(c) for c in zip(*rows, strict=True))
    key_onset = np.array([-1.0] + [tick / file.ticks_per_quarter for tick, _ in file.key])
    fifths = np.array([0] + [f for _, f in file.key])
    in_force = np.searchsorted(key_onset, onset + 1e-6, side="right") - 1
    return Measures(onset, duration, np.zeros(len(onset)), num, den, fifths[in_force], np.arange(1, len(onset) + 1))


def _staff(onset: NDArray, duration: NDArray, pitch: NDArray, track: NDArray) -> NDArray[np.int8]:
    """1 upper, 2 lower, (n,): by track if there are several, otherwise by hand."""
    used = np.unique(track)
    if len(used) == 1:
        return split_hands(onset, duration, pitch)
    mean = np.array([pitch[track == t].mean() for t in used])
    upper = used[mean >= (mean.max() + mean.min()) / 2] if len(used) == 2 else used[mean >= 60]
    return np.where(np.isin(track, upper), 1, 2).astype(np.int8)


def _title(file: MidiFile) -> str:
    """The first track's name, unless it only names the instrument or the hand."""
    name = file.track_name[0] if file.track_name else ""
    return "" if name.lower().startswith(_NAMELESS) or len(name) < 4 else name


def write_midi(performance: Performance) -> bytes:
    """A performance as a MIDI file whose tick is one millisecond; the error of times is at most that. A held key is
    released 1 ms before its next stroke. If an event is before time 0, everything moves later.
    """
    shift = _shift(performance)
    onset = np.round((performance.onset_sec + shift) * _TICKS_PER_SECOND).astype(np.int64)
    end = np.round((performance.onset_sec + shift + performance.duration_sec) * _TICKS_PER_SECOND).astype(np.int64)
    pedal = np.round((performance.pedal_sec + shift) * _TICKS_PER_SECOND).astype(np.int64)
    tracks = [("", np.arange(len(performance)))]
    return _dump(
        performance, _TICKS_PER_SECOND // 2, onset, end, pedal, np.array([0]), np.array([500_000]), [], [], tracks
    )


def write_midi_as_written(score: Score) -> bytes:
    """A score as `write_midi_locked`, performed exactly as written; notes without a dynamic mark have velocity 64."""
    from engine.music.expression import deadpan

    written = score.marks["written_velocity"]
    return write_midi_locked(score, replace(deadpan(score), velocity=np.where(written > 0, written, _LOOSE_VELOCITY)))


def write_midi_locked(score: Score, performance: Performance) -> bytes:
    """A performance in score order as a MIDI file with the score's bars: one tempo event a beat, notes where played.

    480 ticks a quarter (more when a quarter takes over 0.9 s, so that errors stay under 2 ms); hands on two tracks;
    time and key signatures. Tick 0 is the barline before the first note, or that note if it starts at 0 s. Raises
    BadInput unless the performance has one note for each note of the score.
    """
    from engine.music.expression import beat_times

    if len(performance) != len(score):
        raise BadInput(
            f"This performance has {len(performance)} notes and the score {len(score)}; a beat-locked MIDI needs one "
            "played note for each written one, so perform the score first."
        )
    shift = _shift(performance)
    _, beat_sec, beat_quarter = beat_times(score, performance)
    quarter, sec = _with_lead_in(score.measures, beat_quarter, beat_sec + shift)
    ticks_per_quarter = _LOCKED_TICKS
    slowest = float(np.max(np.diff(sec) / np.diff(quarter), initial=0.5))
    while min(slowest, 60 / SLOWEST_BPM) / ticks_per_quarter > 0.9 / _LOCKED_TICKS:
        ticks_per_quarter *= 2
    tempo_tick, mspq, reached = _tempo_map(quarter, sec, ticks_per_quarter)

    def tick(seconds: NDArray) -> NDArray[np.int64]:
        i = np.maximum(np.searchsorted(reached, seconds, side="right") - 1, 0)
        return np.round(tempo_tick[i] + (seconds - reached[i]) * 1e6 / mspq[i] * ticks_per_quarter).astype(np.int64)

    onset_sec = performance.onset_sec + shift
    meters, keys = _signatures(score.measures, quarter[0], ticks_per_quarter)
    hands = [("Upper staff", np.flatnonzero(score.staff != 2)), ("Lower staff", np.flatnonzero(score.staff == 2))]
    return _dump(
        performance, ticks_per_quarter, tick(onset_sec), tick(onset_sec + performance.duration_sec),
        tick(performance.pedal_sec + shift), tempo_tick, mspq, meters, keys, [h for h in hands if len(h[1])],
    )  # fmt: skip


def _shift(performance: Performance) -> float:
    """Seconds to add so that nothing is before 0."""
    starts = [performance.onset_sec.min()] if len(performance) else []
    return float(max([0.0, *(-s for s in starts)]))


def _with_lead_in(measures: Measures, quarter: NDArray, sec: NDArray) -> tuple[NDArray, NDArray]:
    """Beats (quarter, seconds), both (k,), from a score position at 0 s: a barline before the first beat if the tempo
    between them is 10 to 400 a minute, else the first beat not before 0 s.
    """
    keep = sec > 1e-3
    quarter, sec = quarter[keep], sec[keep]
    if not len(sec):
        return np.array([0.0, 1.0]), np.array([0.0, 0.5])
    barlines = measures.onset_quarter[measures.onset_quarter < quarter[0] - 1e-6]
    bar = measures.ts_num[0] * 4.0 / measures.ts_den[0]
    first = barlines[-1] if len(barlines) else measures.onset_quarter[0] - bar
    for start in (first, first - bar, first - 2 * bar):
        bpm = 60 * (quarter[0] - start) / sec[0]
        if SLOWEST_BPM <= bpm <= FASTEST_BPM:
            return np.append(start, quarter), np.append(0.0, sec)
    return np.append(quarter[0] - np.clip(sec[0] / 0.5, 1 / 32, 64), quarter), np.append(0.0, sec)


def _tempo_map(quarter: NDArray, sec: NDArray, ticks_per_quarter: int) -> tuple[NDArray, NDArray, NDArray]:
    """One tempo event a beat: (tick, whole microseconds per quarter, resulting seconds), each (k,). A beat outside 10
    to 400 quarters a minute is clamped and the next beat compensates.
    """
    tick = np.round((quarter - quarter[0]) * ticks_per_quarter).astype(np.int64)
    tick, first = np.unique(tick, return_index=True)
    sec = sec[first]
    mspq, reached = [], [0.0]
    for i in range(len(tick) - 1):
        length = (tick[i + 1] - tick[i]) / ticks_per_quarter
        mspq.append(
            int(np.clip(round((sec[i + 1] - reached[i]) / length * 1e6), 60e6 / FASTEST_BPM, 60e6 / SLOWEST_BPM))
        )
        reached.append(reached[i] + mspq[i] * length / 1e6)
    mspq.append(mspq[-1] if mspq else 500_000)
    return tick, np.array(mspq), np.array(reached)


def _signatures(measures: Measures, start: float, ticks_per_quarter: int) -> tuple[list, list]:
    """Time signatures (tick, num, den), with one of its own for a bar of unusual length, and keys (tick, fifths)."""
    meters, keys = [], []
    first = int(np.searchsorted(measures.onset_quarter, start + 1e-6, side="right")) - 1
    for m in range(max(first, 0), len(measures)):
        begin = max(float(measures.onset_quarter[m]), start) if m > max(first, 0) else start
        length = float(measures.onset_quarter[m] + measures.duration_quarter[m]) - begin
        meter = (int(measures.ts_num[m]), int(measures.ts_den[m]))
        if abs(length - 4 * meter[0] / meter[1]) > 1e-6 and not (m == 0 and begin < measures.onset_quarter[0] - 1e-6):
            meter = _meter_of_length(length, meter)
        tick = round((begin - start) * ticks_per_quarter)
        if not meters or meters[-1][1:] != meter:
            meters.append((tick, *meter))
        if not keys or keys[-1][1] != measures.fifths[m]:
            keys.append((tick, int(measures.fifths[m])))
    return meters, keys


def _meter_of_length(length: float, meter: tuple[int, int]) -> tuple[int, int]:
    """A time signature for a bar of this length in quarters, in the units of `meter` if possible; `meter` if none
    fits."""
    for unit in (meter[1], 4, 8, 16, 32):
        count = length * unit / 4
        if abs(count - round(count)) < 1e-6 and 1 <= round(count) <= 64:
            return round(count), unit
    return meter


def _dump(
    performance: Performance, ticks_per_quarter: int, onset: NDArray, end: NDArray, pedal: NDArray,
    tempo_tick: NDArray, mspq: NDArray, meters: list, keys: list, tracks: list[tuple[str, NDArray]],
) -> bytes:  # fmt: skip
    """Assemble the file. `tracks` are (name, indices of notes); the first contains the pedal."""
    import symusic

    onset = np.maximum(onset, 0)
    end = _release_before_restrike(onset, np.maximum(end, onset + 1), performance.pitch)
    file = symusic.Score(ticks_per_quarter)
    for tick, tempo in zip(tempo_tick.tolist(), mspq.tolist(), strict=True):
        file.tempos.append(symusic.Tempo(tick, mspq=tempo))
    for tick, num, den in meters:
        file.time_signatures.append(symusic.TimeSignature(tick, num, den))
    for tick, fifths in keys:
        file.key_signatures.append(symusic.KeySignature(tick, fifths, 0))
    for number, (name, rows) in enumerate(tracks):
        track = symusic.Track(name, 0, False)
        rows = rows[np.lexsort((performance.pitch[rows], onset[rows]))]
        track.notes = symusic.Note.from_numpy(
            time=onset[rows].astype(np.int32), duration=(end - onset)[rows].astype(np.int32),
            pitch=performance.pitch[rows].astype(np.int8),
            velocity=np.clip(performance.velocity[rows], 1, 127).astype(np.int8),
        )  # fmt: skip
        if number == 0 and len(pedal):
            track.controls = symusic.ControlChange.from_numpy(
                time=np.maximum(pedal, 0).astype(np.int32), number=np.full(len(pedal), 64, np.uint8),
                value=np.clip(performance.pedal_value, 0, 127).astype(np.uint8),
            )  # fmt: skip
        file.tracks.append(track)
    return file.dumps_midi()


def _release_before_restrike(onset: NDArray, end: NDArray, pitch: NDArray) -> NDArray[np.int64]:
    """End each note at least one tick before its key is struck again (but after at least one), (n,) ticks.

    Notes struck together on one key are kept as they are.
    """
    order = np.lexsort((end, onset, pitch))
    same_key = np.diff(pitch[order]) == 0
    out, following = end.copy(), None
    for i in range(len(order) - 2, -1, -1):
        here, after = order[i], order[i + 1]
        if not same_key[i]:
            following = None
            continue
        following = onset[after] if onset[after] > onset[here] else following
        if following is not None:
            out[here] = max(onset[here] + 1, min(end[here], following - 1))
    return out
