"""Test material of the sound models, and reference codecs.

Held out of all training: four real recordings (two players, two pianos), the pianos FluidR3 and Salamander, and
MAESTRO's performances of the pieces that (n)ASAP holds out.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from engine.files import open_performance_file
from engine.measures.sound_metrics import RATE
from engine.music.types import AudioClip, BadInput, Performance
from engine.sound.players import Player, bank_player, levelled, players
from engine.sound.preview import PIANOS
from engine.sound.prompts import Prompt, prepare_prompt
from engine.sound.recording import read_recording, resample
from engine.sound.room import Room
from engine.sound.transcribe import transcribe
from training.sound.make_pack import Maestro

CALM = ("satie_gymnopedie1_alciatore", "bach_wtc1_prelude01_bwv846_ishizaka")
DENSE = ("bach_wtc1_prelude05_bwv850_ishizaka", "bach_wtc1_fugue10_bwv855_ishizaka")
GAP_SEC = 1.0  # of silence between clips that are transcribed together


@dataclass(frozen=True)
class ReportTable:
    """One table of the report: a title, column names, rows of cells, remarks underneath."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    remarks: Sequence[str] = ()

    def value(self, row: str, column: str) -> float:
        """A figure by the prefix of its row's name, and its column's name; NaN without one."""
        found = [r[list(self.columns).index(column)] for r in self.rows if str(r[0]).startswith(row)]
        return float(found[0]) if found and not isinstance(found[0], str) else float("nan")

    def markdown(self) -> str:
        cells = [list(self.columns), *([c if isinstance(c, str) else f"{c:.3g}" for c in row] for row in self.rows)]
        width = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, width, strict=True)) + " |" for row in cells]
        lines.insert(1, "|" + "|".join("-" * (w + 2) for w in width) + "|")
        return "\n".join([f"### {self.title}", "", *lines, *([""] if self.remarks else []), *self.remarks, ""])


def part(performance: Performance, start_sec: float, seconds: float) -> Performance:
    """The notes that start in the window, with times from its start; keys and pedal are released at its end."""
    onset, release = performance.onset_sec, performance.onset_sec + performance.duration_sec
    kept = (onset >= start_sec) & (onset < start_sec + seconds)
    release = np.minimum(release[kept], start_sec + seconds)
    sec, value = performance.pedal_sec, performance.pedal_value
    before = np.flatnonzero(sec < start_sec)[-1:]
    inside = (sec >= start_sec) & (sec < start_sec + seconds)
    sec = np.concatenate([np.full(len(before), start_sec), sec[inside], [start_sec + seconds]])
    value = np.concatenate([value[before], value[inside], [0]])
    return Performance(
        onset[kept] - start_sec, np.maximum(release - onset[kept], 0.02), performance.pitch[kept],
        performance.velocity[kept], sec - start_sec, value,
    )  # fmt: skip


