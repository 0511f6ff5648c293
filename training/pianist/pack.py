"""The data pack: aligned performances in one compressed .npz (format 1). Each score is stored once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Expression, Marks, Measures, PageEvents, Score

FORMAT = 1
_QUARTER = 10_080
_NOTE = {
    "onset": np.int32,
    "duration": np.int32,
    "pitch": np.uint8,
    "spelling": np.int8,
    "staff": np.int8,
    "voice": np.uint8,
    "grace": np.bool_,
}
_MEASURE = {
    "m_onset": np.int32,
    "m_duration": np.int32,
    "m_position": np.int32,
    "m_num": np.int16,
    "m_den": np.int16,
    "m_fifths": np.int8,
}
# performed values: stored integer = round(value * factor)
_PERFORMED = {
    "log2_beat_period": (np.int16, 2000),
    "timing_sec": (np.int16, 5000),
    "velocity": (np.uint8, 1),
    "articulation_log2": (np.int8, 24),
}


@dataclass(frozen=True)
class PackedPerformance:
    """One performance of the pack."""

    name: str
    work: str
    split: str
    composer: int
    score: Score
    expression: Expression


class PackWriter:
    """Collect performances, then `save`."""

    def __init__(self) -> None:
        self.scores: list[Score] = []
        self.score_of: dict[str, int] = {}
        self.items: list[tuple[str, str, str, int, int]] = []
        self.expressions: list[Expression] = []

    @property
    def count(self) -> int:
        return len(self.items)

    def add(self, name: str, work: str, split: str, composer: int, score: Score, expression: Expression) -> None:
        parts = (
            score.onset_quarter,
            score.duration_quarter,
            score.pitch,
            score.marks.table,
            score.measures.onset_quarter,
        )
        key = hashlib.sha1(b"".join(np.ascontiguousarray(a).tobytes() for a in parts)).hexdigest()
        if key not in self.score_of:
            self.score_of[key] = len(self.scores)
            self.scores.append(score)
        self.items.append((name, work, split, composer, self.score_of[key]))
        self.expressions.append(expression)

    def summary(self) -> str:
        splits = [s for _, _, s, _, _ in self.items]
        notes = sum(int(e.played.sum()) for e in self.expressions)
        works = len({w for _, w, _, _, _ in self.items})
        counts = ", ".join(f"{splits.count(s)} {s}" for s in sorted(set(splits)))
        return (
            f"{self.count} performances ({counts}) of {works} works, {len(self.scores)} scores, {notes:,} played notes"
        )

    def save(self, path: Path) -> None:
        def q(values: NDArray) -> NDArray:
            return np.round(np.asarray(values) * _QUARTER)

        notes = [
            (q(s.onset_quarter), q(s.duration_quarter), s.pitch, s.spelling, s.staff, np.clip(s.voice, 0, 255), s.grace)
            for s in self.scores
        ]
        measures = [
            (q(m.onset_quarter), q(m.duration_quarter), q(m.position_quarter), m.ts_num, m.ts_den, m.fifths)
            for m in (s.measures for s in self.scores)
        ]
        out = {k: np.concatenate([row[i] for row in notes]).astype(t) for i, (k, t) in enumerate(_NOTE.items())}
        out |= {k: np.concatenate([row[i] for row in measures]).astype(t) for i, (k, t) in enumerate(_MEASURE.items())}
        out["event_quarter"] = q(np.concatenate([s.events.quarter for s in self.scores])).astype(np.int32)
        out["event_kind"] = np.concatenate([s.events.kind for s in self.scores]).astype(np.int8)
        out["event_ptr"] = np.cumsum([0, *(len(s.events) for s in self.scores)])
        out["marks"] = np.concatenate([s.marks.table for s in self.scores]).astype(np.int16).T.copy()
        out["score_ptr"] = np.cumsum([0, *(len(s) for s in self.scores)])
        out["measure_ptr"] = np.cumsum([0, *(len(s.measures) for s in self.scores)])
        for k, (dtype, factor) in _PERFORMED.items():
            values = [np.log2(e.beat_period) if k == "log2_beat_period" else getattr(e, k) for e in self.expressions]
            limits = np.iinfo(dtype)
            out[k] = np.clip(np.round(np.concatenate(values) * factor), limits.min, limits.max).astype(dtype)
        out["pedal"] = np.concatenate([e.pedal for e in self.expressions]).round().astype(np.uint8).T.copy()
        out["played"] = np.concatenate([e.played for e in self.expressions])
        out["note_ptr"] = np.cumsum([0, *(len(e) for e in self.expressions)])
        for i, k in enumerate(("name", "work", "split", "composer", "score")):
            out[k] = np.array([item[i] for item in self.items])
        np.savez_compressed(path, format=FORMAT, **out)


class Pack:
    """Read a pack; `item(i)` is performance i."""

    def __init__(self, path: str | Path):
        with np.load(path) as z:
            if int(z["format"]) != FORMAT:
                raise ValueError(
                    f"{path} is format {int(z['format'])}, {FORMAT} is read here; run training.pianist.prepare again"
                )
            self.columns = {k: z[k] for k in z.files}
        self.digest = hashlib.sha1(Path(path).read_bytes()).hexdigest()[:12]
        self._scores: dict[int, Score] = {}

    def __len__(self) -> int:
        return len(self.columns["name"])

    def score(self, k: int) -> Score:
        if k not in self._scores:
            c = self.columns
            note, bar = slice(*c["score_ptr"][k : k + 2]), slice(*c["measure_ptr"][k : k + 2])
            measures = Measures(
                c["m_onset"][bar] / _QUARTER, c["m_duration"][bar] / _QUARTER, c["m_position"][bar] / _QUARTER,
                c["m_num"][bar], c["m_den"][bar], c["m_fifths"][bar], np.arange(1, bar.stop - bar.start + 1),
            )  # fmt: skip
            events = PageEvents()
            if "event_ptr" in c:  # older packs have no page events
                of = slice(*c["event_ptr"][k : k + 2])
                events = PageEvents(np.sort(c["event_quarter"][of] / _QUARTER), c["event_kind"][of])
            self._scores[k] = Score(
                c["onset"][note] / _QUARTER, c["duration"][note] / _QUARTER, c["pitch"][note], c["spelling"][note],
                c["staff"][note], c["voice"][note], c["grace"][note], Marks(c["marks"][:, note].T), measures,
                events=events,
            )  # fmt: skip
        return self._scores[k]

    def item(self, i: int) -> PackedPerformance:
        c = self.columns
        note = slice(*c["note_ptr"][i : i + 2])
        value = {k: c[k][note] / factor for k, (_, factor) in _PERFORMED.items()}
        expression = Expression(
            np.exp2(value["log2_beat_period"]), value["timing_sec"], np.maximum(value["velocity"], 1),
            value["articulation_log2"], c["pedal"][:, note].T, c["played"][note],
        )  # fmt: skip
        return PackedPerformance(
            str(c["name"][i]),
            str(c["work"][i]),
            str(c["split"][i]),
            int(c["composer"][i]),
            self.score(int(c["score"][i])),
            expression,
        )
