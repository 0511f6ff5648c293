"""The endpoints for programs: what the page can do, by name, for `gradio_client`, plain HTTP and MCP. docs/api.md.

Each keeps nothing of its caller. The docstrings are the documentation that clients and MCP tools show, their `Args`
the schema. Refusals are one sentence. The events of the page itself stay private.
"""

from __future__ import annotations

import html
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import wraps
from typing import Any, Literal

import gradio as gr

from engine.limits import COMPOSED_BARS, COMPOSED_NOTES
from engine.measures.exports import ALL, EXPORTS, export_all
from engine.models.composer.conditions import TOP_P, Conditions
from engine.music.remarks import to_json
from engine.music.types import AudioClip, BadInput, BundleError, Performance, Score, Strength, Style
from engine.progress import ProgressCallback
from engine.requests import ComposeRequest, PerformRequest, RenderRequest
from engine.untrusted.matches import is_match, open_match
from engine.untrusted.scores import open_performance
from studio.actions.composing import as_form
from studio.api.values import (
    MAX_SEED,
    Answer,
    Upload,
    as_file,
    as_number,
    as_performance,
    as_score,
    as_text,
    as_whole,
    given,
    sound_file,
    time_limit,
    weights,
)
from studio.project.apart import audio_apart
from studio.service.shared_engine import SharedEngine

KINDS = (*EXPORTS, ALL)  # of export
AT_ONCE = 4  # calls that are worked on; the shared engine lets one play, one compose and one render at a time
_BROKEN = "Something went wrong in the studio, so this was not done; try again, or with another file."


def has_mcp() -> bool:
    """Whether the package that MCP needs is installed (`gradio[mcp]`)."""
    return importlib.util.find_spec("mcp") is not None


def connect_api(shared: SharedEngine) -> None:
    """Add the endpoints; called once, inside an open gr.Blocks."""
    for work in (*_writing(shared), *_playing(shared), *_listening(shared)):
        gr.api(_said(work), api_name=work.__name__, concurrency_limit=AT_ONCE, concurrency_id="api")
    for listing in _lists(shared):
        gr.api(_said(listing), api_name=listing.__name__, queue=False)


def _said(work: Callable) -> Callable:
    """Refusals as one sentence for the client; it may be shown on a page, so it is escaped."""

    @wraps(work)
    def inner(*args: Any) -> Any:
        try:
            return work(*args)
        except (BadInput, BundleError) as refusal:
            raise gr.Error(html.escape(str(refusal), quote=False), print_exception=False) from None
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(_BROKEN) from error

    inner.__signature__ = inspect.signature(work, eval_str=True)  # type: ignore[attr-defined]  # gradio reads the types
    return inner