@dataclass(frozen=True)
class Material:
    """The data pack: folders audio/real, audio/real_midi, symbolic/performance, embeddings, baselines/lyra.

    banks  note banks of held-out pianos; without them FluidR3 is played by FluidSynth
    """

    data: Path
    banks: Path | None = None

    def real(self, name: str, start_sec: float, seconds: float) -> tuple[AudioClip, Performance]:
        """Part of a recording at 32 kHz, and its transcription."""
        folder = self.data / "audio"
        clip = read_recording(folder / "real" / f"{name}.ogg", RATE, start_sec, seconds)
        return clip, part(open_performance_file(folder / "real_midi" / f"{name}.mid"), start_sec, seconds)

    def performances(self, count: int, seconds: float, seed: int = 0) -> list[Performance]:
        """Excerpts of different pieces of MAESTRO's validation, with 2 to 18 notes a second."""
        path = self.data / "symbolic" / "performance" / "maestro-compact.npz"
        if not path.exists():
            raise BadInput(f"{path} is not there; give --data, the folder of the data pack.")
        corpus, found = Maestro(path, "validation"), []
        rng = np.random.default_rng(seed)
        for row in rng.permutation(corpus.rows).tolist():
            start = rng.uniform(5, max(corpus.length(row) - seconds - 5, 6))
            piece = part(corpus.excerpt(row, start, seconds), 0.0, seconds)
            if 2 * seconds < len(piece) < 18 * seconds and piece.velocity.std() > 5:
                found.append(piece)
            if len(found) == count:
                return found
        raise BadInput(
            f"Only {len(found)} performances of {seconds:g} s are in {path.name}; ask for fewer or shorter ones."
        )

    def long_performance(self, seconds: float, again: float = 0.0) -> Performance:
        """The beginning of MAESTRO's validation, piece after piece, until it lasts so long.

        The last `again` seconds are the first once more: the same music at both ends.
        """
        corpus = Maestro(self.data / "symbolic" / "performance" / "maestro-compact.npz", "validation")
        pieces, at = [], 0.0
        for row in corpus.rows.tolist():
            length = min(corpus.length(row), seconds - again - at)
            piece = part(corpus.excerpt(row, 0.0, length), 0.0, length)
            pieces.append(replace(piece, onset_sec=piece.onset_sec + at, pedal_sec=piece.pedal_sec + at))
            at += length
            if at >= seconds - again - 1:
                break
        if again:
            opening = part(pieces[0], 0.0, again)
            late = {name: getattr(opening, name) + seconds - again for name in ("onset_sec", "pedal_sec")}
            pieces.append(replace(opening, **late))
        onset, duration, pitch, velocity, sec, value = (
            np.concatenate([getattr(p, name) for p in pieces])
            for name in ("onset_sec", "duration_sec", "pitch", "velocity", "pedal_sec", "pedal_value")
        )
        return Performance(onset, duration, pitch, velocity, sec, value)

    def unseen_pianos(self) -> dict[str, Player]:
        """Held-out sampled pianos."""
        known = players()
        found: dict[str, Player] = {}
        font = next((f.name for f in PIANOS["system"].files if f.exists()), "")
        if font.startswith("FluidR3"):
            found["fluidr3"] = known["fluidsynth system"]
        for name in ("salamander", "fluidr3"):
            if self.banks is not None and name not in found and (self.banks / name / "index.json").exists():
                found[name] = bank_player(self.banks / name)
        if not found:
            raise BadInput(
                "No piano is left that was not trained on; install FluidR3_GM (fluid-soundfont-gm) or give --banks."
            )
        return found

    def prompts(self, seconds: float = 6.0) -> dict[str, Prompt]:
        """Unseen references: each unseen sampled piano, dry and in a room, and the two real pianos' recordings."""
        found: dict[str, Prompt] = {}
        pianos = self.unseen_pianos()
        for (name, play), piece in zip(
            pianos.items(), self.performances(len(pianos), seconds + 1, seed=9), strict=True
        ):
            clip = play(piece)
            found[f"{name}, dry"] = prepare_prompt(clip, 0.0, seconds, piece, name)
            wet = AudioClip(muffled_room(clip.samples), RATE)
            found[f"{name}, in a hall"] = prepare_prompt(wet, 0.0, seconds, piece, name)
        for name, start in ((CALM[0], 100.0), (DENSE[0], 70.0)):
            clip, notes = self.real(name, start, seconds + 1)
            found[name.split("_")[-1] + ", real"] = prepare_prompt(clip, 0.0, seconds, notes, name)
        return found

    def originals(self, prompt: str, pieces: Sequence[Performance], seconds: float) -> list[AudioClip]:
        """Other sounds of a prompt's instrument: pieces on a sampled piano, or other parts of a recording."""
        piano, room = prompt.split(", ")
        if room == "real":
            name = next(n for n in (*CALM[:1], *DENSE[:1]) if n.endswith(piano))
            return [self.real(name, 10.0 + 15.0 * i, seconds)[0] for i in range(len(pieces))]
        sounds = [self.unseen_pianos()[piano](p).samples for p in pieces]
        return [levelled(AudioClip(muffled_room(s) if room == "in a hall" else s, RATE)) for s in sounds]


