"""The musical types of `engine.music.types` for a notebook: opened, saved, shown and converted.

Each is a subclass with the same fields, which the engine accepts; `of` converts a plain object. The repr is one line
instead of all arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.files import check_output, open_match_file, open_performance_file, open_score_file, write_output
from engine.measures.side_by_side import MEASURES, Played, agreements, measures_of, shape_of
from engine.music import types
from engine.music.types import BadInput

if TYPE_CHECKING:
    import pandas as pd

_MAJOR = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
_ALIGNED_COLUMNS = ("score_note", "performance_note")


def _save(path: str | Path, makes: dict[str, Any]) -> Path:
    """Write a file in the format of its ending; `makes` has a function for each ending. Raises BadInput."""
    path = Path(path)
    make = makes.get(path.suffix.lower())
    if make is None:
        raise BadInput(f'"{path.name}" is not a supported format; use {", ".join(makes)}.')
    check_output(path, [])
    write_output(path, make())
    return path


@dataclass(frozen=True, repr=False)
class Score(types.Score):
    """A written piece; for its fields see `engine.music.types.Score`."""

    @classmethod
    def of(cls, score: types.Score) -> Score:
        """The same score as this class."""
        return score if isinstance(score, cls) else cls(*(getattr(score, f.name) for f in fields(types.Score)))

    @classmethod
    def open(cls, path: str | Path) -> Score:
        """Read MusicXML, .mxl, MIDI, Humdrum kern, MEI, ABC, or the score of a match file. Raises BadInput."""
        path = Path(path)
        return cls.of(open_match_file(path)[0] if path.suffix.lower() == ".match" else open_score_file(path))

    def save(self, path: str | Path) -> Path:
        """Write MusicXML, MEI, MIDI as written or a page to print (.html), by the file's ending. Raises BadInput.

        A score that was read from MusicXML is saved into that document: only bars with changed notes differ.
        """
        from engine.music.document.pages import print_page
        from engine.music.io.midi import write_midi_as_written
        from engine.untrusted.saving import save_mei, save_musicxml, save_svg

        midi = lambda: write_midi_as_written(self)  # noqa: E731
        xml = lambda: save_musicxml(self)  # noqa: E731
        page = lambda: print_page(self, save_svg(self))  # noqa: E731
        return _save(path, {
            ".musicxml": xml, ".xml": xml, ".mei": lambda: save_mei(self), ".mid": midi, ".midi": midi, ".html": page,
        })  # fmt: skip

    def to_svg(self) -> list[str]:
        """The engraved A4 pages as SVG, without external resources. Raises BadInput if engraving fails."""
        from engine.untrusted.saving import save_svg

        return save_svg(self)

    @property
    def key(self) -> str:
        """The key signature at the beginning, named by its major key: "E flat major" is "Eb"."""
        return _MAJOR[int(np.clip(self.measures.fifths[0], -7, 7)) + 7]

    def __repr__(self) -> str:
        m = self.measures
        title = f', "{self.title}"' if self.title else ""
        return (
            f"Score: {len(self)} notes, {len(m)} bars, {m.ts_num[0]}/{m.ts_den[0]}, key signature of {self.key} major"
            f"{title}"
        )

    def _repr_html_(self) -> str:
        from engine.etude.show import score_html

        return score_html(self)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each note: bar, beat, onset, duration, name, pitch, staff, voice, grace."""
        import pandas as pd

        from engine.measures.note_tables import WRITTEN_COLUMNS, written_rows

        return pd.DataFrame(written_rows(self), columns=list(WRITTEN_COLUMNS))

    def to_partitura(self) -> Any:
        """partitura's Score, of one Part, repeats unfolded."""
        from engine.measures.match_file import to_partitura

        return to_partitura(self)[0]