# ---- writing
def _writing(shared: SharedEngine) -> tuple[Callable, ...]:
    def request(
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

    def written(score: Score, asked: ComposeRequest, performance: Performance) -> tuple[Answer, Answer, dict]:
        from engine.music.edition import edited
        from engine.music.io.midi import write_midi
        from engine.untrusted.saving import save_musicxml

        hidden = ("conditions", "seed", "takes", "passage")
        settings = {k: v for k, v in asdict(asked).items() if k not in hidden}
        about = {
            "notes": len(score), "bars": len(score.measures), "duration_sec": round(performance.end_sec, 3),
            "seed": asked.seed, "asked": {**asdict(asked.conditions), **settings},
            "weights": {"composer": weights("composer"), "pianist": weights("pianist")},
        }  # fmt: skip
        name = f"etude-{asked.seed}"
        return (
            given(f"{name}.musicxml", save_musicxml(edited(score, performance))),
            given(f"{name}.mid", write_midi(performance)),
            about,
        )

    def compose(
        composer: str = "", period: str = "", key: str = "", meter: str = "", tempo: float = 0.0,
        density: float = 0.0, notes: int = 256, bars: int = 0, seed: int = 0, temperature: float = 1.0,
        top_p: float = TOP_P, form: str = "",
    ) -> tuple[Answer, Answer, dict]:  # fmt: skip
        """Write a new piano piece and play it. Returns score (MusicXML), performance (MIDI), and how it was made.

        Args:
            composer: in whose manner, a name of list_conditions; empty leaves it open
            period: Baroque, Classical, Romantic or Modern; empty leaves it open
            key: such as "C major" or "F# minor"; empty leaves it open
            meter: such as "3/4"; empty leaves it open
            tempo: quarter notes a minute, 20 to 300; 0 leaves it open
            density: notes a quarter, 0.25 to 16; 0 leaves it open
            notes: about how many notes to write, 8 to 2048; does not count when bars is given
            bars: exactly how many bars, 1 to 128; 0 goes by notes
            seed: the same seed and settings give the same piece
            temperature: 0.1 careful to 2 wild; 1 is as learned
            top_p: draw from the likeliest choices only, a share from 0.01 to 1
            form: AABA, ABA', rondo, theme and variations, minuet and trio, or such as "A8 A'8 B8 A8"; empty for free
        """
        asked = request(composer, period, key, meter, tempo, density, notes, bars, seed, temperature, top_p)
        asked = replace(asked, **as_form(form))
        step = time_limit()
        score = shared.compose(asked, _on_note(step), step)[0]
        return written(score, asked, shared.perform(PerformRequest(score, _style(shared)), step))

    def continue_piece(
        score: Upload | str, notes: int = 128, bars: int = 0, seed: int = 0, temperature: float = 1.0,
        top_p: float = TOP_P,
    ) -> tuple[Answer, Answer, dict]:  # fmt: skip
        """Write on after a score's last note. Returns score (MusicXML), performance (MIDI), and how it was made.

        Args:
            score: MusicXML, .mxl, MIDI, kern or MEI; an uploaded file, or a data: URI with base64
            notes: about how many notes to add, 8 to 2048; does not count when bars is given
            bars: exactly how many bars to add, 1 to 128; 0 goes by notes
            seed: the same seed and settings give the same notes
            temperature: 0.1 careful to 2 wild; 1 is as learned
            top_p: draw from the likeliest choices only, a share from 0.01 to 1
        """
        asked = request("", "", "", "", 0, 0, notes, bars, seed, temperature, top_p)
        old, step = as_score(score), time_limit()
        new = shared.compose(asked.continuing(old), _on_note(step), step)[0]
        return written(new, asked, shared.perform(PerformRequest(new, _style(shared)), step))

    def infill(
        score: Upload | str, first_bar: int, last_bar: int, staff: Literal["both", "upper", "lower"] = "both",
        seed: int = 0, temperature: float = 1.0, top_p: float = TOP_P,
    ) -> tuple[Answer, Answer, dict]:  # fmt: skip
        """Write some bars of a score anew. Returns score (MusicXML), performance (MIDI), and how it was made.

        Args:
            score: MusicXML, .mxl, MIDI, kern or MEI; an uploaded file, or a data: URI with base64
            first_bar: first bar to write anew, by its printed number
            last_bar: last bar to write anew, by its printed number
            staff: both, or only the upper or the lower one
            seed: the same seed and settings give the same notes
            temperature: 0.1 careful to 2 wild; 1 is as learned
            top_p: draw from the likeliest choices only, a share from 0.01 to 1
        """
        from engine.cli.compose_commands import passage

        asked = request("", "", "", "", 0, 0, 256, 0, seed, temperature, top_p)
        hand = ("both", "upper", "lower").index(as_text(staff, "The staff", ("both", "upper", "lower")))
        bars = as_whole(first_bar, "first_bar", 0, 100_000), as_whole(last_bar, "last_bar", 0, 100_000)
        old, step = as_score(score), time_limit()
        selected, span = passage(old, bars, hand)
        new = shared.compose(asked.rewriting(old, selected, span), _on_note(step), step)[0]
        return written(new, asked, shared.perform(PerformRequest(new, _style(shared)), step))

    return compose, continue_piece, infill


def _on_note(step: ProgressCallback) -> Callable[..., None]:
    return lambda *note: step(0.0)


def _style(shared: SharedEngine, name: str = "Default", sliders: tuple[float, ...] = (), strength: float = 1.0, seed:
int = 0,
           base: tuple[float, ...] | None = None) -> Style:  # fmt: skip
    latent = shared.presets[as_text(name, "The style", tuple(shared.presets))] if base is None else base
    return shared.engine.style(sliders, base=latent, strength=Strength(*[strength] * 5), seed=seed)


# ---- playing
def _playing(shared: SharedEngine) -> tuple[Callable, ...]:
    def perform(
        score: Upload | str, style: str = "Default", sliders: list[float] | None = None, strength: float = 1.0,
        seed: int = 0, like: Upload | str | None = None, form: Literal["midi", "locked"] = "midi",
    ) -> tuple[Answer, dict]:  # fmt: skip
        """Play a score as a pianist would. Returns the performance (MIDI) and how it was made.

        Args:
            score: MusicXML, .mxl, MIDI, kern or MEI; an uploaded file, or a data: URI with base64
            style: a name of list_styles
            sliders: up to nine numbers from -3 to 3 in the order of list_styles; 0 is the style's own
            strength: how much expression, 0 as written to 1.5 exaggerated; 1 is what the pianist plays
            seed: the same seed and settings give the same notes
            like: a MIDI performance of the same score whose style is borrowed; style does not count then
            form: midi as played in milliseconds, or locked under the score's bars with a tempo for every beat
        """
        from engine.music.io.midi import write_midi, write_midi_locked

        moved = _sliders(shared, sliders)
        much, number = as_number(strength, "The strength", 0, 1.5), as_whole(seed, "The seed", 0, MAX_SEED)
        kind = as_text(form, "form", ("midi", "locked"))
        opened, step = as_score(score), time_limit()
        base = None
        if like not in (None, ""):
            human = as_performance(like, "The performance in like")
            base = shared.style_from(opened, human, shared.align(opened, human, step))
        chosen = _style(shared, style, moved, much, number, base)
        played = shared.perform(PerformRequest(opened, chosen), step)
        data = write_midi(played) if kind == "midi" else write_midi_locked(opened, played)
        about = {
            "notes": len(played), "duration_sec": round(played.end_sec, 3), "seed": number,
            "style": "borrowed" if base is not None else style, "z": [round(v, 6) for v in chosen.z],
            "strength": much, "form": kind, "weights": {"pianist": weights("pianist")},
            "remarks": to_json(opened.remarks),
        }  # fmt: skip
        return given(f"performance-{number}.mid", data), about

    def preview(
        performance: Upload | str, piano: str = "grand", form: Literal["wav", "flac"] = "wav"
    ) -> tuple[Answer, dict]:
        """Hear a MIDI performance on a sampled piano, at once. Returns the sound and how it was made.

        Args:
            performance: MIDI; an uploaded file, or a data: URI with base64
            piano: grand, upright, player or system
            form: wav or flac
        """
        chosen = as_text(piano, "The piano", tuple(shared.pianos))
        kind = as_text(form, "form", ("wav", "flac"))
        clip = shared.preview(as_performance(performance), chosen, time_limit())
        return sound_file(clip, "preview", kind), {**_sound(clip), "piano": chosen}

    def render(
        performance: Upload | str, prompt: str = "goldberg", recording: Upload | str | None = None,
        recording_start: float = 0.0, recording_seconds: float = 6.0, recording_midi: Upload | str | None = None,
        seed: int = 0, temperature: float = 1.0, start_sec: float = 0.0, end_sec: float = 0.0,
        profile: str = "fitted", form: Literal["wav", "flac"] = "wav",
    ) -> tuple[Answer, dict]:  # fmt: skip
        """Play a MIDI performance with the sound of a recording. Returns the sound and how it was made.

        Args:
            performance: MIDI; an uploaded file, or a data: URI with base64
            prompt: whose sound, a name of list_prompts; does not count when a recording is given
            recording: a recording of your own to sound like: WAV, FLAC, AIFF, M4A, WebM, OGG or MP3 of at least 3 s
            recording_start: where its excerpt begins, seconds
            recording_seconds: how long the excerpt is, 3 to 10
            recording_midi: what is played in the recording, as MIDI, if you have it
            seed: the same seed and settings give the same sound
            temperature: 0 the likeliest sound, 1 as in recordings, up to 1.5
            start_sec: render from here, seconds of the performance
            end_sec: render up to here; 0 is the end
            profile: fitted (a sampled piano fitted to the recording), product (Étude's codec model), or paper where
                MIDI-VALLE's weights have been imported
            form: wav or flac
        """
        from engine.render.provenance import describe_render

        kind = as_text(form, "form", ("wav", "flac"))
        first, last = (as_number(v, n, 0, 3600) for v, n in ((start_sec, "start_sec"), (end_sec, "end_sec")))
        if last and last <= first:
            raise BadInput("The part to render ends before it begins; end_sec is later than start_sec, or 0.")
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
            **_sound(clip), "prompt": asked.prompt.name, "credit": asked.prompt.credit, "seed": asked.seed,
            "temperature": asked.temperature, "profile": asked.profile, "weights": {"renderer": digest},
            "remarks": list(asked.prompt.remarks),
        }  # fmt: skip
        return sound_file(clip, f"render-{asked.seed}", kind, comment), about

    return perform, preview, render


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


