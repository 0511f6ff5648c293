"""Renderings compared with recordings of the same notes: report and selection recordings differ in player and piano.

A recording's first seconds are the prompt; the rest is rendered from its transcript and compared with it. Settings are
chosen on SELECTION only; REPORT is measured once, after that.

The measurements of each row are stored in a folder, so that a later run can add rows without repeating the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from engine.files import open_performance_file
from engine.measures.frechet import (
    Embedding,
    between,
    embed_all,
    frechet,
    frechet_at_infinity,
    log_mel_statistics,
    musicnn,
)
from engine.measures.sound_metrics import (
    RATE,
    log_spectral_distance,
    long_term_spectrum,
    mel_distance,
    notes_with_offset_and_velocity,
    spectrum_distance,
)
from engine.music.types import AudioClip, BadInput, Performance
from engine.sound.players import levelled
from engine.sound.prompts import Prompt, prepare_prompt
from engine.sound.recording import read_recording, resample
from engine.sound.transcribe import transcription_score
from training.sound.eval.likeness import (
    OCTAVES,
    VISQOL_SEC,
    attack_differences,
    centroid_correlation,
    decays,
    loudness_correlation,
    visqol,
)
from training.sound.eval.material import ReportTable, hear_all, part

PROMPT_SEC, FROM_SEC = 6.0, 7.0
FADE_SEC = 2.2  # fade-out at the end of the short clips, omitted
DRAWS = 200  # bootstrap resamples
HALF_SEC = 5.0
NOTES_SEC = 20.0  # transcribed part of each recording: each window of 16 s is expensive
ITSELF = "the recording"
MEASURES = (
    "F1", "onset error, ms", "F1 + velocity", "mel, dB", "log spectrum, dB", "long-term spectrum, dB", "centroid r",
    "loudness r", "attack, dB", "pre-echo, dB", "ViSQOL",
)  # fmt: skip

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
Say = Callable[[str], None]


@dataclass(frozen=True)
class HeldOutRecording:
    """One recording's prompt, the sound after it at 32 kHz, and the notes of that sound."""

    player: str
    prompt: Prompt
    sound: AudioClip
    notes: Performance


Row = Callable[[HeldOutRecording], AudioClip]


def read(data: Path, folder: str, file: str, player: str, seconds: float) -> HeldOutRecording:
    """A recording of the data pack; at most `seconds` of it after the prompt. Raises BadInput."""
    whole = read_recording(data / folder / "real" / file, RATE)
    notes = open_performance_file(data / folder / "real_midi" / f"{Path(file).stem}.mid")
    end = min(whole.duration_sec - FADE_SEC, FROM_SEC + seconds)
    prompt = prepare_prompt(whole, 0.3, PROMPT_SEC, notes, player)
    sound = AudioClip(whole.samples[round(FROM_SEC * RATE) : round(end * RATE)], RATE)
    return HeldOutRecording(player, prompt, levelled(sound), part(notes, FROM_SEC, end - FROM_SEC))


@dataclass(frozen=True)
class Measured:
    """Measurements of one row, with a list entry or array row for each recording.

    features  by embedding, (n, d) arrays
    measures  (R, len(MEASURES))
    spectra   (R, 48) long-term spectra
    decay     (R, 8) seconds by octave
    when      date
    """

    features: dict[str, list[np.ndarray]]
    measures: np.ndarray
    spectra: np.ndarray
    decay: np.ndarray
    when: str = field(default_factory=lambda: date.today().isoformat())

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = {f"{name}/{i}": x for name, values in self.features.items() for i, x in enumerate(values)}
        np.savez(path, measures=self.measures, spectra=self.spectra, decay=self.decay, when=self.when, **parts)

    @staticmethod
    def load(path: Path) -> Measured:
        with np.load(path) as z:
            features: dict[str, list[np.ndarray]] = {}
            for key in z.files:
                if "/" in key:
                    features.setdefault(key.rsplit("/", 1)[0], []).append(z[key])
            return Measured(features, z["measures"], z["spectra"], z["decay"], str(z["when"]))


