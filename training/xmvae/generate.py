"""Samples of every system from scratch, cached in files.

A file OUT/SYSTEM.npz holds performances, with their scores if the system writes scores, and a fingerprint of weights
and settings. Samples of other weights or settings are drawn again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

from engine.checkpoints.bundle import ComposerBundle, PianistBundle
from engine.compose.engraved_passage import engraved
from engine.engine import Engine
from engine.measures.performance_metrics import SEGMENT
from engine.models.xmvae.style_prior import StylePrior
from engine.music.excerpts import excerpt
from engine.music.types import MARK_NAMES, Marks, Measures, Performance, Score, Style
from engine.requests import ComposeRequest, PerformRequest
from engine.tokens.decode import decode
from training.core.corpora import Nasap
from training.xmvae.systems import PAPER_RUNS, Trained

Piece = tuple[Performance, Score | None]
_KEPT_EVERY = 25  # samples between two writes of the file


def save(path: Path, pieces: Iterable[Piece], about: dict) -> None:
    """Write pieces to an .npz file, without rounding."""
    columns: dict[str, np.ndarray] = {"about": np.array(json.dumps(about, sort_keys=True))}
    pieces = list(pieces)
    columns["pieces"] = np.array(len(pieces))
    for i, (performance, score) in enumerate(pieces):
        parts: dict[str, object] = {"performance": performance}
        if score is not None:
            parts |= {"score": score, "measures": score.measures, "marks": score.marks}
        for name, part in parts.items():
            for f in fields(part):  # type: ignore[arg-type]
                value = getattr(part, f.name)
                if isinstance(value, np.ndarray | str | float):
                    columns[f"{i}/{name}/{f.name}"] = np.asarray(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".tmp").open("wb") as file:
        np.savez_compressed(file, **columns)  # type: ignore[arg-type]
    path.with_suffix(".tmp").replace(path)


def load(path: Path, about: dict) -> list[Piece]:
    """The pieces of a file with the same fingerprint `about`; [] without such a file."""
    if not path.exists():
        return []
    with np.load(path) as z:
        if str(z["about"]) != json.dumps(about, sort_keys=True):
            return []
        columns = {k: z[k] for k in z.files}
    parts: list[dict[str, dict]] = [{} for _ in range(int(columns["pieces"]))]
    for key, value in columns.items():
        if "/" in key:
            i, name, field = key.split("/")
            parts[int(i)].setdefault(name, {})[field] = value if value.ndim else value.item()
    out: list[Piece] = []
    for p in parts:
        score = None
        if "score" in p:
            score = Score(**p["score"], measures=Measures(**p["measures"]), marks=Marks(**p["marks"]))
        out.append((Performance(**p["performance"]), score))
    return out


def keep(
    path: Path, about: dict, count: int, make: Callable[[int], Piece], say: Callable[[str], None] = print
) -> list[Piece]:
    """`count` pieces, the i-th by make(i); pieces in the file are reused."""
    pieces = load(path, about)[:count]
    if len(pieces) == count:
        return pieces
    for i in range(len(pieces), count):
        pieces.append(make(i))
        if (i + 1) % _KEPT_EVERY == 0 or i + 1 == count:
            save(path, pieces, about)
            say(f"{path.name}: {i + 1} of {count}")
    return pieces


def recipe(*bundles: ComposerBundle | PianistBundle) -> dict:
    """Fingerprint of weights and sampling code."""
    source = hashlib.sha256()
    root = Path(__file__).parents[2] / "engine"
    files = ("models/**/*.py", "tokens/*.py", "music/expression.py", "compose/composing.py", "engine.py")
    for file in sorted(f for pattern in files for f in root.glob(pattern)):
        source.update(file.read_bytes())
    for bundle in bundles:
        source.update(json.dumps(bundle.config, sort_keys=True).encode())
    return {"recipe": source.hexdigest()[:16]}


def any_style(engine: Engine, seed: int, tempo: bool = True) -> Style:
    """A random style: z ~ N(0, I), the Pianist's prior; without `tempo` the tempo is the score's."""
    z = np.random.default_rng([seed, 11]).standard_normal(engine.pianist.model.config.style_size)
    if not tempo:
        z[[axis.name for axis in engine.axes].index("tempo")] = 0
    return Style(tuple(float(v) for v in z), seed=seed)


def product(
    engine: Engine, folder: Path, count: int, seed: int = 0, temperature: float = 1.0, top_p: float | None = None
) -> list[Piece]:
    """From-scratch passages of 256 notes: conditions drawn by the Composer, random style.

    Passages from the middle of pieces, like most segments of real music: openings are slower and narrower.
    """
    settings = {"seed": seed, "temperature": temperature, "top_p": top_p}
    about = recipe(engine.composer, engine.pianist) | settings

    def make(i: int) -> Piece:
        number = seed * 100_000 + i
        nucleus = {} if top_p is None else {"top_p": top_p}
        score = engine.compose(
            ComposeRequest(notes=SEGMENT, seed=number, temperature=temperature, passage=True, **nucleus)
        )[0]
        return engine.perform(PerformRequest(score, any_style(engine, number, tempo=False))), score

    return keep(folder / "product.npz", about, count, make)


def passage(score: Score, first: int, last: int) -> Score:
    """Notes first:last of a score as a score of its own, in whole bars from the barline at or before note `first`."""
    starts = score.measures.onset_quarter
    bars = np.searchsorted(starts, score.onset_quarter[[first, last - 1]] + 1e-9, side="right") - 1
    whole = excerpt(score, slice(first, last), slice(max(bars[0], 0), bars[1] + 1))
    return replace(whole, title="", tempo_bpm=0.0)


def real_passages(nasap: Nasap, split: str, count: int, seed: int = 0) -> list[tuple[Score, Performance]]:
    """Passages of 256 notes of the corpus's scores, each with its human performance.

    All 256-note segments of performances are equally likely, as in the row of real music. A passage begins with the bar
    of its first note. Like composed scores it has a tempo: the player's mean over the whole piece.
    """
    rng = np.random.default_rng(seed)
    c = nasap.columns
    chosen = np.flatnonzero((c["split"] == split) & (c["robust"] == 1))
    weight = np.diff(c["note_ptr"])[chosen] // SEGMENT
    out: list[tuple[Score, Performance]] = []
    while len(out) < count:
        score, human, alignment = nasap.load(int(rng.choice(chosen, p=weight / weight.sum())))
        if len(score) <= SEGMENT:
            continue
        at = float(score.onset_quarter[int(rng.integers(len(score) - SEGMENT + 1))])
        m = score.measures
        bar = m.onset_quarter[max(int(np.searchsorted(m.onset_quarter, at + 1e-9, side="right")) - 1, 0)]
        first = min(int(np.searchsorted(score.onset_quarter, bar - 1e-9)), len(score) - SEGMENT)
        matched = (alignment.score_index >= first) & (alignment.score_index < first + SEGMENT)
        rows = alignment.performance_index[matched]
        if len(rows) < 0.85 * SEGMENT:
            continue
        span = np.ptp(score.onset_quarter[alignment.score_index]), np.ptp(human.onset_sec[alignment.performance_index])
        piece = passage(score, first, first + SEGMENT)
        tempo, table = float(60 * span[0] / span[1]), np.array(piece.marks.table)
        table[:, MARK_NAMES.index("tempo_bpm")] = round(tempo)
        start = human.onset_sec[rows].min()
        heard = Performance(
            human.onset_sec[rows] - start, human.duration_sec[rows], human.pitch[rows], human.velocity[rows],
            human.pedal_sec - start, human.pedal_value,
        )  # fmt: skip
        out.append((replace(piece, marks=Marks(table), tempo_bpm=tempo), heard))
    return out


def pianist(engine: Engine, folder: Path, passages: list[tuple[Score, Performance]], seed: int = 0) -> list[Piece]:
    """The Pianist alone: passages of real scores, performed like those of the product."""
    about = recipe(engine.pianist) | {"seed": seed, "scores": [s.digest for s, _ in passages[:3]]}
    return keep(
        folder / "pianist.npz", about, len(passages),
        lambda i: (
            engine.perform(PerformRequest(passages[i][0], any_style(engine, seed * 100_000 + 50_000 + i))),
            passages[i][0],
        ),
    )  # fmt: skip


def paper(
    system: Trained, name: str, folder: Path, count: int, seed: int = 0, style: StylePrior | None = None
) -> list[Piece]:
    """Passages of a row of PAPER_RUNS as its model plays them; MT writes no score.

    style  prior of z_p, else N(0, I)
    """
    path = folder / f"{PAPER_RUNS[name][1]}{'-style' if style else ''}.npz"
    about = system.about | {"seed": seed, "count": count, "scores": 1}
    pieces: list[Piece] = load(path, about)
    if not pieces:
        torch.manual_seed(seed)
        pieces = _draw(system, count, seed, style)
        save(path, pieces, about)
        print(f"{path.name}: {count}")
    return pieces


def played_by_the_product(engine: Engine, name: str, folder: Path, pieces: list[Piece], seed: int = 0) -> list[Piece]:
    """The scores of `paper` with the Pianist's performance, like those of the product: random styles, given tempo."""
    scores = [s for _, s in pieces if s is not None and len(s)]
    about = recipe(engine.pianist) | {"seed": seed, "scores": [s.digest for s in scores[:3]], "count": len(scores)}
    return keep(
        folder / f"{PAPER_RUNS[name][1]}-pianist.npz", about, len(scores),
        lambda i: (
            engine.perform(PerformRequest(scores[i], any_style(engine, seed * 100_000 + i, tempo=False))),
            scores[i],
        ),
    )  # fmt: skip


def _draw(system: Trained, count: int, seed: int, style: StylePrior | None) -> list[Piece]:
    from engine.models.xmvae import ecpt, music_transformer, xmvae

    if isinstance(system.model, xmvae.XMVAE):
        assert system.prior is not None
        rows = xmvae.sample_tokens(system.model, system.prior, count, seed, style=style)
    elif isinstance(system.model, ecpt.Ecpt):
        rows = ecpt.sample_segments(system.model, count, seed)
    else:
        return [(p, None) for p in music_transformer.sample(system.model, count, seed)]
    pieces = []
    for row in rows:
        whole = decode(row)
        pieces.append((whole.performance, engraved(whole.score, whole.performance, "")))
    return pieces
