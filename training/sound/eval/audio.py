"""Measurement of all tables of the sound models, from the shipped weights: `make eval-audio DATA=...`.

    python -m training.sound.eval.audio --data shared/data [--quick] [--only codec,renderer,...] [--out runs/eval-audio]

Tables go to standard output and to OUT/tables.md as Markdown, the figures to OUT/tables.json, some sounds to OUT.
All tables take about half an hour on one idle core, --quick about two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.checkpoints.bundle import BundleError, open_codec
from engine.checkpoints.importing import open_encodec
from engine.engine import Engine
from engine.music.types import BadInput
from engine.render.ddsp import DdspRenderer
from engine.render.physical import PhysicalRenderer
from engine.sound.players import players
from engine.sound.preview import Preview
from training.sound.eval.codec import codec_table, save_sounds, through, use_table
from training.sound.eval.goals import goals
from training.sound.eval.material import Material, ReportTable
from training.sound.eval.picture import side_by_side
from training.sound.eval.recordings import Row, read_all, recordings_table
from training.sound.eval.render import (
    Rendering,
    fidelity_table,
    frechet_table,
    picture_sounds,
    prompt_table,
    renderer_table,
    seams_table,
)
from training.sound.eval.speed import fitted_table

TABLES = ("codec", "renderer", "frechet", "fidelity", "prompts", "seams", "selection", "report", "picture")


def load(engine: Engine, imported: Path | None) -> dict[str, Rendering]:
    """The renderers by name: product, and paper when a folder of its imported weights is given."""
    from engine.render.valle_rendering import open_paper_renderer

    renderers: dict[str, Rendering] = {"product": engine.renderer, "fitted": engine.fitted}
    if imported is not None:
        renderers["paper"] = open_paper_renderer(imported)
    return renderers


NAMES = {"product": "codec model"}  # row name of a renderer, if it differs from the renderer's name


def rows_of_recordings(material: Material, renderers: dict[str, Rendering], codec: Any) -> dict[str, Row]:
    """Rows of the comparison with recordings of the same notes: the recording through the codec, a sampler, the
    preview, and every renderer."""
    rows: dict[str, Row] = {"codec of the recording": lambda r: through(codec, r.sound)}
    rows |= {f"sampler ({n})": lambda r, play=play: play(r.notes) for n, play in material.unseen_pianos().items()}
    rows["preview"] = lambda r: players()["fluidsynth grand"](r.notes)
    for name, renderer in renderers.items():
        rows[NAMES.get(name, name)] = lambda r, renderer=renderer: renderer.render(r.notes, r.prompt)
    physical = PhysicalRenderer()
    rows["physical model"] = lambda r: physical.render(r.notes, r.prompt)
    ddsp = DdspRenderer()
    rows["DDSP-Piano"] = lambda r: ddsp.render(r.notes, r.prompt)
    return rows


def measure(
    material: Material, codec: Any, others: dict[str, Any], renderers: dict[str, Rendering], only: tuple[str, ...],
    quick: bool, out: Path, say: Callable[[str], None], seconds: float = 150.0, again: tuple[str, ...] = (),
    without: tuple[str, ...] = (), resume: bool = False,
) -> list[ReportTable]:  # fmt: skip
    """Measure the requested tables; prints each when it is finished.

    again    name prefixes of the recordings' rows to measure; the others are read from OUT (an earlier run)
    without  columns of these rows to omit: "notes", "visqol"
    resume  reuse every row of recordings in OUT
    """
    first: Any = next(iter(renderers.values()), None)
    work: dict[str, Callable[[], ReportTable]] = {
        "use": lambda: use_table(material, codec, quick),
        "codec": lambda: codec_table(material, codec, 2.5 if quick else 10.0, others, quick, say),
        "renderer": lambda: renderer_table(
            material, renderers, codec, 1 if quick else 12, 6.0 if quick else 7.0, say, quick
        ),
        "frechet": lambda: frechet_table(material, renderers, codec, 10.0 if quick else 30.0, say, quick),
        "fidelity": lambda: fidelity_table(material, first, 1 if quick else 3, 3.0 if quick else 8.0, say),
        "prompts": lambda: prompt_table(material, first, 1 if quick else 2, 4.0 if quick else 7.0, say, quick),
    }
    out.mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[ReportTable]] = {}
    for name in only:
        started = time.process_time()
        if name == "picture":
            sounds = picture_sounds(material, first)
            (out / "spectrograms.png").write_bytes(side_by_side(sounds))
            save_sounds(out, sounds)
            continue
        if name in ("selection", "report"):
            most = 15.0 if quick else seconds
            rows = rows_of_recordings(material, renderers, codec)
            tables[name] = recordings_table(material.data, name, rows, most, say, out, again or None, without, resume)
            tables[name].append(fitted_table(read_all(material.data, name, most), Preview()))
        elif name == "seams":
            long = 20.0 if quick else 600.0
            streams = {**renderers, "DDSP-Piano": DdspRenderer()}
            tables[name] = [seams_table(material, NAMES.get(n, n), r, long, say) for n, r in streams.items()]
        else:
            tables[name] = [work[job]() for job in (("codec", "use") if name == "codec" else (name,))]
        say(f"{name}: {time.process_time() - started:.0f} s of one core")
        print("\n".join(t.markdown() for t in tables[name]), flush=True)
        _save(out, [t for found in tables.values() for t in found])
    tables["goals"] = [goals(tables)]
    print(tables["goals"][0].markdown(), flush=True)
    found = [t for several in tables.values() for t in several]
    _save(out, found)
    return found


def _save(out: Path, tables: list[ReportTable]) -> None:
    (out / "tables.md").write_text("\n".join(t.markdown() for t in tables), encoding="utf-8")
    (out / "tables.json").write_text(json.dumps([vars(t) for t in tables], default=_plain, indent=1))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else list(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the data pack")
    parser.add_argument("--banks", type=Path, help="note banks of unseen pianos: salamander, fluidr3")
    parser.add_argument("--checkpoints", type=Path, help="models to use instead of the repository's")
    parser.add_argument("--paper", type=Path, help="an imported bundle of the published weights: one more row")
    parser.add_argument("--seanet", type=Path, help="a codec of the SEANet family to stand in the codec table")
    parser.add_argument("--codecs", type=Path, nargs="*", default=[], help="piano codecs to stand there, too")
    parser.add_argument("--only", default=",".join(TABLES), help=f"some of {','.join(TABLES)}")
    parser.add_argument(
        "--rows", default="", help="rows of recordings to measure (their beginnings); the rest is taken from OUT"
    )
    parser.add_argument("--without", default="", help="dear columns to leave out of these rows: notes,visqol")
    parser.add_argument("--resume", action="store_true", help="measure only rows of recordings that OUT does not have")
    parser.add_argument("--seconds", type=float, default=150.0, help="the most of each of these recordings")
    parser.add_argument("--quick", action="store_true", help="less of everything, about two minutes")
    parser.add_argument("--out", type=Path, default=Path("runs/eval-audio"))
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    only = tuple(args.only.split(","))
    try:
        if unknown := set(only) - set(TABLES):
            raise BadInput(f"There is no table {sorted(unknown)[0]}; the tables are {', '.join(TABLES)}.")
        engine = Engine.load(args.checkpoints)
        renderers = load(engine, args.paper) if set(only) - {"codec"} else {}
        codec = engine.codec.model
        others: dict[str, Any] = {"SEANet codec": open_encodec(args.seanet).model} if args.seanet is not None else {}
        others |= {folder.name: open_codec(folder).model for folder in args.codecs}
        material = Material(args.data, args.banks)
        measure(
            material,
            codec,
            others,
            renderers,
            only,
            args.quick,
            args.out,
            lambda s: print(s, file=sys.stderr, flush=True),
            args.seconds,
            tuple(filter(None, args.rows.split(","))),
            tuple(filter(None, args.without.split(","))),
            args.resume,
        )
    except (BadInput, BundleError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
