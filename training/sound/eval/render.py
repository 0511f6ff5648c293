"""Fidelity of renderings to their notes and their prompt: tables for held-out pianos and performances."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from engine.measures.frechet import (
    Embedding,
    codec_latent,
    embed_all,
    frechet,
    frechet_at_infinity,
    log_mel_statistics,
    musicnn,
)
from engine.measures.seams import MEASURES, seam_test
from engine.measures.sound_metrics import (
    decay_time,
    long_term_spectrum,
    loudness_follows_velocity,
    notes_with_offset_and_velocity,
    spectrum_distance,
    velocity_scale,
)
from engine.music.types import AudioClip, BadInput, Performance
from engine.sound.players import levelled, players
from engine.sound.prompts import Prompt, prepare_prompt
from engine.sound.transcribe import TranscriptionScore, transcription_score
from training.sound.eval.codec import through
from training.sound.eval.material import CALM, DENSE, Material, ReportTable, hear_all

FRAME, TAIL = 640, 2.0  # samples; seconds after the last release
Say = Callable[[str], None]


class Rendering(Protocol):
    """Interface of engine.render.rendering.Renderer and of the paper profile's renderer."""

    def render(
        self, performance: Performance, prompt: Prompt, seed: int = 0, temperature: float = 1.0
    ) -> AudioClip: ...

    def render_stream(self, performance: Performance, prompt: Prompt, seed: int = 0) -> Any: ...


def _mean(values: Any) -> float:
    """Mean without NaN; NaN if all values are."""
    known = np.asarray(values, float)
    return float(known[np.isfinite(known)].mean()) if np.isfinite(known).any() else float("nan")


def _middle(values: Any) -> float:
    known = np.asarray(values, float)
    return float(np.median(known[np.isfinite(known)])) if np.isfinite(known).any() else float("nan")


def wanted_samples(performance: Performance) -> int:
    """The exact length of a rendering: whole frames up to two seconds after the last release."""
    return int(np.ceil(50 * (performance.end_sec + TAIL))) * FRAME


def _summary(found: list[TranscriptionScore], pairs: list[tuple[Performance, Performance]]) -> list[float | str]:
    """Means over the pieces: F1, precision, recall, onset error, F1 with offset, with velocity, velocity r."""
    more = np.array([notes_with_offset_and_velocity(a, b) for a, b in pairs])
    fields = ("f1", "precision", "recall", "onset_error_ms")
    means = [float(np.mean([getattr(a, f) for a in found])) for f in fields]
    return [*means, *more.mean(0).tolist(), _mean([a.velocity_correlation for a in found])]


def renderer_table(
    material: Material,
    renderers: dict[str, Rendering],
    codec: Any,
    count: int,
    seconds: float,
    say: Say,
    quick: bool = False,
) -> ReportTable:
    """Onsets, velocities and lengths of renderings, beside a sampler with the prompt's piano."""
    pieces, prompts = material.performances(count, seconds), material.prompts()
    using = [list(prompts.items())[i % len(prompts)] for i in range(count)]
    sampler = next(iter(material.unseen_pianos().items()))
    systems: dict[str, Callable[[Performance, Prompt], AudioClip]] = {
        f"sampler ({sampler[0]})": lambda p, _: levelled(sampler[1](p)),
        "its codec reconstruction": lambda p, _: through(codec, levelled(sampler[1](p))),
        "modal strings": lambda p, _: levelled(players()["modal strings"](p)),
    }
    for name, r in renderers.items():
        systems[name] = lambda p, prompt, r=r: r.render(p, prompt)
    first = next(iter(renderers), "")
    if first:
        systems[f"{first}, prompt without notes"] = lambda p, prompt: renderers[first].render(
            p, replace(prompt, notes=None)
        )
    if quick:
        systems = {name: systems[name] for name in (next(iter(systems)), *renderers)}
    rows, scale = [], velocity_scale()
    for name, play in systems.items():
        say(f"renderer: {name}")
        sounds = [play(p, prompt) for p, (_, prompt) in zip(pieces, using, strict=True)]
        heard = hear_all(sounds)
        pairs = list(zip(pieces, heard, strict=True))
        loud = _mean([loudness_follows_velocity(s, p) for s, p in zip(sounds, pieces, strict=True)])
        single = loudness_follows_velocity(play(scale, using[0][1]), scale)
        length: float | str = "-"
        if name.startswith(tuple(renderers) or ("\0",)):
            length = max(abs(len(s.samples) - wanted_samples(p)) for s, p in zip(sounds, pieces, strict=True)) / 32000
        rows.append([name, *_summary([transcription_score(a, b) for a, b in pairs], pairs), loud, single, length])
    columns = (
        "system",
        "F1",
        "precision",
        "recall",
        "onset error, ms",
        "F1 + offset",
        "F1 + velocity",
        "velocity r",
        "loudness ρ, music",
        "loudness ρ, scale",
        "length error, s",
    )
    return ReportTable(
        f"Renderer: {count} performances of {seconds:g} s (MAESTRO validation), unseen pianos",
        columns,
        rows,
        [
            "F1: transcribed notes against the notes of the performance, 50 ms. Loudness ρ: Spearman "
            "correlation of note loudness and velocity, here (the sampler's is the ceiling) and on single notes."
        ],
    )


