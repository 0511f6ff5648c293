"""Fréchet distances between sets of sounds, from Gaussians of their features.

Four embeddings: the codec's own latent (as published with MIDI-VALLE; it favours the output of that codec), statistics
of log-mel bands (needs no weights), and the two musicnn models. A distance from n features has a bias of about 1/n;
`frechet_at_infinity` removes it (Chong and Forsyth 2020). Compare only sets of the same music.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.music.types import AudioClip, BadInput
from engine.sound.recording import resample
from engine.sound.spectra import log_mel

Embedding = Callable[[AudioClip], NDArray[np.float64]]  # -> (patches, features)
FEWEST = 16  # features to fit a Gaussian to


def gaussian(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (d,) and covariance (d, d) of (n, d) features. Raises BadInput under 16."""
    if len(features) < FEWEST:
        raise BadInput(f"These sounds give {len(features)} features; at least {FEWEST} are needed, add more sound.")
    return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """|mean difference|^2 + tr(A + B - 2 (A B)^1/2) of the Gaussians of (n, d) and (m, d) features."""
    return between(gaussian(a), gaussian(b))


def between(
    a: tuple[NDArray[np.float64], NDArray[np.float64]], b: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> float:
    """The same from means (d,) and covariances (d, d)."""
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    # tr (A B)^1/2 through the symmetric A^1/2 B A^1/2, whose eigenvalues are real and not negative
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    both = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * both)


def frechet_at_infinity(
    reference: NDArray[np.float64], made: NDArray[np.float64], sizes: int = 6, draws: int = 4, seed: int = 0
) -> float:
    """Extrapolation of the distance to infinitely many features: a linear fit over 1/n, n from half to all.

    reference, made  (n, d), (m, d); at least 32 of each, else BadInput
    It can be a little below zero for sets that are alike.
    """
    most = min(len(reference), len(made))
    if most < 2 * FEWEST:
        raise BadInput(f"These sounds give {most} features; at least {2 * FEWEST} are needed, add more sound.")
    rng = np.random.default_rng(seed)
    counts = np.unique(np.linspace(most // 2, most, sizes).astype(int))

    def draw(features: NDArray[np.float64], n: int) -> NDArray[np.float64]:
        return features[rng.choice(len(features), n, replace=False)]

    found = [np.mean([frechet(draw(reference, n), draw(made, n)) for _ in range(draws)]) for n in counts]
    return float(np.polyfit(1 / counts, found, 1)[1])


def log_mel_statistics(clip: AudioClip) -> NDArray[np.float64]:
    """(patches, 128): mean and deviation of 64 log-mel bands (25 ms every 10 ms, 16 kHz) over 1 s, every 0.5 s."""
    table = log_mel(resample(clip.samples, clip.sample_rate, 16000), 16000, 400, 160, 64, 30.0, 8000.0, 1e-3)
    starts = range(0, len(table) - 100 + 1, 50)
    rows = [np.concatenate([table[i : i + 100].mean(0), table[i : i + 100].std(0)]) for i in starts]
    return np.array(rows, np.float64).reshape(-1, 128)


def musicnn(path: Path) -> Embedding:
    """The 200 features of musicnn's weights in `path` (see `engine.measures.musicnn`)."""
    from engine.measures.musicnn import SAMPLE_RATE, Musicnn

    model = Musicnn(path)
    return lambda clip: model.features(resample(clip.samples, clip.sample_rate, SAMPLE_RATE))


def codec_latent(codec: Any) -> Embedding:
    """The quantised latent of a codec, one feature a frame, as fadtk's `encodec-music` does it: 50 a second.

    codec  a PianoCodec or PianoEncodec
    """
    import torch

    def embed(clip: AudioClip) -> NDArray[np.float64]:
        sound = torch.from_numpy(np.array(resample(clip.samples, clip.sample_rate, codec.sample_rate)))
        with torch.inference_mode():
            codes = codec.encode(sound[None])
            if hasattr(codec, "latent"):
                return codec.latent(codes)[0].T.double().numpy()
            return codec.quantiser.decode(codes.transpose(1, 2))[0].double().numpy()

    return embed


def embed_all(embedding: Embedding, clips: Iterable[AudioClip]) -> NDArray[np.float64]:
    """(n, d) features of several sounds, one after the other."""
    return np.concatenate([embedding(clip) for clip in clips])
