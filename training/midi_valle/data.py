"""Training data of MIDI-VALLE: recordings and their MIDI, cut to segments, as notes and codes in one pack.

    python -m training.midi_valle.data --layout atepp --root DIR --codec checkpoints/imported/piano-encodec \
        --out data/valle-v1.npz [--published]

Layouts (the folder a corpus unpacks to):
- atepp    a table ATEPP*.csv with midi_path, perf_id, composition_id, split; sound beside each MIDI file
- maestro  maestro-v*.csv with midi_filename, audio_filename, canonical_composer, canonical_title, split
- pijama   midi/**/*.mid(i) and the same path under audio/; no table, the first folder is the artist

--published cuts as the paper's code does and keeps the corpus's own split, where 818 of 883 test performances of ATEPP
are of compositions that are trained on (defect W16); else all performances of a composition (or an artist, in PiJAMA)
go to one split.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.checkpoints.importing import open_encodec
from engine.models.codec.encodec import PianoEncodec
from engine.music.io.midi import read_midi_performance
from engine.music.types import BadInput, Performance
from engine.tokens.octuple import cut, cut_points, encode, join

SOUND = (".wav", ".flac", ".mp3", ".ogg")
SPLITS = ("train", "validation", "test")
SHORTEST, LONGEST = 3.0, 20.0
PROMPT_FRAMES, FRAME_RATE = 150, 50
MAX_COST, QUADRATIC = 200.0, 10.0


@dataclass(frozen=True)
class CorpusRecording:
    """One performance of a corpus: files, work, and split ("" if the corpus has none)."""

    name: str
    midi: Path
    audio: Path
    work: str
    split: str


def recordings(layout: str, root: Path, by_work: bool = True) -> list[CorpusRecording]:
    """The recordings of a corpus that have both files. Raises BadInput if there are none.

    by_work  assign splits by work; overrides the corpus
    """
    found = list({"atepp": _atepp, "maestro": _maestro, "pijama": _pijama}[layout](root))
    found = [r for r in found if r.midi.is_file() and r.audio.is_file()]
    if not found:
        raise BadInput(
            f"{root} has no recording with MIDI and sound in the layout {layout}; give the corpus's own folder."
        )
    rule = [split_of(r.work) if by_work or not r.split else r.split for r in found]
    return [CorpusRecording(r.name, r.midi, r.audio, r.work, split) for r, split in zip(found, rule)]


def split_of(work: str) -> str:
    """train, validation or test (8 : 1 : 1) from the name of a work; always the same.

    >>> split_of("Chopin/Ballade 1") == split_of("Chopin/Ballade 1")
    True
    """
    draw = int(hashlib.sha256(work.encode()).hexdigest(), 16) % 10
    return SPLITS[max(draw - 7, 0)]


def _table(root: Path, pattern: str) -> list[dict[str, str]]:
    tables = sorted(root.glob(pattern))
    if not tables:
        raise BadInput(f"{root} has no table {pattern}; give the folder that the corpus unpacks to.")
    with open(tables[-1], newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def _beside(path: Path) -> Path:
    """The sound file of the same name."""
    found = [path.with_suffix(s) for s in SOUND if path.with_suffix(s).is_file()]
    return found[0] if found else path.with_suffix(SOUND[0])


def _atepp(root: Path) -> Iterator[CorpusRecording]:
    for row in _table(root, "ATEPP*.csv"):
        midi = root / row["midi_path"]
        yield CorpusRecording(
            row["perf_id"], midi, _beside(midi), f"atepp/{row['composition_id']}", row.get("split", "")
        )


def _maestro(root: Path) -> Iterator[CorpusRecording]:
    for row in _table(root, "maestro-v*.csv"):
        work = f"{row['canonical_composer']}/{row['canonical_title']}"
        midi, audio = root / row["midi_filename"], root / row["audio_filename"]
        yield CorpusRecording(midi.stem, midi, audio, work, row["split"])


def _pijama(root: Path) -> Iterator[CorpusRecording]:
    for midi in sorted(p for p in (root / "midi").rglob("*") if p.suffix in (".mid", ".midi")):
        place = midi.relative_to(root / "midi")
        yield CorpusRecording(
            place.with_suffix("").as_posix(), midi, _beside(root / "audio" / place), place.parts[0], ""
        )


@dataclass(frozen=True)
class Cut:
    """A segment in a pack: its notes (n, 4) as onset, duration (s), pitch, velocity, and its codes (F, K)."""

    notes: NDArray[np.float32]
    codes: NDArray[np.int16]


@torch.inference_mode()
def segments(recording: CorpusRecording, codec: PianoEncodec, published: bool) -> Iterator[Cut]:
    """The segments of 3 to 20 s of one recording, in order."""
    import soundfile
    import soxr

    sound, rate = soundfile.read(recording.audio, dtype="float32", always_2d=True)
    samples = torch.from_numpy(soxr.resample(sound.mean(1), rate, codec.sample_rate))
    performance = read_midi_performance(recording.midi.read_bytes())
    seconds = len(samples) / codec.sample_rate
    points = cut_points(seconds, keep_tail=not published)
    for start, end in pairwise(points):
        notes = cut(performance, start, end, published).notes
        if not SHORTEST <= end - start <= LONGEST or len(notes) == 0:
            continue
        piece = samples[int(start * codec.sample_rate) : int(end * codec.sample_rate)]
        table = np.stack([notes.onset_sec, notes.duration_sec, notes.pitch, notes.velocity], 1)
        yield Cut(table.astype(np.float32), codec.encode(piece[None])[0].T.numpy().astype(np.int16))


def write_pack(found: list[CorpusRecording], codec: PianoEncodec, path: Path, published: bool, about: str) -> int:
    """Write the pack; returns the number of segments. Each has the indices of its recording and split."""
    notes, codes, owner, split = list[NDArray](), list[NDArray](), list[int](), list[int]()
    for number, recording in enumerate(found):
        for piece in segments(recording, codec, published):
            notes.append(piece.notes)
            codes.append(piece.codes)
            owner.append(number)
            split.append(SPLITS.index(recording.split))
    if not notes:
        raise BadInput(f"No recording gave a segment of {SHORTEST:g} to {LONGEST:g} s; longer recordings are needed.")
    path.parent.mkdir(parents=True, exist_ok=True)
    ptr = [np.cumsum([0, *map(len, parts)]) for parts in (notes, codes)]
    np.savez_compressed(
        path, note_ptr=ptr[0], notes=np.concatenate(notes), code_ptr=ptr[1], codes=np.concatenate(codes),
        recording=np.array(owner), split=np.array(split), about=np.array(about),
    )  # fmt: skip
    return len(notes)


class SegmentCorpus:
    """One split of a pack, as a source of micro-batches.

    spliced  each item is three seconds of a neighbouring segment followed by a target that fits 20 s beside it, as at
             inference (W9, W10); else whole segments, as published
    prompts  prompts (B, P, K) from neighbouring segments, for prefix mode 4
    cost     of a micro-batch: a segment of d seconds costs d + d^2 / 10; the published 200 is about four segments
    """

    def __init__(
        self,
        path: Path,
        split: str,
        spliced: bool = False,
        prompts: bool = False,
        limit: int = 0,
        cost: float = MAX_COST,
    ) -> None:
        with np.load(path) as z:
            chosen = np.flatnonzero(z["split"] == SPLITS.index(split))[: limit or None]
            notes, codes, a, b = z["notes"], z["codes"], z["note_ptr"], z["code_ptr"]
            self.cuts = [Cut(notes[a[i] : a[i + 1]], codes[b[i] : b[i + 1]]) for i in chosen]
            owner = z["recording"][chosen]
        if not self.cuts:
            raise BadInput(f"{path.name} has no {split} segments; give a larger corpus.")
        self.neighbours = [
            [j for j in (i - 1, i + 1) if 0 <= j < len(owner) and owner[j] == owner[i]] or [i]
            for i in range(len(owner))
        ]
        self.most_cost = cost
        self.spliced, self.prompts, self.name = spliced, prompts, f"{path.name}: {len(chosen)} {split} segments"

    def batch(self, rng: np.random.Generator, absolute_time: bool = True) -> dict[str, Tensor]:
        """Segments for the cost, padded: tokens (B, S, 6), codes (B, F, K), note_lengths, frame_lengths (B,).

        prefix  () frames of prompt that every item begins with, when spliced; else 0
        prompt  (B, P, K) with `prompts`
        """
        chosen, cost = list[int](), 0.0
        while True:
            i = int(rng.integers(len(self.cuts)))
            seconds = len(self.cuts[i].codes) / FRAME_RATE
            cost += seconds + seconds**2 / QUADRATIC
            if chosen and cost > self.most_cost:
                break
            chosen.append(i)
        return self.collate(chosen, rng, absolute_time)

    def collate(self, chosen: list[int], rng: np.random.Generator, absolute_time: bool = True) -> dict[str, Tensor]:
        """A micro-batch of these segments."""
        near = [int(rng.choice(self.neighbours[i])) for i in chosen]
        prefix = min(PROMPT_FRAMES, *(len(self.cuts[j].codes) for j in near))
        items = [self._item(i, j, prefix, rng) if self.spliced else _whole(self.cuts[i]) for i, j in zip(chosen, near)]
        tokens = [torch.from_numpy(encode(notes, absolute_time)) for notes, _ in items]
        codes = [torch.from_numpy(c.astype(np.int64)) for _, c in items]
        pad = torch.nn.utils.rnn.pad_sequence
        out = {
            "tokens": pad(tokens, batch_first=True), "codes": pad(codes, batch_first=True),
            "note_lengths": torch.tensor([len(t) for t in tokens]),
            "frame_lengths": torch.tensor([len(c) for c in codes]),
            "prefix": torch.tensor(prefix if self.spliced else 0),
        }  # fmt: skip
        if self.prompts:
            out["prompt"] = torch.from_numpy(np.stack([self._slice(j, prefix, rng)[1] for j in near]).astype(np.int64))
        return out

    def _slice(self, i: int, count: int, rng: np.random.Generator) -> tuple[Performance, NDArray[np.int16]]:
        """`count` frames of a segment from a random place."""
        notes, codes = _whole(self.cuts[i])
        start = int(rng.integers(0, len(codes) - count + 1))
        piece = cut(notes, start / FRAME_RATE, (start + count) / FRAME_RATE)
        return piece.notes, codes[start : start + count]

    def _item(self, i: int, near: int, prefix: int, rng: np.random.Generator) -> tuple[Performance, NDArray[np.int16]]:
        notes, codes = _whole(self.cuts[i])
        room = int(LONGEST * FRAME_RATE) - prefix
        target = cut(notes, 0.0, min(len(codes), room) / FRAME_RATE).notes
        heard, before = self._slice(near, prefix, rng)
        return join(heard, target, prefix / FRAME_RATE), np.concatenate([before, codes[:room]])


def _whole(piece: Cut) -> tuple[Performance, NDArray[np.int16]]:
    return Performance(*piece.notes.T), piece.codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", choices=("atepp", "maestro", "pijama"), required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--codec", type=Path, required=True, help="folder of a codec: imported, or of train_codec")
    parser.add_argument("--out", type=Path, default=Path("data/valle-v1.npz"))
    parser.add_argument("--published", action="store_true", help="the paper's cuts and the corpus's split")
    parser.add_argument("--limit", type=int, default=0, help="use only this many recordings (rehearsal)")
    args = parser.parse_args()
    codec = open_encodec(args.codec)
    found = recordings(args.layout, args.root, by_work=not args.published)[: args.limit or None]
    about = f"{args.layout}, codec {codec.digest}, {'published' if args.published else 'clipped'} cuts"
    count = write_pack(found, codec.model, args.out, args.published, about)
    print(f"{args.out}: {count} segments of {len(found)} recordings")


if __name__ == "__main__":
    main()
