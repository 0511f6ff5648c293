"""Endpoints that perform, preview and render. Their docstrings are the public documentation."""

from __future__ import annotations

from typing import Any, Literal

from engine.limits import MAX_SEED
from engine.models.pianist.style_curve import MAX_CSV, parse_curve
from engine.music.remarks import to_json
from engine.music.types import AudioClip, BadInput, Strength, Style
from engine.requests import PerformRequest, RenderRequest
from studio.api.values import (
    Answer,
    Upload,
    as_file,
    as_number,
    as_performance,
    as_score,
    as_text,
    as_whole,
    as_yes_or_no,
    given,
    sound_facts,
    sound_file,
    time_limit,
    weights,
)
from studio.project.apart import audio_apart
from studio.service.shared_engine import SharedEngine


def perform(
    shared: SharedEngine, score: Upload | str, style: str = "Default", sliders: list[float] | None = None,
    strength: float = 1.0, seed: int = 0, like: Upload | str | None = None,
    form: Literal["midi", "locked", "played"] = "midi", voice: bool = False, curve: str = "",
) -> tuple[Answer, dict]:  # fmt: skip
    """Perform a score like a pianist. Returns the performance (MIDI, or MusicXML as played) and its settings.

    Args:
        score: MusicXML, .mxl, MIDI, kern, MEI or ABC; an uploaded file, or a data: URI with base64
        style: a name from list_styles
        sliders: up to nine numbers from -3 to 3 in the order of list_styles; 0 keeps the style's value
        strength: amount of expression, from 0 (as written) to 1.5 (exaggerated); 1 is the pianist's
        seed: the same seed and settings give the same notes
        like: a MIDI performance of the same score to take the style from; style is ignored then
        form: midi (times in milliseconds), locked (aligned with the score's bars, one tempo per beat), or played
            (MusicXML with the tempo, dynamics, attack, release and pedal of the performance)
        curve: sliders and strengths over the bars, as CSV text with a column bar, such as "bar,tempo,strength.lower"
            and lines below it; printed bar numbers, linear between the lines, added to the style; empty for none
        voice: whether a song's voice is played; if not, a remark names the part that is left out
    """
    from engine.music.io.midi import write_midi, write_midi_locked
    from engine.untrusted.saving import save_as_played

    moved = _sliders(shared, sliders)
    much, number = as_number(strength, "The strength", 0, 1.5), as_whole(seed, "The seed", 0, MAX_SEED)
    kind = as_text(form, "form", ("midi", "locked", "played"))
    opened, step = as_score(score, as_yes_or_no(voice, "voice")), time_limit()
    base = None
    if like not in (None, ""):
        human = as_performance(like, "The performance in like")
        base = shared.style_from(opened, human, shared.align(opened, human, step))
    chosen = style_of(shared, style, moved, much, number, base)
    path = parse_curve(curve) if as_text(curve, "The curve", empty="", most=MAX_CSV) else None
    played = shared.perform(PerformRequest(opened, chosen, curve=path), step)
    if kind == "played":
        data = save_as_played(opened, played, lambda: step(0.0))
    else:
        data = write_midi(played) if kind == "midi" else write_midi_locked(opened, played)
    about = {
        "notes": len(played), "duration_sec": round(played.end_sec, 3), "seed": number,
        "style": "borrowed" if base is not None else style, "z": [round(v, 6) for v in chosen.z],
        "strength": much, "form": kind, "weights": {"pianist": weights("pianist")},
        "remarks": to_json(opened.remarks),
    }  # fmt: skip
    return given(f"performance-{number}.{'musicxml' if kind == 'played' else 'mid'}", data), about


def preview(
    shared: SharedEngine, performance: Upload | str, piano: str = "grand", form: Literal["wav", "flac"] = "wav"
) -> tuple[Answer, dict]:
    """Play a MIDI performance on a sampled piano, at once. Returns the sound and its settings.

    Args:
        performance: MIDI; an uploaded file, or a data: URI with base64
        piano: grand, upright, player or system
        form: wav or flac
    """
    chosen = as_text(piano, "The piano", tuple(shared.pianos))
    kind = as_text(form, "form", ("wav", "flac"))
    clip = shared.preview(as_performance(performance), chosen, time_limit())
    return sound_file(clip, "preview", kind), {**sound_facts(clip), "piano": chosen}


