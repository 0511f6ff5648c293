"""Incremental inference of the Composer in numpy, which has less overhead than torch for single steps.

Torch encodes a whole passage (`read`); numpy continues with single notes (`step`) on the same KV cache. Both give
the same hidden states to rounding (tested). `make bench` has the speed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch.nn import functional as F

from engine.models.composer.composer import (
    NOTE,
    REFERENCE_HEAD_SIZE,
    REFERENCE_HEADS,
    Composer,
    ComposerLayer,
    References,
    angles,
    reference_angles,
    rotate,
)
from engine.tokens.composer_tokens import FIELD_SIZES

_EPS = float(np.finfo(np.float32).eps)


def _array(x: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(x.detach().float().numpy())


def _unit(x: NDArray) -> NDArray:
    """RMSNorm without its gain, which is folded into the next matrix."""
    return x / np.sqrt(np.einsum("...i,...i", x, x)[..., None] / np.float32(x.shape[-1]) + np.float32(_EPS))


class Weights:
    """A Composer's weights laid out for single steps; created once per model."""

    def __init__(self, model: Composer):
        c = model.config
        self.pools = ThreadpoolController()
        self.model, self.heads, self.head = model, c.heads, c.width // c.heads
        one, none = torch.ones(1, 1), torch.zeros(1, 1)
        half = self.head // 4
        by_index, by_time = (_array(angles(*at, self.head))[0, 0] for at in ((one, none), (none, one)))
        self.turns = by_index[:half], by_time[half:]  # rotation of each pair per step, per quarter
        pitch = torch.arange(128)
        tables = [t.weight for t in model.step.children() if isinstance(t, torch.nn.Embedding)]
        tables[0] = tables[0][NOTE].expand(1, -1)
        tables[1] = tables[1] + model.pitch_class(pitch % 12) + model.octave(pitch // 12)
        self.tables = [_array(t) for t in tables]
        self.layers = []
        for layer in model.layers:
            assert isinstance(layer, ComposerLayer)
            self.layers.append((
                _array((layer.qkv.weight * layer.norm_a.weight).T), _array(layer.out.weight.T),
                _array((layer.up.weight * layer.norm_f.weight).T), _array(layer.down.weight.T),
            ))  # fmt: skip
        self.plan = [_array(t.weight) for t in model.plan.children() if isinstance(t, torch.nn.Embedding)]
        self.references = [
            (_array((r.enter.weight * layer.norm_a.weight).T), _array(r.leave.weight.T))
            if (r := layer.reference) is not None else None for layer in model.layers if isinstance(layer,
            ComposerLayer)
        ]  # fmt: skip
        self.reference_turns = _array(reference_angles(torch.ones(())))
        sub = model.sub
        self.enter = _array((sub.enter.weight * sub.norm.weight).T), _array(sub.enter.bias)
        self.leave = [(_array(f.weight.T), _array(f.bias)) for f in sub.leave]  # type: ignore[arg-type]
        self.given = [[_array(t.weight) for t in of] for of in sub.given]  # type: ignore[union-attr]

    def one_thread(self):
        """While this context is open numpy's products use one thread: they are too small for several threads."""
        return self.pools.limit(limits=1, user_api="blas")


PlanInputs = dict[str, NDArray]  # of `engine.models.composer.inputs.plan_inputs`, with a leading axis of takes


class Network:
    """KV cache over the Composer's layers. All takes of a batch are at the same step.

    conditions  (C,) classes, the same for all takes; a network with fewer uses the first ones
    """

    def __init__(self, weights: Weights, takes: int, room: int, conditions: NDArray[np.int64]):
        self.w, self.takes = weights, takes
        model = weights.model
        self.conditions = torch.from_numpy(np.repeat(conditions[None, : len(model.condition)], takes, axis=0))
        with torch.no_grad():
            self.asked = _array(torch.stack([t(self.conditions[:1, k]) for k, t in enumerate(model.condition)]).sum(0))
        shape = (takes, weights.heads, room, weights.head)
        self.keys = [np.zeros(shape, np.float32) for _ in model.layers]
        self.values = [np.zeros(shape, np.float32) for _ in model.layers]
        self.at = 0
        self.named = [r is not None for r in weights.references]
        size = (takes, room, REFERENCE_HEAD_SIZE)
        self.bar_keys = [np.zeros(size, np.float32) if named else None for named in self.named]
        self.bar_values = [np.zeros(size, np.float32) if named else None for named in self.named]
        self.bars = np.full((takes, room), -1)

    @torch.no_grad()
    def read(self, steps: NDArray[np.int64], quarter: NDArray, plan: PlanInputs | None = None) -> NDArray[np.float32]:
        """Hidden state after the last of (B, T) first steps, (B, D); steps (B, T, 12), quarter (B, T).

        plan  for a network with a plan: plan (B, T, 10), bar (B, T), target_bar (B, T, 2), time (B, T, 2)
        """
        model, head = self.w.model, self.w.head
        planned = {k: torch.from_numpy(v) for k, v in plan.items()} if plan is not None else None
        x = model.embed(torch.from_numpy(steps), self.conditions, None if planned is None else planned["plan"])
        references = References(planned["bar"], planned["target_bar"], planned["time"]) if planned is not None else None
        if plan is not None:
            self.bars[:, : steps.shape[1]] = plan["bar"]
        size, time, width = x.shape
        turn = angles(torch.arange(time).expand(size, time), torch.from_numpy(np.asarray(quarter, np.float32)), head)
        cos, sin = turn.cos()[:, None], turn.sin()[:, None]
        mask = torch.full((time, time), -1e4).triu(1)
        for i, (layer, keys, values) in enumerate(zip(model.layers, self.keys, self.values, strict=True)):
            assert isinstance(layer, ComposerLayer)
            y = layer.norm_a(x)
            q, k, v = layer.qkv(y).view(size, time, 3, -1, head).permute(2, 0, 3, 1, 4)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            keys[:, :, :time], values[:, :, :time] = k.numpy(), v.numpy()
            mixed = ((q @ k.transpose(2, 3)) * head**-0.5 + mask).softmax(-1) @ v
            x = x + layer.out(mixed.transpose(1, 2).reshape(size, time, width))
            if layer.reference is not None and references is not None:
                _, bar_key, bar_value = layer.reference.split(y, references.time)
                for kept, new in ((self.bar_keys[i], bar_key), (self.bar_values[i], bar_value)):
                    assert kept is not None
                    kept[:, :time] = new.numpy()
                x = x + layer.reference(y, references)
            x = x + layer.down(F.relu(layer.up(layer.norm_f(x))).square())
        self.at = time
        return x[:, -1].numpy()

    def step(self, steps: NDArray[np.int64], quarter: NDArray, plan: PlanInputs | None = None) -> NDArray[np.float32]:
        """Hidden state after one more note, (B, D); steps (B, 12), quarter (B,), plan as in `read` without T."""
        w, at, head = self.w, self.at, self.w.head
        x = self.asked + w.tables[0]
        for k in range(1, len(w.tables)):
            x = x + w.tables[k][steps[:, k]]
        if plan is not None:
            for k, table in enumerate(w.plan):
                x = x + table[plan["plan"][:, k]]
            self.bars[:, at] = plan["bar"]
            named, bar_turns = self._named(plan)
        turn = np.concatenate([np.full((len(x), 1), at) * w.turns[0], quarter[:, None] * w.turns[1]], axis=1)
        turn = turn[:, None].astype(np.float32)
        cos, sin = np.cos(turn), np.sin(turn)
        half, scale = head // 2, np.float32(head**-0.5)
        for i, ((qkv, out, up, down), keys, values) in enumerate(zip(w.layers, self.keys, self.values, strict=True)):
            y = _unit(x)
            parts = (y @ qkv).reshape(len(x), 3, w.heads, head)
            a, b = parts[:, :2, :, :half], parts[:, :2, :, half:]
            c, s = cos[:, None], sin[:, None]
            turned = np.concatenate([a * c - b * s, a * s + b * c], axis=-1)
            keys[:, :, at], values[:, :, at] = turned[:, 1], parts[:, 2]
            score = np.matmul(keys[:, :, : at + 1], turned[:, 0, :, :, None])[..., 0] * scale
            score = np.exp(score - score.max(axis=-1, keepdims=True))
            score /= score.sum(axis=-1, keepdims=True)
            mixed = np.matmul(score[:, :, None], values[:, :, : at + 1])
            x = x + mixed.reshape(len(x), -1) @ out
            if self.named[i] and plan is not None:
                x = x + self._refer(i, y, named, bar_turns)
            x = x + np.square(np.maximum(_unit(x) @ up, 0)) @ down
        self.at = at + 1
        return x

    def _named(self, plan: PlanInputs) -> tuple[list[list[NDArray[np.int64]]], tuple[NDArray, NDArray]]:
        """(steps in the bar that each head refers to, by take and head; cos and sin (B, 2, S / 4) of the heads)."""
        seen = self.bars[:, : self.at + 1]
        steps = [[np.flatnonzero(row == bar) for bar in of] for row, of in zip(seen, plan["target_bar"], strict=True)]
        turn = (plan["time"][..., None] * self.w.reference_turns).astype(np.float32)
        return steps, (np.cos(turn), np.sin(turn))

    def _refer(
        self, i: int, y: NDArray, named: list[list[NDArray[np.int64]]], turns: tuple[NDArray, NDArray]
    ) -> NDArray[np.float32]:
        """Output of the reference heads of layer i, (B, D); stores the step's key and value."""
        weights, keys, values = self.w.references[i], self.bar_keys[i], self.bar_values[i]
        assert weights is not None
        assert keys is not None
        assert values is not None
        enter, leave = weights
        size = REFERENCE_HEAD_SIZE
        parts = (y @ enter).reshape(len(y), REFERENCE_HEADS + 2, size)
        cos, sin = turns
        query = _turn_half(parts[:, :REFERENCE_HEADS], cos, sin)
        keys[:, self.at] = _turn_half(parts[:, REFERENCE_HEADS], cos[:, 0], sin[:, 0])
        values[:, self.at] = parts[:, REFERENCE_HEADS + 1]
        out = np.zeros((len(y), REFERENCE_HEADS, size), np.float32)
        for take, of in enumerate(named):
            for head, rows in enumerate(of):
                if len(rows):
                    score = keys[take, rows] @ query[take, head] * np.float32(size**-0.5)
                    top = max(float(score.max()), 0.0)
                    share = np.exp(score - top)
                    out[take, head] = share @ values[take, rows] / (share.sum() + np.exp(-top))
        return out.reshape(len(y), -1) @ leave


def _turn_half(x: NDArray, cos: NDArray, sin: NDArray) -> NDArray[np.float32]:
    """`engine.models.composer.composer.turn_half` in numpy."""
    quarter = cos.shape[-1]
    a, b, rest = x[..., :quarter], x[..., quarter : 2 * quarter], x[..., 2 * quarter :]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos, rest], axis=-1)


class Heads:
    """The SubToken Decoder, one field at a time, for the hidden states (B, D) of one step."""

    def __init__(self, weights: Weights, hidden: NDArray[np.float32]):
        self.w = weights
        matrix, bias = weights.enter
        self.parts = np.split(_unit(hidden) @ matrix + bias, len(FIELD_SIZES), axis=-1)

    def logits(self, j: int) -> NDArray[np.float32]:
        """(B, size of field j), given the fields before it."""
        matrix, bias = self.w.leave[j]
        return np.square(np.maximum(self.parts[j], 0)) @ matrix + bias

    def give(self, j: int, value: NDArray[np.int64]) -> None:
        """Set field j, (B,)."""
        for later in range(j + 1, len(FIELD_SIZES)):
            self.parts[later] = self.parts[later] + self.w.given[later][j][value]
