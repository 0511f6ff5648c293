"""Compose, perform, render, transcribe, align and compare as functions. Models load on first use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from engine.etude.objects import AudioClip, Comparison, Performance, Score
from engine.models.pianist.style import AXES
from engine.music import types
from engine.music.types import BadInput, Strength
from engine.progress import ProgressCallback

if TYPE_CHECKING:
    from engine.engine import Engine
    from engine.models.pianist.style_curve import StyleCurve
    from engine.sound.prompts import Prompt


@cache
def load() -> Engine:
    """The shared Engine of these functions, with the installed checkpoints."""
    from engine.engine import Engine

    return Engine.load()


def styles() -> dict[str, tuple[float, ...]]:
    """The named styles and their latents, without loading a model."""
    from engine.checkpoints.index import CHECKPOINTS
    from engine.checkpoints.index import styles as known

    return known(CHECKPOINTS).presets


def prompts() -> dict[str, str]:
    """The gallery of reference sounds: name and credit."""
    from engine.sound.prompts import gallery

    return {name: prompt.credit for name, prompt in gallery().items()}


def compose(
    composer: str = "", period: str = "", key: str = "", meter: str = "", tempo: float = 0.0, density: float = 0.0,
    *, notes: int = 256, bars: int = 0, form: str = "", seed: int = 0, temperature: float = 1.0,
    top_p: float | None = None, progress: ProgressCallback | None = None,
) -> Score:  # fmt: skip
    """Compose a piece. Empty or 0 conditions are open; see `engine.models.composer.conditions.Conditions`.

    notes, bars  approximate number of notes, or exact number of bars; `form` ("AABA", "A8 B8 A'8") counts its own bars
    seed         the same seed and settings give the same piece
    Raises BadInput for an unknown condition.
    """
    from engine.models.composer.conditions import TOP_P, Conditions
    from engine.requests import ComposeRequest

    asked = Conditions(composer, period, key, meter, tempo, density).check()
    top_p = TOP_P if top_p is None else top_p
    request = ComposeRequest(asked, notes, bars, seed=seed, temperature=temperature, top_p=top_p, form=form)
    return Score.of(load().compose(request, progress=progress)[0])


def perform(
    score: types.Score, style: str | types.Performance = "Default", *, tempo: float = 0.0, rubato: float = 0.0,
    loudness: float = 0.0, contrast: float = 0.0, articulation: float = 0.0, spread: float = 0.0, voicing: float = 0.0,
    lead: float = 0.0, pedal: float = 0.0, strength: float | Strength = 1.0,
    curve: Mapping[str, Mapping[float, float]] | str | Path | None = None, seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Performance:  # fmt: skip
    """Perform a score; note i of the performance is note i of the score.

    style             a name of `styles()`, or a performance of the same score to take the style from
    tempo ... pedal   the nine sliders, in standard deviations of human pianists, -3 to 3, added to the style
    strength          0 deadpan, 1 as modelled, up to 1.5; one number, or a Strength for each kind of expression
    curve             sliders and strengths over the bars, added to the style: {"tempo": {1: 0, 8: 1.5}}, or a CSV file;
                      names as in `engine.models.pianist.style_curve.curve_of`
    seed              the same seed and settings give the same notes
    Raises BadInput for an unknown style or an invalid value.
    """
    from engine.requests import PerformRequest

    engine = load()
    base = style_of(style, score) if isinstance(style, types.Performance) else _named(style)
    sliders = {
        "tempo": tempo, "rubato": rubato, "loudness": loudness, "contrast": contrast, "articulation": articulation,
        "spread": spread, "voicing": voicing, "lead": lead, "pedal": pedal,
    }  # fmt: skip
    much = strength if isinstance(strength, Strength) else Strength(*[strength] * 5)
    wanted = engine.style([sliders[axis.name] for axis in AXES], base, much, seed)
    request = PerformRequest(score, wanted, curve=None if curve is None else _curve(curve))
    return Performance.of(engine.perform(request, progress), Score.of(score))


def _curve(curve: Mapping[str, Mapping[float, float]] | str | Path) -> StyleCurve:
    from engine.files import read_input
    from engine.models.pianist.style_curve import curve_of, read_curve

    if isinstance(curve, Mapping):
        return curve_of(curve)
    return read_curve(read_input(Path(curve)))


def _named(name: str) -> tuple[float, ...]:
    by_lower = {known.lower(): z for known, z in styles().items()}
    if name.lower() not in by_lower:
        raise BadInput(f'There is no style "{name}"; the styles are {", ".join(styles())}.')
    return by_lower[name.lower()]


def style_of(performance: types.Performance, score: types.Score | None = None) -> tuple[float, ...]:
    """The latent style of a performance of this score (by default its own score)."""
    known = align(score, performance) if score is not None else performance
    if not isinstance(known, Performance):
        raise BadInput("This performance has no score; pass its score.")
    of, alignment = known.pair()
    return load().style_from(of, known, alignment)


def preview(performance: types.Performance, piano: str = "grand") -> AudioClip:
    """The sound of a performance on a sampled piano: grand, upright, player or system."""
    from engine.sound.preview import Preview

    return AudioClip.of(Preview().preview(performance, piano))


def render(
    performance: types.Performance, prompt: str | Path | types.AudioClip = "goldberg", *, seed: int = 0,
    temperature: float = 1.0, method: str = "fitted", progress: ProgressCallback | None = None,
) -> AudioClip:  # fmt: skip
    """The sound of a performance on the piano of a recording.

    prompt  a name of `prompts()`, a sound file or an AudioClip of 3 s or more, of which the first 6 s are used
    method  "fitted", "product", "paper", "physical" or "ddsp", see docs/models.md
    """
    from engine.requests import FITTED_METHODS, RenderRequest

    engine = load()
    wanted = _prompt(prompt)
    if method in FITTED_METHODS and wanted.notes is None:
        from dataclasses import replace

        wanted = replace(wanted, notes=engine.transcribe(wanted.clip))
    request = RenderRequest(performance, wanted, seed, temperature, profile=method)
    return AudioClip.of(engine.render(request, progress))


def _prompt(prompt: str | Path | types.AudioClip) -> Prompt:
    from engine.files import read_input
    from engine.sound.prompts import gallery, prepare_prompt, read_prompt

    if isinstance(prompt, types.AudioClip):
        return prepare_prompt(prompt, seconds=min(6.0, prompt.duration_sec), name="recording")
    known, path = gallery(), Path(prompt)
    if str(prompt) in known and not path.exists():
        return known[str(prompt)]
    if not path.exists():
        raise BadInput(f"There is no file {prompt}; name a recording, or one of {', '.join(known)}.")
    return read_prompt(read_input(path), name=path.name)


def transcribe(recording: str | Path | types.AudioClip, progress: ProgressCallback | None = None) -> Performance:
    """The notes and pedal of a recording of piano music; a file, or an AudioClip, of up to an hour."""
    from engine.sound.transcribe import transcribe as of_clip

    clip = recording if isinstance(recording, types.AudioClip) else AudioClip.open(recording)
    return Performance.of(of_clip(clip, progress))


def align(score: types.Score, performance: types.Performance, progress: ProgressCallback | None = None) -> Performance:
    """The performance with its score and `.alignment`. Raises BadInput if under 30 % of the notes match."""
    from engine.music.io.alignment import align as of_notes

    known = getattr(performance, "score", None)
    if known is not None and known.digest == score.digest and isinstance(performance, Performance):
        return performance
    from engine.etude.objects import Alignment

    return Performance.of(performance, Score.of(score), Alignment.of(of_notes(score, performance, progress)))


def compare(score: types.Score, performances: Mapping[str, types.Performance]) -> Comparison:
    """Performances of one score, by name: tables, curves, agreement. Those without an alignment are aligned."""
    if not performances:
        raise BadInput("There is no performance to compare; give them by name, such as {'mine': mine, 'hers': hers}.")
    return Comparison(Score.of(score), {name: align(score, played) for name, played in performances.items()})
