"""Passages by the systems of the XMVAE paper: composed from nothing, or varied through the codes z_s of XMVAE.

Each passage is written and played by the same model. XMVAE and ECPT write score and performance; MT writes a
performance only, whose score is read as that of a MIDI recording is.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.checkpoints.index import PAPER_MODELS
from engine.checkpoints.paper_models import BaselineBundle, XmvaeBundle, open_baseline, open_xmvae
from engine.compose.engraved_passage import engraved
from engine.models.xmvae import ecpt, music_transformer, xmvae
from engine.music.edition import COMPOSED
from engine.music.io.alignment import align
from engine.music.io.midi import read_midi_score, write_midi
from engine.music.types import BadInput, Performance, Score
from engine.progress import ProgressCallback, no_progress
from engine.requests import Passage, PassageRequest
from engine.tokens.decode import decode
from engine.tokens.grid import MAX_STEPS, encode_score

_SEED_STEP = 7919  # between the seeds of two takes


class PaperModels:
    """The systems of a folder of checkpoints, each loaded at its first use. Thread-safe."""

    def __init__(self, checkpoints: Path):
        self._folder, self._lock = checkpoints, threading.Lock()
        self._opened: dict[str, XmvaeBundle | BaselineBundle] = {}

    def bundle(self, name: str) -> XmvaeBundle | BaselineBundle:
        """A loaded system, by its name in `PAPER_MODELS`. Raises BundleError where it is missing or damaged."""
        with self._lock:
            if name not in self._opened:
                folder = self._folder / PAPER_MODELS[name]
                self._opened[name] = open_xmvae(folder) if name == "xmvae" else open_baseline(folder)
            return self._opened[name]

    def compose(self, request: PassageRequest, progress: ProgressCallback = no_progress) -> list[Passage]:
        """One passage for each take. Raises BadInput for a request that is not accepted, and what `bundle` raises."""
        bundle = self.bundle(request.check().model)
        if isinstance(bundle, XmvaeBundle):
            return xmvae_passages(bundle, request, progress)
        return baseline_passages(bundle, request, progress)


def xmvae_passages(
    bundle: XmvaeBundle, request: PassageRequest, progress: ProgressCallback = no_progress
) -> list[Passage]:
    """Compose with XMVAE, or vary a passage: some of its codes are drawn again, or mixed with those of another."""
    request.check()
    shift = bundle.shift(request.z_p)
    sampling = xmvae.XmvaeSampling(code_temperature=request.temperature, score_temperature=request.temperature)
    if request.source is None:
        tokens = xmvae.sample_tokens(
            bundle.model, bundle.prior, request.takes, request.seed, sampling, notes=request.notes, progress=progress,
            shift=shift, style=bundle.style,
        )  # fmt: skip
        return [_of_tokens(t, "XMVAE") for t in tokens]
    if request.share == 0:
        return _played_again(bundle, request, request.source, shift, sampling, progress)
    codes, out = xmvae.codes_of(bundle.model, segment_of(request.source)), []
    other = None if request.towards is None else xmvae.codes_of(bundle.model, segment_of(request.towards))
    for take in range(request.takes):
        generator = torch.Generator().manual_seed(request.seed + _SEED_STEP * take)
        if other is not None:
            new = xmvae.mixed_codes(bundle.model, codes, other, request.share)
        else:
            new = xmvae.varied_codes(bundle.prior, codes, request.share, generator, sampling)
        done = [0]

        def step(_: int, take: int = take, length: int = len(new), done: list[int] = done) -> None:
            done[0] += 1
            progress((take + min(done[0] / (2 * length), 1.0)) / request.takes)

        pad = torch.zeros(1, len(new), dtype=torch.bool)
        (tokens,) = xmvae.write_codes(
            bundle.model, new[None], pad, generator, sampling, step=step, shift=shift, style=bundle.style
        )
        out.append(_of_tokens(tokens, "XMVAE"))
    return out


def _played_again(
    bundle: XmvaeBundle, request: PassageRequest, source: Score, shift: Tensor, sampling: xmvae.XmvaeSampling,
    progress: ProgressCallback,
) -> list[Passage]:  # fmt: skip
    """The notes of a passage with new performances."""
    segment, out = segment_of(source), []
    for take in range(request.takes):
        seed = request.seed + _SEED_STEP * take

        def step(at: int, take: int = take) -> None:
            progress((take + at / len(segment)) / request.takes)

        (tokens,) = xmvae.render_tokens(
            bundle.model, [segment], seed=seed, sampling=sampling, step=step, style=bundle.style, shift=shift
        )
        made = _of_tokens(tokens, "XMVAE")
        same = np.array_equal(made.score.pitch, source.pitch)  # else the grid of tokens ordered the notes otherwise
        out.append(replace(made, score=source) if same else made)
    return out


def baseline_passages(
    bundle: BaselineBundle, request: PassageRequest, progress: ProgressCallback = no_progress
) -> list[Passage]:
    """Compose with ECPT or MT."""
    request.check()
    out = []
    for take in range(request.takes):
        progress(take / request.takes)
        seed = request.seed + _SEED_STEP * take
        if isinstance(bundle.model, ecpt.Ecpt):
            temperature = tuple(request.temperature * t for t in ecpt.TEMPERATURE)
            tokens = ecpt.sample_tokens(bundle.model, 1, seed, request.notes, temperature)
            out.append(_of_tokens(ecpt.played(tokens[0].cpu().numpy()), "ECPT"))
        else:
            (played,) = music_transformer.sample(bundle.model, 1, seed, request.notes, request.temperature)
            out.append(_of_performance(played, "MT"))
    return out


def segment_of(score: Score) -> NDArray[np.int64]:
    """The score tokens of a passage, (T, 4). Raises BadInput when it is too long for XMVAE."""
    tokens = encode_score(score).astype(np.int64)
    if len(tokens) > MAX_STEPS:
        raise BadInput(
            f"The passage has {len(score)} notes, {len(tokens)} steps of XMVAE; up to {MAX_STEPS} are accepted, "
            "choose fewer bars."
        )
    return tokens


def _of_tokens(tokens: NDArray, model: str) -> Passage:
    whole = decode(tokens)
    return Passage(engraved(whole.score, whole.performance, model), whole.performance)


def _of_performance(played: Performance, model: str) -> Passage:
    """A score read off playing, its notes matched with those played; without a full match there is only the score."""
    score = read_midi_score(write_midi(played))
    found = align(score, played)
    if len(found) < len(score):
        return Passage(_named(score, model), None)
    rows = found.performance_index[np.argsort(found.score_index)]
    performance = Performance(
        played.onset_sec[rows], played.duration_sec[rows], played.pitch[rows], played.velocity[rows],
        played.pedal_sec, played.pedal_value,
    )  # fmt: skip
    return Passage(_named(score, model), performance)


def _named(score: Score, model: str) -> Score:
    return replace(score, title=f"Passage by {model}", composer=f"{COMPOSED}, {model}")