def _sound(clip: AudioClip) -> dict[str, Any]:
    return {"duration_sec": round(clip.duration_sec, 3), "sample_rate": clip.sample_rate}


# ---- listening and measuring
def _listening(shared: SharedEngine) -> tuple[Callable, ...]:
    def metrics(performance: Upload | str) -> list[dict]:
        """Measure a performance beside human performances of (n)ASAP. Returns a row for each measure.

        Args:
            performance: MIDI of at least 32 notes; an uploaded file, or a data: URI with base64
        """
        from engine.measures.performance_metrics import panel

        return [asdict(row) for row in panel(as_performance(performance))]

    def transcribe(recording: Upload | str) -> tuple[Answer, dict]:
        """Write down the notes and pedal that are heard in a piano recording. Returns MIDI and how much was heard.

        Args:
            recording: a sound file (the first minute is read), uploaded or as a data: URI
        """
        from engine.music.io.midi import write_midi

        clip = audio_apart(as_file(recording, "The recording")[0]).mono()
        heard = shared.transcribe(clip, time_limit())
        if not len(heard):
            raise BadInput("No piano notes are heard in this recording; choose a recording of a piano.")
        return given("heard.mid", write_midi(heard)), {"notes": len(heard), **_sound(clip)}

    def export(
        performance: Upload | str, score: Upload | str | None = None,
        kind: Literal["notes", "beats", "match", "sv-beats", "sv-tempo", "sv-notes", "labels", "all"] = "notes",
    ) -> tuple[Answer, dict]:  # fmt: skip
        """Write a performance of a score as a table, or for another program. Returns the file and what was matched.

        Args:
            performance: MIDI, or a match file, which holds its score; an uploaded file, or a data: URI with base64
            score: the score that it plays, as for perform; may be left out for a match file
            kind: notes or beats (CSV), match, sv-beats, sv-tempo or sv-notes (Sonic Visualiser), labels (Audacity), all
        """
        chosen = as_text(kind, "kind", KINDS)
        step = time_limit()
        data, name = as_file(performance, "The performance")
        own = open_match(data, name, lambda: step(0.0)) if is_match(data) else None
        if score not in (None, ""):
            written = as_score(score)
            played = own[1] if own else open_performance(data, name)
            pairs = shared.align(written, played, step)
        elif own is not None:
            written, played, pairs = own
        else:
            raise BadInput("A MIDI file does not hold its score; send the score, too.")
        if chosen == ALL:
            file = given("performance-data.zip", export_all(written, played, pairs, "performance"))
        else:
            file = given(f"performance{EXPORTS[chosen].ending}", EXPORTS[chosen].make(written, played, pairs))
        return file, {"notes": len(written), "matched": len(pairs), "kind": chosen}

    return metrics, transcribe, export


# ---- what there is to choose from
def _lists(shared: SharedEngine) -> tuple[Callable, ...]:
    def list_styles() -> dict:
        """The sliders and the named styles of perform: labels, what each end means, values of every style."""
        axes = [{"name": a.name, "label": a.label, "low": a.low, "high": a.high} for a in shared.axes]
        return {"sliders": axes, "styles": {name: list(z) for name, z in shared.presets.items()}}

    def list_prompts() -> list[dict]:
        """The reference sounds of render, with their credits."""
        from engine.sound.prompts import gallery

        return [
            {"name": key, "title": prompt.name, "seconds": prompt.clip.duration_sec, "credit": prompt.credit}
            for key, prompt in gallery().items()
        ]

    def list_conditions() -> dict:
        """The composers, periods, keys and metres of compose, and the pianos of preview."""
        from engine.models.composer.conditions import COMPOSERS, KEYS, METER_NAMES, PERIODS

        named = {"composers": COMPOSERS, "periods": PERIODS, "keys": KEYS, "meters": METER_NAMES}
        return {**{name: list(values) for name, values in named.items()}, "pianos": list(shared.pianos)}

    return list_styles, list_prompts, list_conditions