def embeddings_of(data: Path) -> dict[str, Embedding]:
    """Log-mel statistics, and the musicnn models of the data pack."""
    found: dict[str, Embedding] = {"log-mel": log_mel_statistics}
    for name in ("mtt", "msd"):
        path = data / "embeddings" / f"musicnn_{name}.npz"
        if path.exists():
            found[name.upper()] = musicnn(path)
    return found


def measured(
    real: list[HeldOutRecording], made: list[AudioClip], embeddings: dict[str, Embedding], without: tuple[str, ...] = ()
) -> Measured:
    """Compare a row's sounds, one per recording, with the recordings; `without` omits "notes" or "visqol"."""
    rows = []
    heard = [(np.nan,) * 3] * len(real) if "notes" in without else notes_heard(real, made)
    for r, clip, notes in zip(real, made, heard, strict=True):
        rows.append([
            *notes, mel_distance(r.sound.samples, clip.samples), log_spectral_distance(r.sound.samples, clip.samples),
            spectrum_distance(long_term_spectrum(r.sound), long_term_spectrum(clip)),
            centroid_correlation(r.sound, clip), loudness_correlation(r.sound, clip),
            *attack_differences(r.sound, clip, r.notes),
            np.nan if "visqol" in without else visqol(r.sound, clip),
        ])  # fmt: skip
    return Measured(
        {name: [embed(c) for c in made] for name, embed in embeddings.items()}, np.array(rows),
        np.stack([long_term_spectrum(c) for c in made]), np.stack([decays(c) for c in made]),
    )  # fmt: skip


def notes_heard(real: list[HeldOutRecording], made: list[AudioClip]) -> list[tuple[float, float, float]]:
    """F1, onset error in ms and F1 with velocity of the notes that are transcribed from each sound's beginning."""
    first = [AudioClip(c.samples[: round(NOTES_SEC * RATE)], RATE) for c in made]
    found = []
    for r, clip, notes in zip(real, first, hear_all(first), strict=True):
        wanted = part(r.notes, 0.0, clip.duration_sec)
        same = transcription_score(wanted, notes)
        found.append((same.f1, same.onset_error_ms, notes_with_offset_and_velocity(wanted, notes)[1]))
    return found


def read_all(data: Path, split: str, seconds: float) -> list[HeldOutRecording]:
    """The recordings of "report" or "selection"; at most `seconds` of each after its prompt."""
    return [read(data, *one, seconds) for one in {"report": REPORT, "selection": SELECTION}[split]]


def recordings_table(
    data: Path, split: str, rows: dict[str, Row], seconds: float, say: Say, folder: Path | None = None,
    again: tuple[str, ...] | None = None, without: tuple[str, ...] = (), resume: bool = False,
) -> list[ReportTable]:  # fmt: skip
    """Fréchet distances of each row with 90 % intervals by recording, the other measures, and each recording's own.

    rows    rows that can be measured; the recording itself and its halves are added
    folder  folder of measured rows, one file each
    again   name prefixes of the rows to measure now; the others are read from the folder if they exist; None for all
    without  columns that are omitted now: "notes", "visqol"
    resume  reuse every row in the folder, to continue an interrupted run
    """
    real = read_all(data, split, seconds)
    embeddings = embeddings_of(data)
    kept = None if folder is None else folder / f"{split}-{seconds:g}s"
    found: dict[str, Measured] = {}
    for name, row in {ITSELF: None, **rows}.items():
        path = None if kept is None else kept / f"{name}.npz"
        asked = again is None or name.startswith(again)
        if path is not None and path.exists() and (resume or not asked):
            found[name] = Measured.load(path)
            continue
        if not asked and row is not None:
            continue
        started = time.process_time()
        made = [r.sound if row is None else _fitted_to(row(r), r.sound) for r in real]
        rendered = time.process_time() - started
        found[name] = measured(real, made, embeddings, without)
        if path is not None:
            found[name].save(path)
        say(f"{split} recordings: {name}: {rendered:.0f} s to render, {time.process_time() - started:.0f} s in all")
    return [
        frechet_rows(split, real, found, embeddings, say), measures_rows(split, found), decay_rows(split, found),
        prompt_rows(split, real, found), each_rows(split, real, found),
    ]  # fmt: skip