def fidelity_table(material: Material, r: Rendering, count: int, seconds: float, say: Say) -> ReportTable:
    """Share of renderings whose long-term spectrum is nearest to their own prompt's; every piece with every prompt."""
    prompts, pieces = material.prompts(), material.performances(count, seconds, seed=5)
    names = list(prompts)
    wanted = np.stack([long_term_spectrum(p.clip) for p in prompts.values()])
    made = np.zeros((count, len(names), wanted.shape[1]))
    decays = np.zeros((count, len(names)))
    for i, piece in enumerate(pieces):
        for j, name in enumerate(names):
            say(f"prompt fidelity: piece {i + 1} of {count}, {name}")
            sound = r.render(piece, prompts[name])
            made[i, j], decays[i, j] = long_term_spectrum(sound), decay_time(sound)
    raw = np.array([[[spectrum_distance(m, w) for w in wanted] for m in row] for row in made])
    # the same after centring each piece over all prompts, and the prompts, which removes the influence of the music
    bare, wanted_bare = made - made.mean(1, keepdims=True), wanted - wanted.mean(0)
    clean = np.array([[[spectrum_distance(m, w) for w in wanted_bare] for m in row] for row in bare])
    own = np.arange(len(names))
    rows: list[list[str | float]] = []
    for j, name in enumerate(names):
        others = np.arange(len(names)) != j
        rows.append(
            [
                name,
                float((raw[:, j].argmin(1) == j).mean()),
                float((raw[:, j][:, others] > raw[:, j, j][:, None]).mean()),
                float((clean[:, j].argmin(1) == j).mean()),
                float(raw[:, j, j].mean()),
                float(raw[:, j][:, others].mean()),
                _middle(decays[:, j]),
                decay_time(prompts[name].clip),
            ]
        )
    pairs = np.mean([(raw[:, j][:, own != j] > raw[:, j, j][:, None]).mean() for j in own])
    rows.append(
        [
            "all",
            float((raw.argmin(2) == own).mean()),
            float(pairs),
            float((clean.argmin(2) == own).mean()),
            float(np.mean([raw[:, j, j] for j in own])),
            float(np.mean([raw[:, j][:, own != j] for j in own])),
            _middle(decays),
            _middle([decay_time(p.clip) for p in prompts.values()]),
        ]
    )
    say("prompt fidelity: the pianos themselves")
    true = np.stack([[long_term_spectrum(c) for c in material.originals(n, pieces, seconds)] for n in names], 1)
    real = np.array([[[spectrum_distance(m, w) for w in wanted] for m in row] for row in true])
    pairs = np.mean([(real[:, j][:, own != j] > real[:, j, j][:, None]).mean() for j in own])
    to_own = float(np.mean([real[:, j, j] for j in own]))
    to_others = float(np.mean([real[:, j][:, own != j] for j in own]))
    nearest = float((real.argmin(2) == own).mean())
    rows.append(["the pianos themselves", nearest, float(pairs), "-", to_own, to_others, "-", "-"])
    columns = (
        "prompt",
        "nearest of all",
        "nearer than another",
        "nearest, music out",
        "dB to own",
        "dB to others",
        "decay, s",
        "prompt's decay, s",
    )
    remark = "The pianos themselves: what each prompt's own instrument reaches in the same or other music; the ceiling."
    title = f"Prompt fidelity: {count} pieces x {len(names)} prompts, long-term spectra"
    return ReportTable(title, columns, rows, [remark])