def render(
    shared: SharedEngine, performance: Upload | str, prompt: str = "goldberg", recording: Upload | str | None = None,
    recording_start: float = 0.0, recording_seconds: float = 6.0, recording_midi: Upload | str | None = None,
    seed: int = 0, temperature: float = 1.0, start_sec: float = 0.0, end_sec: float = 0.0,
    profile: str = "fitted", form: Literal["wav", "flac"] = "wav",
) -> tuple[Answer, dict]:  # fmt: skip
    """Render a MIDI performance with the sound of a recording. Returns the sound and its settings.

    Args:
        performance: MIDI; an uploaded file, or a data: URI with base64
        prompt: reference sound, a name from list_prompts; ignored if recording is given
        recording: your own reference recording: WAV, FLAC, AIFF, M4A, WebM, OGG or MP3 of at least 3 s
        recording_start: start of its excerpt, seconds
        recording_seconds: length of the excerpt, 3 to 10
        recording_midi: MIDI of the recording, if you have it
        seed: the same seed and settings give the same sound
        temperature: from 0 (likeliest sound) to 1.5; 1 is as in recordings
        start_sec: start of the part to render, seconds of the performance
        end_sec: end of the part to render; 0 is the end of the performance
        profile: fitted (a sampled piano fitted to the recording), product (Étude's codec model), paper where
            MIDI-VALLE's weights have been imported, physical (modal strings), or ddsp (DDSP-Piano)
        form: wav or flac
    """
    from engine.render.provenance import describe_render

    kind = as_text(form, "form", ("wav", "flac"))
    first, last = (as_number(v, n, 0, 3600) for v, n in ((start_sec, "start_sec"), (end_sec, "end_sec")))
    if last and last <= first:
        raise BadInput("The part to render ends before it begins; set end_sec later than start_sec, or to 0.")
    played = as_performance(performance)
    asked = RenderRequest(
        played, _prompt(prompt, recording, recording_start, recording_seconds, recording_midi),
        as_whole(seed, "The seed", 0, MAX_SEED), as_number(temperature, "The temperature", 0, 1.5),
        (first, last or None), profile=as_text(profile, "The profile", shared.profiles),
    )  # fmt: skip
    digest = shared.render_weights(asked.profile)
    if asked.needs_transcription:
        asked = asked.with_prompt_notes(shared.transcribe(asked.prompt.clip, time_limit()))
    clip = AudioClip.joined(shared.render(asked, time_limit()))
    comment = describe_render(asked, digest)
    about = {
        **sound_facts(clip), "prompt": asked.prompt.name, "credit": asked.prompt.credit, "seed": asked.seed,
        "temperature": asked.temperature, "profile": asked.profile, "weights": {"renderer": digest},
        "remarks": list(asked.prompt.remarks),
    }  # fmt: skip
    return sound_file(clip, f"render-{asked.seed}", kind, comment), about


def _sliders(shared: SharedEngine, sliders: Any) -> tuple[float, ...]:
    values = [] if sliders is None else sliders
    if not isinstance(values, list) or len(values) > len(shared.axes):
        raise BadInput(f"sliders is not a list of up to {len(shared.axes)} numbers; leave it out, or send one.")
    return tuple(as_number(v, "A slider", -3, 3) for v in values)


def _prompt(name: Any, recording: Any, start: Any, seconds: Any, midi: Any) -> Any:
    from engine.sound.prompts import gallery, prepare_prompt

    if recording in (None, ""):
        known = gallery()
        return known[as_text(name, "The prompt", tuple(known))]
    notes = as_performance(midi, "recording_midi") if midi not in (None, "") else None
    data, title = as_file(recording, "The recording")
    begin, length = as_number(start, "recording_start", 0, 60), as_number(seconds, "recording_seconds", 3, 10)
    return prepare_prompt(audio_apart(data), begin, length, notes, title[:60])


def style_of(
    shared: SharedEngine, name: str = "Default", sliders: tuple[float, ...] = (), strength: float = 1.0, seed: int = 0,
    base: tuple[float, ...] | None = None,
) -> Style:  # fmt: skip
    """The style of a name or of the latent `base`, moved by slider values and scaled by one strength."""
    latent = shared.presets[as_text(name, "The style", tuple(shared.presets))] if base is None else base
    return shared.engine.style(sliders, base=latent, strength=Strength(*[strength] * 5), seed=seed)
