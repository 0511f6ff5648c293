"""Endpoints that analyse or convert files. Their docstrings are the public documentation."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from engine.measures.exports import ALL, EXPORTS, export_all
from engine.music.remarks import to_json
from engine.music.types import BadInput
from engine.untrusted.matches import is_match, open_match
from engine.untrusted.scores import open_performance
from studio.api.values import Answer, Upload, as_file, as_performance, as_score, as_text, given, sound_facts, time_limit
from studio.project.apart import audio_apart
from studio.service.shared_engine import SharedEngine

PLAYED = "musicxml"  # MusicXML as played
KINDS = (*EXPORTS, PLAYED, ALL)  # of export
NOTATION = ("musicxml", "mei", "svg", "html", "midi")  # of convert


def metrics(shared: SharedEngine, performance: Upload | str) -> list[dict]:
    """Compare the measures of a performance with human performances of (n)ASAP. Returns one row per measure.

    Args:
        performance: MIDI of at least 32 notes; an uploaded file, or a data: URI with base64
    """
    from engine.measures.performance_metrics import panel

    return [asdict(row) for row in panel(as_performance(performance))]


def transcribe(shared: SharedEngine, recording: Upload | str) -> tuple[Answer, dict]:
    """Transcribe the notes and pedal of a piano recording. Returns MIDI and the number of notes.

    Args:
        recording: a sound file (the first minute is read), uploaded or as a data: URI
    """
    from engine.music.io.midi import write_midi

    clip = audio_apart(as_file(recording, "The recording")[0]).mono()
    heard = shared.transcribe(clip, time_limit())
    if not len(heard):
        raise BadInput("No piano notes were found in this recording; choose a recording of a piano.")
    return given("heard.mid", write_midi(heard)), {"notes": len(heard), **sound_facts(clip)}


def export(
    shared: SharedEngine, performance: Upload | str, score: Upload | str | None = None,
    kind: Literal["notes", "beats", "match", "sv-beats", "sv-tempo", "sv-notes", "labels", "musicxml", "all"] = "notes",
) -> tuple[Answer, dict]:  # fmt: skip
    """Export a performance of a score as a table, or for another program. Returns the file and the number of matched
    notes.

    Args:
        performance: MIDI, or a match file, which contains its score; an uploaded file, or a data: URI with base64
        score: the performed score, as for perform; optional for a match file
        kind: notes or beats (CSV), match, sv-beats, sv-tempo or sv-notes (Sonic Visualiser), labels (Audacity),
            musicxml (the score as played), or all but that
    """
    from engine.music.document.as_played import note_for_note
    from engine.untrusted.saving import save_as_played

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
        raise BadInput("A MIDI file does not contain its score; send the score, too.")
    if chosen == PLAYED:
        file = given(
            "played.musicxml", save_as_played(written, note_for_note(written, played, pairs), lambda: step(0.0))
        )
    elif chosen == ALL:
        file = given("performance-data.zip", export_all(written, played, pairs, "performance"))
    else:
        file = given(f"performance{EXPORTS[chosen].ending}", EXPORTS[chosen].make(written, played, pairs))
    return file, {"notes": len(written), "matched": len(pairs), "kind": chosen}


def convert(
    shared: SharedEngine, score: Upload | str, form: Literal["musicxml", "mei", "svg", "html", "midi"] = "musicxml"
) -> tuple[Answer, dict]:
    """Convert a score. Returns the file, and the numbers of its notes and bars.

    Args:
        score: MusicXML, .mxl, MIDI, kern, MEI or ABC; an uploaded file, or a data: URI with base64
        form: musicxml (a MusicXML file stays as it was), mei, svg (a zip of engraved A4 pages), html (one page to
            print) or midi (as written)
    """
    from engine.music.document.pages import print_page, zipped_pages
    from engine.music.io.midi import write_midi_as_written
    from engine.untrusted.saving import save_mei, save_musicxml, save_svg

    kind = as_text(form, "form", NOTATION)
    opened, step = as_score(score), time_limit()
    check = lambda: step(0.0)  # noqa: E731
    makes = {
        "musicxml": lambda: ("score.musicxml", save_musicxml(opened, check)),
        "mei": lambda: ("score.mei", save_mei(opened, check)),
        "svg": lambda: ("score-svg.zip", zipped_pages(save_svg(opened, check))),
        "html": lambda: ("score.html", print_page(opened, save_svg(opened, check))),
        "midi": lambda: ("score.mid", write_midi_as_written(opened)),
    }
    facts = {"notes": len(opened), "bars": len(opened.measures), "form": kind, "remarks": to_json(opened.remarks)}
    return given(*makes[kind]()), facts