def prompt_table(
    material: Material, r: Rendering, count: int, seconds: float, say: Say, quick: bool = False
) -> ReportTable:
    """Prompt ablation, and the paper's misalignment test: the prompt's notes late against its sound by 0 to 200 ms."""
    prompts, pieces = list(material.prompts().items()), material.performances(count, seconds, seed=6)
    rng = np.random.default_rng(0)

    def late(prompt: Prompt, sec: float) -> Prompt:
        assert prompt.notes is not None
        return replace(
            prompt,
            notes=replace(prompt.notes, onset_sec=prompt.notes.onset_sec + sec, pedal_sec=prompt.notes.pedal_sec + sec),
        )

    def of_noise(prompt: Prompt) -> Prompt:
        noise = rng.normal(0, 0.05, len(prompt.clip.samples)).astype(np.float32)
        return replace(prompt, clip=AudioClip(noise, prompt.clip.sample_rate), notes=None)

    def shorter(prompt: Prompt) -> Prompt:
        return prepare_prompt(prompt.clip, 0.0, 3.0, prompt.notes, prompt.name)

    ways: dict[str, Callable[[Prompt, Prompt], Prompt]] = {
        "with its notes": lambda p, _: p,
        "without notes": lambda p, _: replace(p, notes=None),
        "three seconds of it": lambda p, _: shorter(p),
        "another prompt's notes": lambda p, other: replace(p, notes=other.notes),
        "another prompt": lambda _, other: other,
        "noise instead": lambda p, _: of_noise(p),
        **{f"notes {ms} ms late": lambda p, _, ms=ms: late(p, ms / 1000) for ms in (50, 100, 200)},
    }
    if quick:
        ways = {name: ways[name] for name in ("with its notes", "notes 100 ms late")}
    rows = []
    for name, change in ways.items():
        say(f"prompts: {name}")
        own = [prompts[(2 * i) % len(prompts)][1] for i in range(count)]
        other = [prompts[(2 * i + 3) % len(prompts)][1] for i in range(count)]
        sounds = [r.render(p, change(a, b)) for p, a, b in zip(pieces, own, other, strict=True)]
        found = [transcription_score(p, h) for p, h in zip(pieces, hear_all(sounds), strict=True)]
        far = [
            spectrum_distance(long_term_spectrum(s), long_term_spectrum(p.clip))
            for s, p in zip(sounds, own, strict=True)
        ]
        rows.append(
            [
                name,
                float(np.mean([f.f1 for f in found])),
                float(np.mean([f.onset_error_ms for f in found])),
                float(np.mean([f.onset_bias_ms for f in found])),
                float(np.mean(far)),
            ]
        )
    return ReportTable(
        "Prompt ablation and misalignment",
        ("prompt", "F1", "onset error, ms", "onset bias, ms", "dB to its spectrum"),
        rows,
    )


