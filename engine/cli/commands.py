"""The `etude` commands: from argparse's values to the dictionary that --json prints."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.cli.performances import SCORE_SUFFIXES, open_played
from engine.cli.progress import CommandProgress
from engine.files import check_output, open_performance_file, open_score_file, read_input, write_output
from engine.limits import MAX_SEED
from engine.music.remarks import remark_lines, to_json
from engine.music.types import AudioClip, BadInput, Score, Strength, Style

if TYPE_CHECKING:
    from engine.engine import Engine

PAGES = {".mei": "mei", ".svg": "svg", ".html": "html", ".htm": "html"}  # further output formats of `convert`
FORMAT_OF_SUFFIX = {".mid": "midi", ".midi": "midi", ".musicxml": "musicxml", ".xml": "musicxml"}


def parse_z(text: str) -> tuple[float, ...]:
    """Slider values, separated by commas.

    >>> parse_z("0.5,-1,0")
    (0.5, -1.0, 0.0)
    """
    try:
        z = tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise BadInput(f'--z is "{text}"; numbers separated by commas are accepted, such as 0.5,0,-1.') from None
    if not all(-3 <= v <= 3 for v in z):
        raise BadInput(f'--z is "{text}"; each slider goes from -3 to 3.')
    return z


def parse_strength(text: str) -> Strength:
    """One number for every kind of expression, or name=number pairs; percent signs are accepted.

    >>> parse_strength("tempo=50%,pedal=0").tempo
    0.5
    """
    names = [f.name for f in fields(Strength)]
    values: dict[str, float] = {}
    for part in text.split(","):
        name, found, number = part.rpartition("=")
        try:
            value = float(number.strip().rstrip("%")) / (100 if number.strip().endswith("%") else 1)
        except ValueError:
            raise BadInput(f'--strength is "{text}"; give a number from 0 to 1.5, or name=number pairs.') from None
        if found and name.strip() not in names:
            raise BadInput(f'--strength names "{name.strip()}"; the kinds are {", ".join(names)}.')
        values.update({name.strip(): value} if found else dict.fromkeys(names, value))
    return Strength(**values)


def find_preset(checkpoints: Path | None, name: str) -> tuple[float, ...]:
    """A preset's latent by name, upper or lower case, without loading the model. Raises BadInput with the names."""
    from engine.checkpoints.index import CHECKPOINTS, styles

    presets = styles(checkpoints or CHECKPOINTS).presets
    by_lower = {known.lower(): known for known in presets}
    if name.lower() not in by_lower:
        raise BadInput(f'There is no style "{name}"; the styles are {", ".join(presets)}.')
    return presets[by_lower[name.lower()]]


def wanted_style(
    engine: Engine, arguments: argparse.Namespace, score: Score, named: tuple[float, ...], strength: Strength
) -> Style:
    """The style that the arguments describe; `named` is the latent of --style, () without one."""
    base = named
    if arguments.style_from is not None:
        base = engine.style_from(score, open_performance_file(arguments.style_from))
    z = parse_z(arguments.z) if arguments.z is not None else ()
    note_for_note = arguments.format in ("locked", "played")
    plain = arguments.no_ornaments or note_for_note
    return engine.style(z, base, strength, arguments.seed, arguments.freedom, not plain)


