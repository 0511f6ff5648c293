"""Endpoints that compose, continue and infill. Their docstrings are the public documentation."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Literal

from engine.compose.form import parse_form
from engine.compose.sections import move_section
from engine.limits import COMPOSED_BARS, COMPOSED_NOTES, MAX_SEED, MIN_VARIED, PASSAGE_NOTES
from engine.models.composer.conditions import TOP_P, Conditions
from engine.music.types import BadInput, Performance, Score
from engine.progress import NoteCallback, ProgressCallback
from engine.requests import ComposeRequest, PassageRequest, PerformRequest, read_direction
from studio.actions.composing import as_form
from studio.actions.sections import ACTS
from studio.api.playing import style_of
from studio.api.values import (
    Answer,
    Upload,
    as_number,
    as_score,
    as_text,
    as_whole,
    given,
    time_limit,
    weights,
)
from studio.service.shared_engine import SharedEngine


def _request(
    composer: Any, period: Any, key: Any, meter: Any, tempo: Any, density: Any, notes: Any, bars: Any, seed: Any,
    temperature: Any, top_p: Any,
) -> ComposeRequest:  # fmt: skip
    from engine.models.composer.conditions import COMPOSERS, KEYS, METER_NAMES, PERIODS

    count = as_whole(bars, "bars", 0, COMPOSED_BARS)
    conditions = Conditions(
        as_text(composer, "The composer", COMPOSERS, ""), as_text(period, "The period", PERIODS, ""),
        as_text(key, "The key", KEYS, ""), as_text(meter, "The metre", METER_NAMES, ""),
        as_number(tempo, "The tempo", 20, 300) if tempo else 0.0,
        as_number(density, "The density", 0.25, 16) if density else 0.0,
    )  # fmt: skip
    return ComposeRequest(
        conditions, as_whole(notes, "notes", 8, COMPOSED_NOTES), count, 1, as_whole(seed, "The seed", 0, MAX_SEED),
        as_number(temperature, "The temperature", 0.1, 2), as_number(top_p, "top_p", 0.01, 1),
    )  # fmt: skip


def _answer(score: Score, asked: ComposeRequest, performance: Performance) -> tuple[Answer, Answer, dict]:
    hidden = ("conditions", "seed", "takes", "passage")
    settings = {k: v for k, v in asdict(asked).items() if k not in hidden}
    return _written(score, performance, asked.seed, {**asdict(asked.conditions), **settings}, ("composer", "pianist"))


def _written(
    score: Score, performance: Performance, seed: int, asked: dict, models: tuple[str, ...]
) -> tuple[Answer, Answer, dict]:
    """Score, performance and settings as the endpoints return them, with the weights of the models."""
    from engine.music.edition import edited
    from engine.music.io.midi import write_midi
    from engine.untrusted.saving import save_musicxml

    about = {
        "notes": len(score), "bars": len(score.measures), "duration_sec": round(performance.end_sec, 3),
        "seed": seed, "asked": asked, "weights": {kind: weights(kind) for kind in models},
    }  # fmt: skip
    name = f"etude-{seed}"
    return (
        given(f"{name}.musicxml", save_musicxml(edited(score, performance))),
        given(f"{name}.mid", write_midi(performance)),
        about,
    )


def compose(
    shared: SharedEngine, composer: str = "", period: str = "", key: str = "", meter: str = "", tempo: float = 0.0,
    density: float = 0.0, notes: int = 256, bars: int = 0, seed: int = 0, temperature: float = 1.0,
    top_p: float = TOP_P, form: str = "",
) -> tuple[Answer, Answer, dict]:  # fmt: skip
    """Compose a piano piece and perform it. Returns score (MusicXML), performance (MIDI) and settings.

    Args:
        composer: a name from list_conditions; empty leaves it open
        period: Baroque, Classical, Romantic or Modern; empty leaves it open
        key: such as "C major" or "F# minor"; empty leaves it open
        meter: such as "3/4"; empty leaves it open
        tempo: quarter notes a minute, 20 to 300; 0 leaves it open
        density: notes a quarter, 0.25 to 16; 0 leaves it open
        notes: approximate number of notes, 8 to 2048; ignored if bars is given
        bars: exact number of bars, 1 to 128; 0 uses notes
        seed: the same seed and settings give the same piece
        temperature: sampling temperature, 0.1 (conservative) to 2 (random); 1 is as trained
        top_p: nucleus sampling threshold, 0.01 to 1
        form: AABA, ABA', rondo, theme and variations, minuet and trio, or a plan such as "A8 A'8 B8 A8"; empty for none
    """
    asked = _request(composer, period, key, meter, tempo, density, notes, bars, seed, temperature, top_p)
    asked = replace(asked, **as_form(form))
    step = time_limit()
    score = shared.compose(asked, _on_note(step), step)[0]
    return _answer(score, asked, shared.perform(PerformRequest(score, style_of(shared)), step))


def compose_passage(
    shared: SharedEngine, model: Literal["xmvae", "ecpt", "mt"] = "xmvae", notes: int = PASSAGE_NOTES,
    source: Upload | str = "", towards: Upload | str = "", share: float = 0.3, z_p: str = "", seed: int = 0,
    temperature: float = 1.0,
) -> tuple[Answer, Answer, dict]:  # fmt: skip
    """Compose a passage with a system of the XMVAE paper, or vary one with XMVAE. Returns score (MusicXML), the model's
    own performance (MIDI) and settings.

    Args:
        model: xmvae, ecpt or mt; those whose weights are installed
        notes: at most, 8 to 256
        source: a passage to vary, of 8 to 256 notes; an uploaded file, or a data: URI with base64; empty for none
        towards: a second passage, whose codes are mixed with those of source; empty for none
        share: share of the codes of source to sample again, 0 plays its notes again; with towards, its weight
        z_p: directions of XMVAE's playing and their deviations, -3 to 3, such as "Tempo=1.5, Loudness=-1"
        seed: the same seed and settings give the same passage
        temperature: sampling temperature, 0.1 to 2; 1 is as trained
    """
    if model not in shared.paper_models:
        known = ", ".join(shared.paper_models) or "none"
        raise BadInput(f'The weights of the model "{str(model)[:40]}" are not installed; installed: {known}.')
    request = PassageRequest(
        model, as_whole(notes, "notes", MIN_VARIED, PASSAGE_NOTES), 1, as_whole(seed, "The seed", 0, MAX_SEED),
        as_number(temperature, "The temperature", 0.1, 2), as_score(source) if source else None,
        as_score(towards) if towards else None, as_number(share, "The share", 0, 1),
        tuple(read_direction(part) for part in str(z_p or "").split(",") if part.strip()),
    ).check()  # fmt: skip
    step = time_limit()
    (passage,) = shared.compose_passages(request, step)
    performance = passage.performance or shared.perform(PerformRequest(passage.score, style_of(shared)), step)
    asked = {
        "model": model, "share": request.share, "z_p": dict(request.z_p), "temperature": request.temperature,
    }  # fmt: skip
    return _written(passage.score, performance, request.seed, asked, (model,))


def continue_piece(
    shared: SharedEngine, score: Upload | str, notes: int = 128, bars: int = 0, seed: int = 0, temperature: float = 1.0,
    top_p: float = TOP_P,
) -> tuple[Answer, Answer, dict]:  # fmt: skip
    """Continue a score after its last note. Returns score (MusicXML), performance (MIDI) and settings.

    Args:
        score: MusicXML, .mxl, MIDI, kern, MEI or ABC; an uploaded file, or a data: URI with base64
        notes: approximate number of notes to add, 8 to 2048; ignored if bars is given
        bars: exact number of bars to add, 1 to 128; 0 uses notes
        seed: the same seed and settings give the same notes
        temperature: sampling temperature, 0.1 (conservative) to 2 (random); 1 is as trained
        top_p: nucleus sampling threshold, 0.01 to 1
    """
    asked = _request("", "", "", "", 0, 0, notes, bars, seed, temperature, top_p)
    old, step = as_score(score), time_limit()
    new = shared.compose(asked.continuing(old), _on_note(step), step)[0]
    return _answer(new, asked, shared.perform(PerformRequest(new, style_of(shared)), step))


def infill(
    shared: SharedEngine, score: Upload | str, first_bar: int, last_bar: int,
    staff: Literal["both", "upper", "lower"] = "both", seed: int = 0, temperature: float = 1.0, top_p: float = TOP_P,
) -> tuple[Answer, Answer, dict]:  # fmt: skip
    """Rewrite some bars of a score. Returns score (MusicXML), performance (MIDI) and settings.

    Args:
        score: MusicXML, .mxl, MIDI, kern, MEI or ABC; an uploaded file, or a data: URI with base64
        first_bar: first bar to rewrite, by its printed number
        last_bar: last bar to rewrite, by its printed number
        staff: both, or only the upper or the lower one
        seed: the same seed and settings give the same notes
        temperature: sampling temperature, 0.1 (conservative) to 2 (random); 1 is as trained
        top_p: nucleus sampling threshold, 0.01 to 1
    """
    from engine.cli.compose_commands import passage

    asked = _request("", "", "", "", 0, 0, 256, 0, seed, temperature, top_p)
    hand = ("both", "upper", "lower").index(as_text(staff, "The staff", ("both", "upper", "lower")))
    bars = as_whole(first_bar, "first_bar", 0, 100_000), as_whole(last_bar, "last_bar", 0, 100_000)
    old, step = as_score(score), time_limit()
    selected, span = passage(old, bars, hand)
    new = shared.compose(asked.rewriting(old, selected, span), _on_note(step), step)[0]
    return _answer(new, asked, shared.perform(PerformRequest(new, style_of(shared)), step))


def edit_section(
    shared: SharedEngine, score: Upload | str, form: str, section: int,
    action: Literal["recompose", "vary", "move"] = "recompose", to: int = 1, seed: int = 0, temperature: float = 1.0,
    top_p: float = TOP_P,
) -> tuple[Answer, Answer, dict]:  # fmt: skip
    """Change one section of a score with a form. Returns score (MusicXML), performance (MIDI) and settings.

    Args:
        score: MusicXML, .mxl, MIDI, kern, MEI or ABC; an uploaded file, or a data: URI with base64
        form: the sections of the score, such as "A8 A'8 B8 A8"; each bar belongs to one
        section: number of the section, from 1
        action: recompose for new music, vary for a new ending and then a new staff, move for another place
        to: the place that the section is moved to, from 1
        seed: the same seed and settings give the same notes
        temperature: sampling temperature, 0.1 (conservative) to 2 (random); 1 is as trained
        top_p: nucleus sampling threshold, 0.01 to 1
    """
    act = as_text(action, "action", (*ACTS, "move"))
    asked = _request("", "", "", "", 0, 0, 256, 0, seed, temperature, top_p)
    plan, old, step = parse_form(as_form(form).get("form", "")), as_score(score), time_limit()
    if plan is None:
        raise BadInput("The form is free; send the sections of the score, such as A8 A'8 B8 A8.")
    k = as_whole(section, "section", 1, len(plan.sections)) - 1
    if act == "move":
        new, changed = move_section(old, plan, k, as_whole(to, "to", 1, len(plan.sections)) - 1)
    else:
        filling, changed = ACTS[act](old, plan, k, asked)
        new = shared.compose(filling, _on_note(step), step)[0]
    page, played, about = _answer(new, asked, shared.perform(PerformRequest(new, style_of(shared)), step))
    return page, played, {**about, "form": str(changed)}


def _on_note(step: ProgressCallback) -> NoteCallback:
    return lambda *note: step(0.0)