def frechet_table(
    material: Material, renderers: dict[str, Rendering], codec: Any, seconds: float, say: Say, quick: bool = False
) -> ReportTable:
    """Fréchet distances to real recordings of the same music: `seconds` of each of the four held-out recordings."""
    names, starts = (*CALM, *DENSE), (0.0, 0.0, 0.0, 0.0)
    blocks = [material.real(n, s, seconds) for n, s in zip(names, starts, strict=True)]
    real, notes = [levelled(c) for c, _ in blocks], [n for _, n in blocks]
    prompts = [
        prepare_prompt(material.real(n, seconds, 7.0)[0], 0.0, 6.0, material.real(n, seconds, 7.0)[1]) for n in names
    ]
    sampler_name, sampler = next(iter(material.unseen_pianos().items()))
    sets: dict[str, list[AudioClip]] = {"codec reconstruction": [through(codec, c) for c in real]}
    sets[f"sampler ({sampler_name})"] = [levelled(sampler(p)) for p in notes]
    sets["modal strings"] = [levelled(players()["modal strings"](p)) for p in notes]
    for name, r in renderers.items():
        say(f"Fréchet: {name}")
        sets[name] = [r.render(p, prompt) for p, prompt in zip(notes, prompts, strict=True)]
    embeddings: dict[str, Embedding] = {"log-mel": log_mel_statistics}
    remarks = [
        "Extrapolated to endless sound, the plain distance in brackets; real: every other five seconds against the "
        "rest. The codec latent favours whatever that codec makes; never compare with the paper's figures."
    ]
    for name in ("mtt",) if quick else ("mtt", "msd"):
        path = material.data / "embeddings" / f"musicnn_{name}.npz"
        if path.exists():
            embeddings[f"musicnn {name.upper()}"] = musicnn(path)
        else:
            remarks.append(f"{path.name} is not in the data pack: its column is left out.")
    embeddings["codec latent"] = codec_latent(codec)
    rows = {name: [name] for name in ("real vs real", *sets)}
    for label, embedding in embeddings.items():
        say(f"Fréchet: {label}")
        halves = [
            [
                AudioClip(c.samples[k * 160000 : (k + 1) * 160000], 32000)
                for c in real
                for k in range(first, int(seconds // 5), 2)
            ]
            for first in (0, 1)
        ]
        a, b = (embed_all(embedding, h) for h in halves)
        whole = embed_all(embedding, real)
        for name, (left, right) in {
            "real vs real": (a, b),
            **{n: (whole, embed_all(embedding, s)) for n, s in sets.items()},
        }.items():
            rows[name].append(_distance(left, right))
    return ReportTable(
        f"Fréchet distance to {4 * seconds:g} s of held-out recordings, same music",
        ("sound", *embeddings),
        list(rows.values()),
        remarks,
    )


def _distance(a: np.ndarray, b: np.ndarray) -> str:
    try:
        return f"{frechet_at_infinity(a, b):.3g} ({frechet(a, b):.3g})"
    except BadInput:
        return "too little sound"


def seams_table(material: Material, name: str, r: Rendering, seconds: float, say: Say) -> ReportTable:
    """One long rendering: detectability of its seams, drift, speed, memory."""
    window = 16.0 if seconds > 60 else 5.0
    piece = material.long_performance(seconds, window)
    prompt = next(iter(material.prompts().values()))
    say(f"seams: {name}, rendering {seconds:g} s")
    start, cpu, parts, first = time.perf_counter(), time.process_time(), [], 0.0
    memory: list[float] = []  # megabytes after each part, without the parts
    for clip in r.render_stream(piece, prompt):
        first = first or time.perf_counter() - start
        parts.append(clip.mono())
        memory.append(_memory_mb() - sum(p.samples.nbytes for p in parts) / 1e6)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    sound = AudioClip.joined(parts)
    rate = sound.sample_rate
    found = seam_test(sound, np.cumsum([len(p.samples) for p in parts])[:-1] / rate)
    ends = [(0.0, window), (seconds - window, window)]
    cuts = [AudioClip(sound.samples[int(a * rate) : int((a + n) * rate)], rate) for a, n in ends]
    from training.sound.eval.material import part

    bias = [
        transcription_score(part(piece, a, n), h).onset_bias_ms for (a, n), h in zip(ends, hear_all(cuts), strict=True)
    ]
    rows: list[list[str | float]] = [[f"AUC, {name}", found.auc[name]] for name in MEASURES]
    rows += [
        ["AUC, all together", found.together],
        ["seams", float(found.seams)],
        ["seams with more flux than 95 % of other moments", found.rare],
        ["drift from start to end, ms", bias[1] - bias[0]],
        ["length error, s", abs(len(sound.samples) / rate - wanted_samples(piece) / 32000)],
        ["real-time factor (wall)", wall / sound.duration_sec],
        ["real-time factor (one core)", cpu / sound.duration_sec],
        ["first sound, s", first],
        ["memory: last part against a quarter of the way, MB", memory[-1] - memory[len(memory) // 4]],
    ]
    return ReportTable(
        f"One rendering of {seconds / 60:.1f} minutes: {name}",
        ("measure", "value"),
        rows,
        [
            "AUC 0.5: seams do not differ from other moments. Drift: onset bias of the first seconds, which are "
            "repeated at the end."
        ],
    )


def _memory_mb() -> float:
    """Resident memory of this process, megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def picture_sounds(material: Material, r: Rendering) -> dict[str, AudioClip]:
    """Prompt, sampler and rendering of one piece, for the picture."""
    name, prompt = next((n, p) for n, p in material.prompts().items() if "dry" in n)
    piece = material.performances(1, 8.0, seed=5)[0]
    player = next(play for label, play in material.unseen_pianos().items() if name.startswith(label))
    return {
        f"prompt: {name}": prompt.clip,
        f"sampler plays the piece ({name})": levelled(player(piece)),
        "rendering of the piece with this prompt": r.render(piece, prompt),
    }