@dataclass(frozen=True, repr=False)
class Performance(types.Performance):
    """A performance; for its fields see `engine.music.types.Performance`.

    score      its Score, None if unknown
    alignment  its alignment with the score; None means note i is note i
    """

    score: types.Score | None = field(default=None, compare=False)
    alignment: types.Alignment | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls, performance: types.Performance, score: types.Score | None = None, alignment: types.Alignment | None = None
    ) -> Performance:
        """The same performance as this class, of this score."""
        values = [getattr(performance, f.name) for f in fields(types.Performance)]
        return cls(*values, score, alignment)  # pyright: ignore[reportCallIssue]

    @classmethod
    def open(cls, path: str | Path) -> Performance:
        """Read a MIDI file, or a match file with its score. Raises BadInput."""
        path = Path(path)
        if path.suffix.lower() == ".match":
            score, performance, alignment = open_match_file(path)
            return cls.of(performance, Score.of(score), Alignment.of(alignment))
        return cls.of(open_performance_file(path))

    @classmethod
    def from_pretty_midi(cls, midi: Any) -> Performance:
        """The notes and the sustain pedal of every instrument of a PrettyMIDI object but the drums."""
        played = [i for i in midi.instruments if not i.is_drum]
        notes = sorted((n.start, n.pitch, n.end - n.start, n.velocity) for i in played for n in i.notes)
        pedal = sorted((c.time, c.value) for i in played for c in i.control_changes if c.number == 64)
        table, moves = np.array(notes, float).reshape(-1, 4), np.array(pedal, float).reshape(-1, 2)
        return cls(table[:, 0], table[:, 2], table[:, 1], table[:, 3].clip(1, 127), moves[:, 0], moves[:, 1])

    def to_pretty_midi(self) -> Any:
        """A PrettyMIDI object of one piano; controller 64 is the sustain pedal."""
        import pretty_midi

        midi, piano = pretty_midi.PrettyMIDI(), pretty_midi.Instrument(0, name="Piano")
        for onset, length, pitch, velocity in zip(
            self.onset_sec.tolist(), self.duration_sec.tolist(), self.pitch.tolist(), self.velocity.tolist()
        ):
            piano.notes.append(pretty_midi.Note(velocity, pitch, onset, onset + length))
        for sec, value in zip(self.pedal_sec.tolist(), self.pedal_value.tolist()):
            piano.control_changes.append(pretty_midi.ControlChange(64, value, sec))
        midi.instruments.append(piano)
        return midi

    def save(self, path: str | Path) -> Path:
        """Write MIDI as played; if the score is known, also a match file or MusicXML as played. Raises BadInput.

        MusicXML as played has `<sound tempo>` at every beat, the velocity, attack and release of each note, and pedal.
        """
        from engine.music.io.midi import write_midi

        def match() -> bytes:
            from engine.measures.match_file import write_match

            score, alignment = self.pair()
            return write_match(score, self, alignment)

        def played() -> bytes:
            from engine.music.document.as_played import note_for_note
            from engine.untrusted.saving import save_as_played

            score, alignment = self.pair()
            return save_as_played(score, note_for_note(score, self, alignment))

        midi = lambda: write_midi(self)  # noqa: E731
        return _save(path, {".mid": midi, ".midi": midi, ".match": match, ".musicxml": played, ".xml": played})

    def pair(self) -> tuple[types.Score, types.Alignment]:
        """Its score and alignment. Raises BadInput if the score is unknown."""
        if self.score is None:
            raise BadInput("This performance has no score; give it one with etude.align(score, performance).")
        return self.score, self.alignment or types.Alignment.identity(len(self.score))

    def __repr__(self) -> str:
        of = getattr(self.score, "title", "")
        return f"Performance: {len(self)} notes, {self.end_sec:.1f} s{f', of “{of}”' if of else ''}"

    def _repr_html_(self) -> str:
        from engine.etude.show import performance_html

        return performance_html(self)

    def export(self, kind: str, path: str | Path) -> Path:
        """Write a table or a file for another program: a kind of `engine.measures.exports`. Needs the score.

        kind  notes, beats (CSV), match, sv-beats, sv-tempo, sv-notes (Sonic Visualiser), labels (Audacity)
        """
        from engine.measures.exports import EXPORTS

        if kind not in EXPORTS:
            raise BadInput(f'There is no export "{kind}"; choose one of {", ".join(EXPORTS)}.')
        score, alignment = self.pair()
        check_output(Path(path), [])
        write_output(Path(path), EXPORTS[kind].make(score, self, alignment))
        return Path(path)

    def plot(self) -> Any:
        """Tempo, velocity, timing and articulation over the score, a plotly Figure. Needs the score."""
        from engine.measures.curves import curves_figure

        score, alignment = self.pair()
        return curves_figure(score, self, alignment=alignment)

    def to_pandas(self, rows: str = "notes") -> pd.DataFrame:
        """A row for each note or beat: see `engine.measures.note_tables`; without a score, the played notes.

        rows  "notes" or "beats"; beats need the score
        """
        import pandas as pd

        from engine.measures.note_tables import beat_table, note_table

        if rows not in ("notes", "beats"):
            raise BadInput(f'rows is "{rows}"; "notes" and "beats" are accepted.')
        if self.score is None and rows == "notes":
            columns = ("onset_sec", "duration_sec", "pitch", "velocity")
            return pd.DataFrame({name: getattr(self, name) for name in columns})
        score, alignment = self.pair()
        table = (note_table if rows == "notes" else beat_table)(score, self, alignment)
        return pd.DataFrame(table.rows, columns=list(table.columns))


