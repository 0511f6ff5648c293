"""Renderings against recordings of the very same notes: report and selection recordings, apart by player and piano.

A recording's first seconds are the prompt; the rest is rendered from its transcript and compared with it. Settings are
chosen on SELECTION only; REPORT is measured once, when they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.files import open_performance_file
from engine.measures.frechet import Embedding, embed_all, frechet, frechet_at_infinity, log_mel_statistics, musicnn
from engine.measures.sound_metrics import RATE, long_term_spectrum, mel_distance, spectrum_distance
from engine.music.types import AudioClip, BadInput, Performance
from engine.sound.players import levelled
from engine.sound.prompts import Prompt, prepare_prompt
from engine.sound.recording import read_recording, resample
from engine.sound.spectra import level_db
from training.sound.eval.material import Table, part

PROMPT_SEC, FROM_SEC = 6.0, 7.0
FADE_SEC = 2.2  # at the end of the short clips: left out
DRAWS = 100  # of the bootstrap
HALF_SEC = 5.0

Source = tuple[str, str, str]  # folder, file, player
REPORT: tuple[Source, ...] = (
    ("audio2", "debussy_clair-de-lune_goedhart.opus", "Goedhart"),
    ("audio2", "debussy_arabesque1_prati.opus", "Prati"),
    ("audio2", "chopin_prelude_op28no4_ilic.mp3", "Ilić"),
    ("audio2", "beethoven_sonata_op27no2-3_pitman.mp3", "Pitman"),
    ("audio", "satie_gymnopedie1_alciatore.ogg", "Alciatore"),
)
SELECTION: tuple[Source, ...] = (
    ("audio2", "chopin_berceuse_op57_gurevich.mp3", "Gurevich"),
    ("audio2", "chopin_waltz_op69no1_faulkner.mp3", "Faulkner"),
    ("audio", "bach_wtc1_prelude02_bwv847_ishizaka.ogg", "Ishizaka, Bach"),
    ("audio", "bach_goldberg_excerpt_ishizaka.ogg", "Ishizaka, Goldberg"),
)
Row = Callable[[Performance, Prompt], AudioClip]


@dataclass(frozen=True)
class Recording:
    """One recording's prompt, the sound after it at 32 kHz, and the notes of that sound."""

    player: str
    prompt: Prompt
    sound: AudioClip
    notes: Performance


def read(data: Path, folder: str, file: str, player: str, seconds: float) -> Recording:
    """A recording of the data pack; at most `seconds` of it after the prompt. Raises BadInput."""
    whole = read_recording(data / folder / "real" / file, RATE)
    notes = open_performance_file(data / folder / "real_midi" / f"{Path(file).stem}.mid")
    end = min(whole.duration_sec - FADE_SEC, FROM_SEC + seconds)
    prompt = prepare_prompt(whole, 0.3, PROMPT_SEC, notes, player)
    sound = AudioClip(whole.samples[round(FROM_SEC * RATE) : round(end * RATE)], RATE)
    return Recording(player, prompt, levelled(sound), part(notes, FROM_SEC, end - FROM_SEC))


def recordings_table(
    data: Path, split: str, rows: dict[str, Row], seconds: float, say: Callable[[str], None]
) -> list[Table]:
    """Fréchet distances of each row with 90 % intervals by recording, the other measures, and each recording's own."""
    chosen = {"report": REPORT, "selection": SELECTION}[split]
    real = [read(data, *one, seconds) for one in chosen]
    made: dict[str, list[AudioClip]] = {}
    for name, row in rows.items():
        say(f"{split} recordings: {name}")
        made[name] = [_fitted_to(row(r.notes, r.prompt), r.sound) for r in real]
    embeddings: dict[str, Embedding] = {"log-mel": log_mel_statistics}
    for name in ("mtt", "msd"):
        path = data / "embeddings" / f"musicnn_{name}.npz"
        if path.exists():
            embeddings[name.upper()] = musicnn(path)
    found: dict[str, list[str | float]] = {name: [name] for name in ("real halves", *rows)}
    for label, embedding in embeddings.items():
        say(f"{split} recordings: {label}")
        ours = [embedding(r.sound) for r in real]
        halves = zip(*(_halves(r.sound) for r in real), strict=True)
        first, second = ([embed_all(embedding, half) for half in side] for side in halves)
        pairs = {"real halves": (first, second)}
        pairs |= {name: (ours, [embedding(c) for c in clips]) for name, clips in made.items()}
        for name, (left, right) in pairs.items():
            found[name].append(interval(left, right))
    per: list[list[str | float]] = []
    found["real halves"] += ["-"] * 3
    for name, clips in made.items():
        each = np.array([_plain(r.sound, c) for r, c in zip(real, clips, strict=True)])
        found[name] += each.mean(0).tolist()
        per += [[r.player, name, *values.tolist()] for r, values in zip(real, each, strict=True)]
    total = sum(r.sound.duration_sec for r in real)
    plain = ("mel, dB", "long-term spectrum, dB", "loudness r")
    return [
        Table(
            f"{split.capitalize()} recordings: {len(real)}, {total:.0f} s, each from its own transcript and prompt",
            ("sound", *embeddings, *plain), list(found.values()),
            ["Fréchet: extrapolated to endless sound (plain); in brackets 5 to 95 % of draws of recordings, plain."],
        ),
        Table(f"{split.capitalize()} recordings, each", ("player", "sound", *plain), per),
    ]  # fmt: skip


def interval(left: list[np.ndarray], right: list[np.ndarray]) -> str:
    """The distance of all features of both, per recording (n, d), and its bootstrap interval over recordings."""
    rng, draws = np.random.default_rng(0), []
    for _ in range(DRAWS):
        chosen = rng.integers(len(left), size=len(left))
        draws.append(frechet(np.concatenate([left[i] for i in chosen]), np.concatenate([right[i] for i in chosen])))
    a, b = np.concatenate(left), np.concatenate(right)
    low, high = np.percentile(draws, [5, 95])
    try:
        endless = f"{frechet_at_infinity(a, b):.1f}"
    except BadInput:
        endless = "-"
    return f"{endless} ({frechet(a, b):.1f}) [{low:.1f}, {high:.1f}]"


def _fitted_to(clip: AudioClip, real: AudioClip) -> AudioClip:
    """Mono, at the recording's rate, of its length and loudness."""
    mono = clip.mono()
    sound = np.clip(resample(mono.samples, mono.sample_rate, RATE), -1, 1)[: len(real.samples)]
    return levelled(AudioClip(np.pad(sound, (0, len(real.samples) - len(sound))), RATE))


def _halves(clip: AudioClip) -> tuple[list[AudioClip], list[AudioClip]]:
    size = round(HALF_SEC * RATE)
    parts = [AudioClip(clip.samples[i : i + size], RATE) for i in range(0, len(clip.samples) - size, size)]
    return parts[::2], parts[1::2]


def _plain(real: AudioClip, made: AudioClip) -> tuple[float, float, float]:
    """Mel distance, long-term spectrum, correlation of the loudness of tenths of a second."""
    loud: list[Any] = [np.maximum(level_db(c.samples, RATE, 0.1), -60) for c in (real, made)]
    return (
        mel_distance(real.samples, made.samples), spectrum_distance(long_term_spectrum(real), long_term_spectrum(made)),
        float(np.corrcoef(*loud)[0, 1]),
    )  # fmt: skip