def perform(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    from engine.models.pianist.style_curve import read_curve
    from engine.music.io.midi import write_midi, write_midi_locked
    from engine.requests import PerformRequest
    from engine.untrusted.saving import save_as_played, save_musicxml

    out = arguments.output
    given = [p for p in (arguments.score, arguments.style_from, arguments.style_curve) if p]
    check_output(out, given)
    kind = arguments.format or FORMAT_OF_SUFFIX.get(out.suffix.lower())
    if kind is None:
        raise BadInput(f'"{out.name}" has no known ending; end it with .mid or .musicxml, or give --format.')
    if not 0 <= arguments.seed <= MAX_SEED:
        raise BadInput(f"The seed is {arguments.seed}; 0 to {MAX_SEED} is accepted.")
    preset = find_preset(arguments.checkpoints, arguments.style) if arguments.style is not None else ()
    strength = parse_strength(arguments.strength)
    curve = read_curve(read_input(arguments.style_curve)) if arguments.style_curve else None
    progress.stage("Reading")
    score = open_score_file(arguments.score, progress.note, arguments.with_voice)
    if curve is not None:
        curve.check(score)
    progress.stage("Loading")
    from engine.engine import Engine  # imported here, so that an unreadable file is refused before torch is imported

    engine = Engine.load(arguments.checkpoints)
    progress.stage("Style")
    style = wanted_style(engine, arguments, score, preset, strength)
    progress.stage("Performing")
    performance = engine.perform(PerformRequest(score, style, curve=curve), progress=progress.share)
    if kind == "musicxml":
        progress.note("MusicXML contains the written score; tempo and touch are in MIDI and in --format played.")
        data = save_musicxml(score)
    elif kind == "played":
        data = save_as_played(score, performance)
    else:
        data = write_midi(performance) if kind == "midi" else write_midi_locked(score, performance)
    write_output(out, data)
    named = arguments.style or (f"of {arguments.style_from.name}" if arguments.style_from else "Default")
    return {
        "output": str(out), "format": kind, "notes": len(score), "duration_sec": round(performance.end_sec, 3),
        "style": named, "z": list(style.z), "strength": vars(style.strength), "seed": style.seed,
        "freedom": style.freedom, "ornaments": style.ornaments,
        "remarks": to_json(score.remarks), **({"style_curve": str(arguments.style_curve)} if curve else {}),
    }  # fmt: skip


def preview(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    from engine.sound.clip import encode_audio
    from engine.sound.preview import Preview

    kind = arguments.output.suffix.lower().lstrip(".")
    if kind not in ("wav", "flac"):
        raise BadInput(f'"{arguments.output.name}" is not a supported sound format; end it with .wav or .flac.')
    check_output(arguments.output, [arguments.performance])
    progress.stage("Reading")
    performance = open_performance_file(arguments.performance)
    progress.stage("Sounding")
    parts: list[AudioClip] = []
    for clip in Preview().stream(performance, arguments.piano):
        parts.append(clip)
        progress.share(sum(c.duration_sec for c in parts) / (performance.end_sec + 2))
    whole = AudioClip(np.concatenate([c.samples for c in parts]), parts[0].sample_rate)
    write_output(arguments.output, encode_audio(whole, kind))
    return {
        "output": str(arguments.output), "piano": arguments.piano, "sample_rate": whole.sample_rate,
        "duration_sec": round(whole.duration_sec, 3), "peak": round(float(np.abs(whole.samples).max()), 4),
    }  # fmt: skip


def curves(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    from engine.measures.curves import curves_figure
    from engine.music.io.alignment import align
    from engine.music.passes import repeat_remarks

    if arguments.output.suffix.lower() not in (".html", ".htm"):
        raise BadInput(f'"{arguments.output.name}" is not an HTML page; end it with .html.')
    given = [arguments.performance, arguments.score] + ([arguments.reference] if arguments.reference else [])
    check_output(arguments.output, given)
    progress.stage("Reading")
    score = open_score_file(arguments.score, progress.note)
    performance = open_played(arguments.performance, progress)
    reference = open_played(arguments.reference, progress) if arguments.reference else None
    progress.stage("Aligning")
    found = align(score, performance, progress.share)
    theirs = align(score, reference, progress.share) if reference is not None else None
    progress.stage("Drawing")
    figure = curves_figure(score, performance, reference, theirs, alignment=found)
    write_output(arguments.output, figure.to_html(include_plotlyjs=True, full_html=True).encode())
    left = [r for alignment in (found, theirs) if alignment is not None for r in repeat_remarks(score, alignment)]
    for line in remark_lines(left):
        progress.note(line)
    remarks = to_json((*score.remarks, *left))
    return {"output": str(arguments.output), "notes": len(score), "matched": len(found), "remarks": remarks}


def convert(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    from engine.music.io.midi import write_midi_as_written
    from engine.untrusted.saving import save_musicxml

    kind = (FORMAT_OF_SUFFIX | PAGES).get(arguments.output.suffix.lower())
    if kind is None:
        raise BadInput(
            f'"{arguments.output.name}" is not a supported format; end it with .mid or .musicxml, with .mei, or '
            "with .svg or .html for engraved pages."
        )
    if arguments.input.suffix.lower() not in SCORE_SUFFIXES:
        raise BadInput(f'"{arguments.input.name}" is not a score; {", ".join(sorted(SCORE_SUFFIXES))} are read.')
    check_output(arguments.output, [arguments.input])
    progress.stage("Reading")
    score = open_score_file(arguments.input, progress.note, arguments.with_voice)
    progress.stage("Writing")
    if kind in PAGES.values():
        files = _pages(score, kind, arguments.output)
    elif kind == "musicxml":
        files = {arguments.output: save_musicxml(score)}
    else:
        files = {arguments.output: write_midi_as_written(score)}
    for path, data in files.items():
        check_output(path, [arguments.input])
        write_output(path, data)
    return {
        "output": str(next(iter(files))), "format": kind, "notes": len(score), "measures": len(score.measures),
        "remarks": to_json(score.remarks),
    }  # fmt: skip


def _pages(score: Score, kind: str, out: Path) -> dict[Path, bytes]:
    """The score as MEI, as SVG (OUT-1.svg, OUT-2.svg ... for several pages) or as one page to print."""
    from engine.music.document.pages import print_page
    from engine.untrusted.saving import save_mei, save_svg

    if kind == "mei":
        return {out: save_mei(score)}
    pages = save_svg(score)
    if kind == "html":
        return {out: print_page(score, pages)}
    return {
        out.with_name(f"{out.stem}-{k}{out.suffix}") if len(pages) > 1 else out: page.encode()
        for k, page in enumerate(pages, 1)
    }


def metrics(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    from engine.measures import form_metrics
    from engine.measures.corpora import compare, in_words, measure_folder, shipped

    progress.stage("Measuring")
    made = measure_folder(arguments.folder, progress.share)
    if arguments.reference is not None:
        progress.stage("Reference")
        real, name = measure_folder(arguments.reference, progress.share), str(arguments.reference)
    else:
        real, name = shipped(arguments.corpus), f"(n)ASAP, {arguments.corpus}"
    for file, why in (*made.skipped, *(real.skipped if arguments.reference else ())):
        progress.note(f"Skipped {file}: {why}")
    rows = compare(made, real)
    forms = [form_metrics.form_row(str(arguments.folder), made.forms)] if made.forms else []
    if made.forms:
        beside = arguments.reference is not None and real.forms
        forms += [form_metrics.form_row(name, real.forms)] if beside else form_metrics.real_rows()
    title = f"{arguments.folder}: {made.pieces} pieces; reference: {name}, {real.pieces} pieces; per 256 notes\n"
    return {
        "folder": str(arguments.folder), "reference": name, "pieces": made.pieces, "rows": rows,
        "form": [asdict(row) for row in forms], "skipped": [list(s) for s in made.skipped],
        "table": title + in_words(rows) + (f"\n\n{form_metrics.in_words(forms)}" if forms else ""),
    }  # fmt: skip


def styles(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    from engine.checkpoints.index import CHECKPOINTS, styles
    from engine.models.pianist.style import AXES, units

    known = styles(arguments.checkpoints or CHECKPOINTS)  # from the checkpoint's JSON, without its weights
    axes = [
        {"name": a.name, "label": a.label, "low": a.low, "high": a.high, "one": unit}
        for a, unit in zip(AXES, units(known.deviation), strict=True)
    ]
    return {"axes": axes, "presets": {name: list(z) for name, z in known.presets.items()}}