def frechet_rows(
    split: str, real: list[HeldOutRecording], found: dict[str, Measured], embeddings: dict[str, Embedding], say: Say
) -> ReportTable:
    """The distance of each row from the recordings, with its interval, and its ratio to the preview's."""
    lines: dict[str, list[str | float]] = {name: [name] for name in ("real halves", *found) if name != ITSELF}
    for label, embedding in embeddings.items():
        say(f"{split} recordings: intervals, {label}")
        ours = found[ITSELF].features[label]
        halves = zip(*(_halves(r.sound) for r in real), strict=True)
        first, second = ([embed_all(embedding, half) for half in side] for side in halves)
        pairs = {"real halves": (first, second)}
        pairs |= {name: (ours, m.features[label]) for name, m in found.items() if name != ITSELF}
        draws = {name: bootstrap(*pair) for name, pair in pairs.items()}
        for name, (left, right) in pairs.items():
            lines[name].append(interval(left, right, draws[name]))
            if "preview" in draws and name not in ("preview", "real halves"):
                lines[name].append(ratio(draws[name], draws["preview"]))
            elif "preview" in draws:
                lines[name].append("-")
    columns = [c for label in embeddings for c in ((label, f"{label} / preview") if "preview" in found else (label,))]
    total = sum(r.sound.duration_sec for r in real)
    return ReportTable(
        f"{split.capitalize()} recordings: {len(real)}, {total:.0f} s, each from its own transcript and prompt",
        ("sound", *columns), list(lines.values()),
        ["Fréchet: extrapolated to endless sound (plain); in square brackets 5 to 95 % of draws of recordings, plain. "
         "Ratio to the preview's plain distance: all recordings, and 5 to 95 % of the same draws.",
         "Measured on: " + ", ".join(f"{name} {m.when}" for name, m in found.items())],
    )  # fmt: skip


def measures_rows(split: str, found: dict[str, Measured]) -> ReportTable:
    """Means over the recordings of all other measures."""
    return ReportTable(
        f"{split.capitalize()} recordings: notes, spectra, attacks", ("sound", *MEASURES),
        [[name, *_means(m.measures)] for name, m in found.items()],
        [f"F1, onset error: notes that the transcriber finds in the first {NOTES_SEC:g} s against the notes played. "
         "Attack: rise at an onset after a rest, above the recording's; pre-echo: energy 40 to 10 ms before it, above "
         f"the recording's. ViSQOL: of the first {VISQOL_SEC:g} s."],
    )  # fmt: skip


def decay_rows(split: str, found: dict[str, Measured]) -> ReportTable:
    """Decay time of each octave relative to the recording: median ratio over the recordings."""
    lines: list[list[str | float]] = []
    for name, m in found.items():
        if name != ITSELF:
            ratios = np.log2(m.decay / found[ITSELF].decay)
            off = np.abs(ratios)
            lines.append([name, *(2 ** _medians(ratios)).tolist(), float(off[np.isfinite(off)].mean())])
    return ReportTable(
        f"{split.capitalize()} recordings: decay time against the recording's, by octave",
        ("sound", *(f"{hz:.0f} Hz" for hz in OCTAVES), "mean |log2|"), lines,
    )  # fmt: skip


def prompt_rows(split: str, real: list[HeldOutRecording], found: dict[str, Measured]) -> ReportTable:
    """Share of sounds whose long-term spectrum is nearest to their own prompt's; also for parts of the recordings."""
    prompts = [long_term_spectrum(levelled(r.prompt.clip)) for r in real]
    lines: list[list[str | float]] = []
    for name, m in found.items():
        away = np.array([[spectrum_distance(s, p) for p in prompts] for s in m.spectra])
        own = np.diag(away)
        others = away[~np.eye(len(away), dtype=bool)].reshape(len(away), -1)
        lines.append(
            [name, float((own[:, None] < others).mean()), float((own < others.min(1)).mean()), float(own.mean())]
        )
    return ReportTable(
        f"{split.capitalize()} recordings: long-term spectrum against the prompts'",
        ("sound", "nearer own than another", "nearest own", "dB to own"), lines,
    )  # fmt: skip