def muffled_room(samples: np.ndarray) -> np.ndarray:
    """The sound at a distance in a hall: four times the preview's room, with attenuated treble."""
    from scipy.signal import butter, sosfilt

    echoes = Room(RATE).add(samples) - samples
    low = np.asarray(sosfilt(butter(1, 3000, fs=RATE, output="sos"), samples))
    return (0.7 * low + 4 * echoes).astype(np.float32)


def hear_all(clips: Sequence[AudioClip]) -> list[Performance]:
    """Transcribe several clips as one sound with a second of silence between them; each 16 s window is expensive."""
    rate, gap = RATE, np.zeros(int(GAP_SEC * RATE), np.float32)
    sounds = [resample(levelled(c).samples, c.sample_rate, rate) for c in clips]
    whole = np.concatenate([x for s in sounds for x in (s, gap)])
    heard, found, at = transcribe(AudioClip(whole, rate)), [], 0.0
    for s in sounds:
        found.append(part(heard, at, len(s) / rate + GAP_SEC / 2))
        at += len(s) / rate + GAP_SEC
    return found


def opus(clip: AudioClip) -> tuple[AudioClip, float]:
    """Encode and decode with Opus at its lowest rate, mono (libsndfile): the sound at 32 kHz, and kbit/s."""
    data = io.BytesIO()
    at48 = resample(clip.samples, clip.sample_rate, 48000)
    with soundfile.SoundFile(data, "w", 48000, 1, "OPUS", format="OGG", compression_level=1.0) as file:
        for start in range(0, len(at48), 48000):  # libsndfile's encoders need small blocks
            file.write(at48[start : start + 48000])
    rate = len(data.getvalue()) * 8 / 1000 / clip.duration_sec
    sound, _ = soundfile.read(io.BytesIO(data.getvalue()), dtype="float32")
    return AudioClip(resample(sound, 48000, clip.sample_rate)[: len(clip.samples)], clip.sample_rate), rate


def lyra(clip: AudioClip, folder: Path, stages: int = 11) -> AudioClip:
    """Encode and decode with Lyra v2 (SoundStream, speech, 16 kHz) with `stages` of its 46 quantisers, 0.2 kbit/s each,
    without its delay. Raises BadInput without the package ai-edge-litert or the three .tflite files."""
    try:
        from ai_edge_litert.interpreter import Interpreter  # type: ignore[reportMissingImports]
    except ImportError as error:
        raise BadInput("Lyra needs the package ai-edge-litert; pip install ai-edge-litert, or leave it out.") from error
    paths = [folder / f"{name}.tflite" for name in ("soundstream_encoder", "quantizer", "lyragan")]
    if not all(p.exists() for p in paths):
        raise BadInput(f"{folder} does not hold Lyra's three .tflite files; give --data, the folder of the data pack.")
    encoder, quantiser, decoder = (Interpreter(str(p), num_threads=1) for p in paths)
    for model in (encoder, quantiser, decoder):
        model.allocate_tensors()
    encode, decode = (quantiser.get_signature_runner(name) for name in ("encode", "decode"))

    def run(model: Any, x: np.ndarray) -> np.ndarray:
        model.set_tensor(model.get_input_details()[0]["index"], x)
        model.invoke()
        return model.get_tensor(model.get_output_details()[0]["index"]).copy()

    x = resample(clip.samples, clip.sample_rate, 16000)
    made = []
    for frame in x[: len(x) // 320 * 320].reshape(-1, 1, 320):
        features = run(encoder, frame)
        coded = encode(input_frames=features, num_quantizers=np.int32(stages))
        codes = next(v for v in coded.values() if v.dtype == np.int32).reshape(46, 1, 1).copy()
        codes[stages:] = -1
        made.append(run(decoder, decode(encoding_indices=codes)["output_0"])[0])
    y = np.concatenate(made)
    n = min(len(x), len(y), 160000) - 1300
    delay = int(np.argmax([x[:n] @ y[d : d + n] for d in range(0, 1300, 4)])) * 4
    sound = resample(np.concatenate([y[delay:], np.zeros(delay, np.float32)]), 16000, clip.sample_rate)
    return AudioClip(sound[: len(clip.samples)], clip.sample_rate)