@dataclass(frozen=True, repr=False)
class Alignment(types.Alignment):
    """The match of played and written notes; for its fields see `engine.music.types.Alignment`."""

    @classmethod
    def of(cls, alignment: types.Alignment) -> Alignment:
        """The same pairs as this class."""
        return cls(alignment.score_index, alignment.performance_index)

    def __repr__(self) -> str:
        return f"Alignment: {len(self)} pairs of notes"

    def to_pandas(self) -> pd.DataFrame:
        """A row for each pair: the numbers of the written and of the played note, from 0."""
        import pandas as pd

        return pd.DataFrame(dict(zip(_ALIGNED_COLUMNS, (self.score_index, self.performance_index), strict=True)))


@dataclass(frozen=True, repr=False)
class AudioClip(types.AudioClip):
    """Sound; for its fields see `engine.music.types.AudioClip`."""

    @classmethod
    def of(cls, clip: types.AudioClip) -> AudioClip:
        """The same sound as this class."""
        return cls(clip.samples, clip.sample_rate)

    @classmethod
    def open(cls, path: str | Path) -> AudioClip:
        """Read WAV, FLAC, OGG or MP3 of up to an hour, mixed to one channel. Raises BadInput."""
        from engine.sound.recording import read_recording

        return cls.of(read_recording(Path(path)))

    def save(self, path: str | Path) -> Path:
        """Write 16-bit WAV or FLAC, by the file's ending. Raises BadInput."""
        from engine.sound.clip import encode_audio

        return _save(path, {f".{k}": (lambda k=k: encode_audio(self, k)) for k in ("wav", "flac")})

    def __repr__(self) -> str:
        channels = "mono" if self.channels == 1 else "stereo"
        return f"AudioClip: {self.duration_sec:.1f} s, {self.sample_rate} Hz, {channels}"

    def _repr_html_(self) -> str:
        from engine.etude.show import clip_html

        return clip_html(self)


@dataclass(frozen=True, repr=False)
class Comparison:
    """Performances of one score, side by side; see `etude.compare`."""

    score: Score
    performances: dict[str, Performance]

    def __post_init__(self) -> None:
        played = [Played(n, p, p.pair()[1]) for n, p in self.performances.items()]
        object.__setattr__(self, "_shapes", [shape_of(self.score, p) for p in played])

    def __repr__(self) -> str:
        return f"Comparison: {', '.join(self.performances)}"

    def to_pandas(self) -> pd.DataFrame:
        """The measures: a row for each measure, a column for each performance, the unit beside the name."""
        import pandas as pd

        values = {s.name: measures_of(self.score, s) for s in self._shapes}  # type: ignore[attr-defined]
        index = pd.Index([f"{m.label}, {m.unit}" for m in MEASURES], name="measure")
        return pd.DataFrame({name: [v[m.name] for m in MEASURES] for name, v in values.items()}, index=index)

    def agreement(self) -> pd.DataFrame:
        """Pearson's r of each pair, for tempo, velocity, timing and articulation, and the number of common notes."""
        import pandas as pd

        return pd.DataFrame([vars(a) for a in agreements(self._shapes)])  # type: ignore[attr-defined]

    def plot(self) -> Any:
        """Their curves over the score, a plotly Figure."""
        from engine.measures.side_by_side_figures import stacked_figure

        return stacked_figure(self.score, self._shapes)  # type: ignore[attr-defined]

    def _repr_html_(self) -> str:
        from engine.etude.show import comparison_html

        return comparison_html(self.score, self._shapes)  # type: ignore[attr-defined]