def each_rows(split: str, real: list[HeldOutRecording], found: dict[str, Measured]) -> ReportTable:
    """One row per recording: its measures and plain Fréchet distance."""
    labels = list(found[ITSELF].features)
    lines: list[list[str | float]] = []
    for i, r in enumerate(real):
        for name, m in found.items():
            far = [_plain(found[ITSELF].features[k][i], m.features[k][i]) for k in labels]
            lines.append([r.player, name, *far, *m.measures[i].tolist()])
    return ReportTable(f"{split.capitalize()} recordings, each", ("player", "sound", *labels, *MEASURES), lines)


def bootstrap(left: list[np.ndarray], right: list[np.ndarray]) -> np.ndarray:
    """(DRAWS + 1,) plain distances: of all recordings, then of resamples with replacement, the same for every row."""
    rng = np.random.default_rng(0)
    sides = [Moments(left), Moments(right)]
    draws = [np.arange(len(left)), *(rng.integers(len(left), size=len(left)) for _ in range(DRAWS))]
    return np.array([between(sides[0].of(chosen), sides[1].of(chosen)) for chosen in draws])


class Moments:
    """Sums over each recording's features, sufficient for the mean and covariance of any resample."""

    def __init__(self, features: list[np.ndarray]) -> None:
        self._count = np.array([len(f) for f in features], float)
        self._sum = np.stack([f.sum(0) for f in features])
        self._square = np.stack([f.T @ f for f in features])

    def of(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (d,) and covariance (d, d) of the chosen recordings together."""
        n = self._count[chosen].sum()
        mean = self._sum[chosen].sum(0) / n
        return mean, (self._square[chosen].sum(0) - n * np.outer(mean, mean)) / (n - 1)


def interval(left: list[np.ndarray], right: list[np.ndarray], draws: np.ndarray) -> str:
    """The distance of all features of both, per recording (n, d), and the interval of `bootstrap`'s draws."""
    low, high = np.percentile(draws[1:], [5, 95])
    try:
        endless = f"{frechet_at_infinity(np.concatenate(left), np.concatenate(right)):.1f}"
    except BadInput:
        endless = "-"
    return f"{endless} ({draws[0]:.1f}) [{low:.1f}, {high:.1f}]"


def ratio(draws: np.ndarray, others: np.ndarray) -> str:
    """One row's plain distance over another's, and the interval over the same draws."""
    shares = draws / np.maximum(others, 1e-9)
    low, high = np.percentile(shares[1:], [5, 95])
    return f"{shares[0]:.2f} [{low:.2f}, {high:.2f}]"


def _plain(a: np.ndarray, b: np.ndarray) -> float:
    """Plain distance; NaN for a recording that is too short."""
    try:
        return max(frechet(a, b), 0.0)
    except BadInput:
        return float("nan")


def _means(values: np.ndarray) -> Iterator[float]:
    """Mean of each column without NaN; NaN if all values are."""
    for column in values.T:
        known = column[np.isfinite(column)]
        yield float(known.mean()) if len(known) else float("nan")


def _medians(values: np.ndarray) -> np.ndarray:
    known = [column[np.isfinite(column)] for column in values.T]
    return np.array([np.median(k) if len(k) else np.nan for k in known])


def _fitted_to(clip: AudioClip, real: AudioClip) -> AudioClip:
    """Convert to mono, the recording's rate, length and loudness."""
    mono = clip.mono()
    sound = np.clip(resample(mono.samples, mono.sample_rate, RATE), -1, 1)[: len(real.samples)]
    return levelled(AudioClip(np.pad(sound, (0, len(real.samples) - len(sound))), RATE))


def _halves(clip: AudioClip) -> tuple[list[AudioClip], list[AudioClip]]:
    size = round(HALF_SEC * RATE)
    parts = [AudioClip(clip.samples[i : i + size], RATE) for i in range(0, len(clip.samples) - size, size)]
    return parts[::2], parts[1::2]
