"""The Composer one step at a time, in numpy: at one row a step, an array library's overhead is what costs.

Torch reads a whole passage at once (`read`); numpy takes over for single notes (`step`) on the same cache. Both give
the same hidden states to rounding (tested). `make bench` has the speed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch.nn import functional as F

from engine.models.composer.composer import NOTE, Composer, Layer, angles, rotate
from engine.tokens.composer_tokens import FIELD_SIZES

_EPS = float(np.finfo(np.float32).eps)


def _array(x: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(x.detach().float().numpy())


def _unit(x: NDArray) -> NDArray:
    """RMSNorm without its gain, which is multiplied into the matrix that follows."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + _EPS)


class Weights:
    """A Composer's weights laid out for single steps; made once a model."""

    def __init__(self, model: Composer):
        c = model.config
        self.pools = ThreadpoolController()
        self.model, self.heads, self.head = model, c.heads, c.width // c.heads
        one, none = torch.ones(1, 1), torch.zeros(1, 1)
        half = self.head // 4
        by_index, by_time = (_array(angles(*at, self.head))[0, 0] for at in ((one, none), (none, one)))
        self.turns = by_index[:half], by_time[half:]  # what one step, and one quarter, turn each pair
        pitch = torch.arange(128)
        tables = [t.weight for t in model.step.children() if isinstance(t, torch.nn.Embedding)]
        tables[0] = tables[0][NOTE].expand(1, -1)
        tables[1] = tables[1] + model.pitch_class(pitch % 12) + model.octave(pitch // 12)
        self.tables = [_array(t) for t in tables]
        self.layers = []
        for layer in model.layers:
            assert isinstance(layer, Layer)
            self.layers.append((
                _array((layer.qkv.weight * layer.norm_a.weight).T), _array(layer.out.weight.T),
                _array((layer.up.weight * layer.norm_f.weight).T), _array(layer.down.weight.T),
            ))  # fmt: skip
        sub = model.sub
        self.enter = _array((sub.enter.weight * sub.norm.weight).T), _array(sub.enter.bias)
        self.leave = [(_array(f.weight.T), _array(f.bias)) for f in sub.leave]  # type: ignore[arg-type]
        self.given = [[_array(t.weight) for t in of] for of in sub.given]  # type: ignore[union-attr]

    def one_thread(self):
        """While this context is open numpy's products use one thread: they are too small to be shared."""
        return self.pools.limit(limits=1, user_api="blas")


class Network:
    """A key-value cache over the Composer's layers. All takes of a batch stand at the same step.

    conditions  (5,) classes, the same for all takes
    """

    def __init__(self, weights: Weights, takes: int, room: int, conditions: NDArray[np.int64]):
        self.w, self.takes = weights, takes
        model = weights.model
        self.conditions = torch.from_numpy(np.repeat(conditions[None], takes, axis=0))
        with torch.no_grad():
            self.asked = _array(torch.stack([t(self.conditions[:1, k]) for k, t in enumerate(model.condition)]).sum(0))
        shape = (takes, weights.heads, room, weights.head)
        self.keys = [np.zeros(shape, np.float32) for _ in model.layers]
        self.values = [np.zeros(shape, np.float32) for _ in model.layers]
        self.at = 0

    @torch.no_grad()
    def read(self, steps: NDArray[np.int64], quarter: NDArray) -> NDArray[np.float32]:
        """Hidden state after the last of (B, T) first steps, (B, D); steps (B, T, 12), quarter (B, T)."""
        model, head = self.w.model, self.w.head
        x = model.embed(torch.from_numpy(steps), self.conditions)
        size, time, width = x.shape
        turn = angles(torch.arange(time).expand(size, time), torch.from_numpy(np.asarray(quarter, np.float32)), head)
        cos, sin = turn.cos()[:, None], turn.sin()[:, None]
        mask = torch.full((time, time), -1e4).triu(1)
        for layer, keys, values in zip(model.layers, self.keys, self.values, strict=True):
            assert isinstance(layer, Layer)
            q, k, v = layer.qkv(layer.norm_a(x)).view(size, time, 3, -1, head).permute(2, 0, 3, 1, 4)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            keys[:, :, :time], values[:, :, :time] = k.numpy(), v.numpy()
            mixed = ((q @ k.transpose(2, 3)) * head**-0.5 + mask).softmax(-1) @ v
            x = x + layer.out(mixed.transpose(1, 2).reshape(size, time, width))
            x = x + layer.down(F.relu(layer.up(layer.norm_f(x))).square())
        self.at = time
        return x[:, -1].numpy()

    def step(self, steps: NDArray[np.int64], quarter: NDArray) -> NDArray[np.float32]:
        """Hidden state after one further note, (B, D); steps (B, 12), quarter (B,)."""
        w, at, head = self.w, self.at, self.w.head
        x = self.asked + w.tables[0]
        for k in range(1, len(w.tables)):
            x = x + w.tables[k][steps[:, k]]
        turn = np.concatenate([np.full((len(x), 1), at) * w.turns[0], quarter[:, None] * w.turns[1]], axis=1)
        turn = turn[:, None].astype(np.float32)
        cos, sin = np.cos(turn), np.sin(turn)
        half, scale = head // 2, np.float32(head**-0.5)
        for (qkv, out, up, down), keys, values in zip(w.layers, self.keys, self.values, strict=True):
            parts = (_unit(x) @ qkv).reshape(len(x), 3, w.heads, head)
            a, b = parts[:, :2, :, :half], parts[:, :2, :, half:]
            c, s = cos[:, None], sin[:, None]
            turned = np.concatenate([a * c - b * s, a * s + b * c], axis=-1)
            keys[:, :, at], values[:, :, at] = turned[:, 1], parts[:, 2]
            score = np.matmul(keys[:, :, : at + 1], turned[:, 0, :, :, None])[..., 0] * scale
            score = np.exp(score - score.max(axis=-1, keepdims=True))
            score /= score.sum(axis=-1, keepdims=True)
            mixed = np.matmul(score[:, :, None], values[:, :, : at + 1])
            x = x + mixed.reshape(len(x), -1) @ out
            x = x + np.square(np.maximum(_unit(x) @ up, 0)) @ down
        self.at = at + 1
        return x


class Heads:
    """The SubToken decoder, one field at a time, for the hidden states (B, D) of one step."""

    def __init__(self, weights: Weights, hidden: NDArray[np.float32]):
        self.w = weights
        matrix, bias = weights.enter
        self.parts = np.split(_unit(hidden) @ matrix + bias, len(FIELD_SIZES), axis=-1)

    def logits(self, j: int) -> NDArray[np.float32]:
        """(B, size of field j), given the fields before it."""
        matrix, bias = self.w.leave[j]
        return np.square(np.maximum(self.parts[j], 0)) @ matrix + bias

    def give(self, j: int, value: NDArray[np.int64]) -> None:
        """Field j is decided, (B,)."""
        for later in range(j + 1, len(FIELD_SIZES)):
            self.parts[later] = self.parts[later] + self.w.given[later][j][value]
