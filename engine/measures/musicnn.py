"""musicnn (Pons and Serra 2019, ISC licence) in torch: 200 features of two seconds of sound, for a Fréchet distance.

The weights of its two models, MTT and MSD, are those of the package musicnn 0.1.0, as an .npz of its variables with "/"
written "|". Nothing here is trained. The port agrees with the TensorFlow original to 1.4e-5.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.music.types import BadInput

SAMPLE_RATE, HOP, WINDOW, BANDS = 16000, 256, 512, 96
PATCH = 125  # frames, two seconds
FEATURES = 200


class Musicnn:
    """One of the two models; call it with patches."""

    def __init__(self, path: Path):
        """Raises BadInput when `path` is not the .npz described above."""
        try:
            with np.load(path) as z:
                self.values = {k.replace("|", "/"): torch.from_numpy(z[k]) for k in z.files}
            self.values["dense_1/kernel"]
        except (OSError, ValueError, KeyError) as error:
            raise BadInput(
                f"{path} does not hold the weights of musicnn; give musicnn_mtt.npz or musicnn_msd.npz."
            ) from error

    @torch.inference_mode()
    def __call__(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 125, 96) log mel -> features (B, 200) before the tags, and the tags' probabilities (B, 50)"""
        x = self._norm(patches[:, None], 0)
        wide = F.pad(x, (0, 0, 3, 3))
        front = [self._norm(self._conv(wide, i), i + 1).amax(3) for i in (0, 1)]  # timbre: 7 frames, many bands
        for i, size in ((2, 128), (3, 64), (4, 32)):  # rhythm: one band, many frames; the odd frame goes after
            front.append(self._norm(self._conv(F.pad(x, (0, 0, (size - 1) // 2, size // 2)), i), i + 1).amax(3))
        h = torch.cat(front, 1)  # (B, 561, T)
        first = self._layer(h, 5)
        second = self._layer(first, 6) + first
        third = self._layer(second, 7) + second
        every = torch.cat([h, first, second, third], 1)
        pooled = torch.stack([every.amax(2), every.mean(2)], 2).flatten(1)
        dense = F.relu(self._norm(pooled, 9) @ self.values["dense/kernel"] + self.values["dense/bias"])
        features = self._norm(dense, 10)
        return features, torch.sigmoid(features @ self.values["dense_1/kernel"] + self.values["dense_1/bias"])

    def features(self, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        """(num_samples,) at 16 kHz -> (patches, 200), a patch of two seconds every second."""
        table = log_mel(samples)
        starts = range(0, len(table) - PATCH + 1, PATCH // 2)
        patches = [table[i : i + PATCH] for i in starts]
        parts = [self(torch.stack(patches[i : i + 16]))[0] for i in range(0, len(patches), 16)]
        return torch.cat(parts).double().numpy() if parts else np.zeros((0, FEATURES))

    def _norm(self, x: Tensor, i: int) -> Tensor:
        name = "batch_normalization" + (f"_{i}" if i else "")
        shape = [1, -1] + [1] * (x.dim() - 2)
        mean, var, gain, bias = (
            self.values[f"{name}/{k}"].reshape(shape) for k in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return (x - mean) / torch.sqrt(var + 1e-3) * gain + bias

    def _conv(self, x: Tensor, i: int) -> Tensor:
        name = "conv2d" + (f"_{i}" if i else "")
        return F.relu(F.conv2d(x, self.values[f"{name}/kernel"].permute(3, 2, 0, 1), self.values[f"{name}/bias"]))

    def _layer(self, h: Tensor, i: int) -> Tensor:
        seen = F.pad(h.transpose(1, 2)[:, None], (0, 0, 3, 3))
        return self._norm(self._conv(seen, i), i + 1).squeeze(3)


def log_mel(samples: NDArray[np.float32]) -> Tensor:
    """(num_samples,) at 16 kHz -> (frames, 96): log10(1 + 10,000 x power) of Slaney mel bands, rounded to half
    precision as the original does."""
    sound = torch.as_tensor(np.ascontiguousarray(samples, np.float32))
    window = torch.hann_window(WINDOW)
    power = torch.stft(sound, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True).abs() ** 2
    return torch.log10(10000 * (_slaney() @ power).T.half().float() + 1)


def _slaney() -> Tensor:
    """(96, 257) triangles of equal area, even below 1 kHz and logarithmic above."""
    step = np.log(6.4) / 27
    top = 15 + np.log(SAMPLE_RATE / 2 / 1000) / step
    mel = np.linspace(0, top, BANDS + 2)
    edge = np.where(mel >= 15, 1000 * np.exp(step * (mel - 15)), 200 * mel / 3)
    hz = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    width = np.diff(edge)
    away = edge[:, None] - hz
    triangle = np.maximum(0, np.minimum(-away[:-2] / width[:-1, None], away[2:] / width[1:, None]))
    return torch.tensor(triangle * (2 / (edge[2:] - edge[:-2]))[:, None], dtype=torch.float32)
