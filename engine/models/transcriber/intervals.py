"""From scores of intervals to events: the best row of intervals of each key, found by dynamic programming.

The semi-Markov conditional random field of "Skipping the Frame-Level: Event-Based Piano Transcription With Neural
Semi-CRFs", Yan, Cwitkowitz and Duan, NeurIPS 2021. A gap between two events scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Interval = tuple[int, int]


def best_intervals(score: Tensor, alone: Tensor, start: Sequence[int]) -> list[list[Interval]]:
    """The intervals of each key whose scores sum to the most; one may begin in the frame where another ends.

    score    (K, T, T) of an interval from frame i to a later frame j
    alone    (K, T) of an interval within one frame
    start    (K,) first frame that counts, of each key
    returns  K lists of (first frame, last frame), in order

    >>> score = torch.tensor([[[0.0, -1.0, 3.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]])
    >>> best_intervals(score, torch.tensor([[-1.0, -1.0, 0.5]]), [0])
    [[(0, 2), (2, 2)]]
    """
    keys, count = alone.shape
    within = alone > 0
    gain = alone.clamp(min=0)
    best = torch.zeros(keys, count)  # best sum from a frame on
    best[:, -1] = gain[:, -1]
    after = torch.zeros(keys, count, dtype=torch.long)  # 0 for a gap, else frames to the interval's end
    for i in range(count - 2, -1, -1):
        longer, k = (score[:, i, i + 1 :] + best[:, i + 1 :]).max(-1)
        gap = best[:, i + 1]
        after[:, i] = torch.where(longer > gap, k + 1, 0)
        best[:, i] = torch.maximum(longer, gap) + gain[:, i]
    return [_followed(*of_key) for of_key in zip(after.tolist(), within.tolist(), start, strict=True)]


def _followed(after: list[int], within: list[bool], frame: int) -> list[Interval]:
    """The intervals along the best way through one key's frames."""
    found, last = [], len(after) - 1
    while frame <= last:
        if within[frame]:
            found.append((frame, frame))
        if frame < last and after[frame]:
            found.append((frame, frame + after[frame]))
        frame += max(after[frame], 1)
    return found
