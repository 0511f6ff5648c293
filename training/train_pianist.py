"""Train the Pianist: `python -m training.train_pianist --pack data/pianist-v1.npz --out runs/pianist --minutes 60`.

Needs torch, numpy and the pack. Resumes from OUT/last.pt when it is there, saves every few minutes, stops cleanly
after --minutes. Progress goes to OUT/log.jsonl, one line a report. Data parallel under
`torchrun --nproc_per_node N -m training.train_pianist ...`: each process draws its own batches, gradients are averaged.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from engine.models.features import CATEGORIES, COMPOSERS, MARKED, STRUCTURE, score_features
from engine.models.pianist import (
    ARTICULATION,
    CHANNELS,
    PEDAL,
    TEMPO,
    TIMING,
    VELOCITY,
    Pianist,
    PianistConfig,
    from_channels,
    to_channels,
)
from engine.models.style import AXES, descriptors
from training.pack import Pack

CHANNEL_WEIGHT = (1.5, 1.5, 1.0, 1.0, 0.25, 0.25, 0.25, 0.25)
_FIRST_MARK = len(STRUCTURE)
_MARK_COLUMN = {k: _FIRST_MARK + i for i, k in enumerate(MARKED)}
_VELOCITY_COLUMNS = [_MARK_COLUMN[k] for k in ("velocity", "velocity_known", "velocity_step", "velocity_piece")]
_TEMPO_COLUMNS = [_MARK_COLUMN[k] for k in ("beat_period", "beat_period_known")]
_ACCENT_STEP = 0.6  # how far a notation program's accent lifts the velocity feature
_CATEGORY = {k: i for i, k in enumerate(CATEGORIES)}


class Corpus:
    """Everything in memory: features per score, channels per performance, and what each style axis expects."""

    def __init__(self, pack: Pack, split: str, limit: int = 0):
        items = [i for i in range(len(pack)) if pack.columns["split"][i] == split]
        self.features, self.index, self.x, self.played, self.works, self.names = {}, [], [], [], [], []
        for i in items[: limit or None]:
            item = pack.item(i)
            key = (int(pack.columns["score"][i]), item.composer)
            if key not in self.features:
                self.features[key] = score_features(item.score, item.composer)
            self.index.append(key)
            self.x.append(to_channels(item.expression))
            self.played.append(np.array(item.expression.played))
            self.works.append(item.work)
            self.names.append(item.name)
        notes = np.array([len(x) for x in self.x], float)
        counts = {w: self.works.count(w) for w in set(self.works)}
        weight = notes / np.sqrt([counts[w] for w in self.works])
        self.weight = weight / weight.sum()

    def __len__(self) -> int:
        return len(self.x)

    def describe(self, i: int, start: int, end: int, x: np.ndarray) -> np.ndarray:
        """Raw style descriptors (9,) of the channels x of notes start:end of performance i."""
        f = self.features[self.index[i]]
        e = from_channels(x)
        return descriptors(
            f.beat_index[start:end], f.chord_index[start:end], f.category[start:end, 0], np.log2(e.beat_period), e.velocity,
            e.timing_sec, e.articulation_log2, e.pedal, self.played[i][start:end],
        )  # fmt: skip

    def summary(self, i: int, start: int, end: int) -> np.ndarray:
        """What the score alone says of a window, the regressors of the expected descriptors."""
        f = self.features[self.index[i]]
        composer = np.eye(len(COMPOSERS))[f.category[start, _CATEGORY["composer"]]]
        return np.concatenate([[1.0], f.value[start:end].mean(0), f.value[start:end].std(0), composer])


@dataclass
class Expected:
    """Expected descriptors: ridge regression on the score plus the piece's own mean, shrunk; and the residual's deviation."""

    ridge: np.ndarray  # (P, 9)
    work: dict[str, np.ndarray]
    deviation: np.ndarray  # (9,)

    @classmethod
    def fit(cls, corpus: Corpus, window: int, per_item: int = 6) -> Expected:
        rng = np.random.default_rng(0)
        inputs, targets, works = [], [], []
        for i in range(len(corpus)):
            for _ in range(per_item):
                start = int(rng.integers(0, max(len(corpus.x[i]) - window, 0) + 1))
                end = min(start + window, len(corpus.x[i]))
                inputs.append(corpus.summary(i, start, end))
                targets.append(corpus.describe(i, start, end, corpus.x[i][start:end]))
                works.append(corpus.works[i])
        a, y = np.array(inputs), np.array(targets)
        ridge = np.zeros((a.shape[1], y.shape[1]))
        for k in range(y.shape[1]):
            ok = np.isfinite(y[:, k])
            if ok.any():
                ridge[:, k] = np.linalg.solve(a[ok].T @ a[ok] + 30.0 * np.eye(a.shape[1]), a[ok].T @ y[ok, k])
        rest = y - a @ ridge
        work = {}
        for w in set(works):
            r = rest[[v == w for v in works]]
            n = np.isfinite(r).sum(0) / per_item
            work[w] = np.nan_to_num(np.nansum(r, axis=0) / np.maximum(np.isfinite(r).sum(0), 1)) * n / (n + 1.0)
        rest = rest - np.array([work[w] for w in works])
        return cls(ridge, work, np.nan_to_num(np.nanstd(rest, axis=0), nan=1.0) + 1e-6)

    def residual(self, corpus: Corpus, i: int, start: int, end: int, x: np.ndarray) -> np.ndarray:
        """Descriptors of a window in deviations from what is expected there, clipped to +-4; NaN when unmeasurable."""
        raw = corpus.describe(i, start, end, x)
        expected = corpus.summary(i, start, end) @ self.ridge + self.work.get(corpus.works[i], 0.0)
        return np.clip((raw - expected) / self.deviation, -4, 4)


def make_batch(
    corpus: Corpus, expected: Expected, rng: np.random.Generator, size: int, window: int, augment: bool
) -> dict[str, Tensor]:
    """Random windows as tensors: category, value, onset, x, valid, played, known, axes, axes_known, tempo/chord noise."""
    out: dict[str, list] = {
        k: [] for k in ("category", "value", "onset", "x", "valid", "played", "known", "axes", "noise")
    }
    for i in rng.choice(len(corpus), size, p=corpus.weight):
        f, n = corpus.features[corpus.index[i]], len(corpus.x[i])
        start = int(rng.integers(-window // 4, max(n - window // 2, 1)))
        start, end = max(start, 0), min(max(start, 0) + window, n)
        x = corpus.x[i][start:end].copy()
        category, value = f.category[start:end].copy(), f.value[start:end].copy()
        if augment:
            x[:, VELOCITY] += rng.uniform(-0.4, 0.4)
            x[:, TEMPO] += rng.uniform(-0.15, 0.15)
            shift = int(rng.integers(-5, 7))
            if category[:, 0].min() + shift >= 21 and category[:, 0].max() + shift <= 108:
                category[:, 0] += shift
            _drop_marks(category, value, rng)
        axes = expected.residual(corpus, i, start, end, x)
        noise = rng.standard_normal(x.shape).astype(np.float32)
        beat, chord = f.beat_index[start:end], f.chord_index[start:end]
        noise[:, TEMPO] = rng.standard_normal(np.ptp(beat) + 1)[beat - beat.min()]
        noise[:, PEDAL] = rng.standard_normal((np.ptp(chord) + 1, CHANNELS - 4))[chord - chord.min()]
        known = np.zeros(len(x), bool)
        if rng.random() < 0.25:  # infilling: everything known but a span
            span = int(rng.integers(4, max(len(x), 6)))
            at = int(rng.integers(0, max(len(x) - span, 0) + 1))
            known[:] = True
            known[at : at + span] = False
        known &= corpus.played[i][start:end]
        pad = window - len(x)
        rows = (category, value, f.onset_beat[start:end], x, np.ones(len(x), bool), corpus.played[i][start:end], known)
        for k, v in zip(("category", "value", "onset", "x", "valid", "played", "known"), rows, strict=True):
            out[k].append(np.pad(v, [(0, pad)] + [(0, 0)] * (v.ndim - 1), mode="edge" if k == "onset" else "constant"))
        out["noise"].append(np.pad(noise, [(0, pad), (0, 0)]))
        out["axes"].append(axes)
    batch = {k: torch.from_numpy(np.stack(v)) for k, v in out.items()}
    batch["axes_known"] = torch.isfinite(batch["axes"])
    batch["axes"] = torch.nan_to_num(batch["axes"]).float()
    return batch


def _drop_marks(category: np.ndarray, value: np.ndarray, rng: np.random.Generator) -> None:
    """Hide notation at random so that the model also plays from plain files: all, MIDI-like, none, or a random part."""
    marks = slice(_FIRST_MARK, None)
    mode = rng.choice(4, p=(0.45, 0.25, 0.15, 0.15))
    if mode == 1:  # a notation program's MIDI: velocities with accents in them, perhaps a tempo, nothing else
        accent = _ACCENT_STEP * (value[:, _MARK_COLUMN["accent"]] + value[:, _MARK_COLUMN["marcato"]])
        kept = value[:, _VELOCITY_COLUMNS + _TEMPO_COLUMNS].copy()
        known = kept[:, 1] > 0
        for column in (0, 2, 3):
            kept[:, column] += np.where(known, accent, 0)
        if rng.random() < 0.3:
            kept[:, 4:] = 0
        value[:, marks] = 0
        value[:, _VELOCITY_COLUMNS + _TEMPO_COLUMNS] = kept
        category[:, _CATEGORY["tempo_word"]] = 0
    elif mode == 2:
        value[:, marks] = 0
        category[:, _CATEGORY["tempo_word"]] = 0
    elif mode == 3:
        for group in (
            _VELOCITY_COLUMNS,
            _TEMPO_COLUMNS,
            list(range(_MARK_COLUMN["crescendo"], _MARK_COLUMN["beat_period"])),
        ):
            if rng.random() < 0.5:
                value[:, group] = 0
        if rng.random() < 0.5:
            category[:, _CATEGORY["tempo_word"]] = 0
    if rng.random() < 0.3:
        category[:, _CATEGORY["composer"]] = 0
    if rng.random() < 0.1:
        category[:, _CATEGORY["staff"]] = 0


def losses(model: Pianist, b: dict[str, Tensor], train: bool = True, kl_weight: float = 0.01) -> dict[str, Tensor]:
    """Flow matching, axis regression and KL terms of one batch; `loss` is their weighted sum."""
    x, valid, played = b["x"], b["valid"], b["played"]
    size, device = len(x), x.device
    angle = model.angles(b["onset"])
    h = model.read(b["category"], b["value"], angle, valid)
    mean, log_variance = model.style(h, x, played, angle, valid)
    mean, log_variance = mean.float(), log_variance.float()
    axes_mean, free_mean = mean[:, : len(AXES)], mean[:, len(AXES) :]
    axis_error = (axes_mean - b["axes"]) ** 2 * b["axes_known"]
    axis_loss = axis_error.sum() / b["axes_known"].sum().clamp(min=1)
    kl = 0.5 * (free_mean**2 + log_variance.exp() - 1 - log_variance)
    kl_loss = kl.clamp(min=0.1).sum(1).mean()
    free = free_mean + torch.randn_like(free_mean) * (0.5 * log_variance).exp() * float(train)
    # half of the time the axes carry what was measured, so that a slider means what it says
    measured = (torch.rand(size, 1, device=device) < 0.5) & b["axes_known"]
    axes = torch.where(measured, b["axes"], axes_mean)
    given = (torch.rand(size, 1, device=device) > 0.12).float() if train else torch.ones(size, 1, device=device)
    keep_free = (torch.rand(size, 1, device=device) > 0.3).float()
    z = torch.cat([torch.cat([axes, free * keep_free], dim=1) * given, given], dim=1)
    t = torch.where(
        torch.rand(size, device=device) < 0.4, torch.zeros(size, device=device), torch.rand(size, device=device)
    )
    x_t = (1 - t[:, None, None]) * b["noise"] + t[:, None, None] * x
    v = model.velocity_field(h, x_t, t, z, x, b["known"], angle, valid).float()
    error = (v - (x - b["noise"])) ** 2
    mask = (valid & played & ~b["known"])[..., None].float()
    weight = torch.tensor(CHANNEL_WEIGHT, device=device)
    per_channel = (error * mask).sum((0, 1)) / mask.sum().clamp(min=1)
    flow = (per_channel * weight).sum() / weight.sum()
    return {
        "loss": flow + 0.1 * axis_loss + kl_weight * kl_loss,
        "flow": flow,
        "axes": axis_loss,
        "kl": kl.sum(1).mean(),
    }


@torch.inference_mode()
def validate(
    model: Pianist, corpus: Corpus, expected: Expected, window: int, device: str, count: int = 96
) -> dict[str, float]:
    """Held-out figures on fixed windows: flow loss, r of the expected values with what was played (default style), axis error."""
    model.eval()
    rng = np.random.default_rng(1)
    torch.manual_seed(0)
    found: dict[str, list[float]] = {
        k: [] for k in ("flow", "axes", "r_tempo", "r_velocity", "r_timing", "r_articulation", "r_pedal")
    }
    for _ in range(count // 16):
        b = {k: v.to(device) for k, v in make_batch(corpus, expected, rng, 16, window, augment=False).items()}
        parts = losses(model, b, train=False)
        found["flow"].append(float(parts["flow"]))
        found["axes"].append(float(parts["axes"]))
        angle = model.angles(b["onset"])
        h = model.read(b["category"], b["value"], angle, b["valid"])
        z = torch.zeros(16, model.config.style_size + 1, device=device)
        z[:, -1] = 1
        none = torch.zeros_like(b["known"])
        mean = (
            b["noise"]
            + model.velocity_field(
                h, b["noise"], torch.zeros(16, device=device), z, b["x"], none, angle, b["valid"]
            ).float()
        )
        for name, channel in (
            ("tempo", TEMPO),
            ("velocity", VELOCITY),
            ("timing", TIMING),
            ("articulation", ARTICULATION),
            ("pedal", 4),
        ):
            for k in range(16):
                ok = (b["valid"] & b["played"])[k].cpu()
                pair = np.stack([mean[k, :, channel].cpu()[ok], b["x"][k, :, channel].cpu()[ok]])
                if pair.std(axis=1).min() > 1e-6:
                    found[f"r_{name}"].append(float(np.corrcoef(pair)[0, 1]))
    return {k: float(np.mean(v)) for k, v in found.items()}


def prefetch(make, depth: int = 4) -> Iterator[dict[str, Tensor]]:
    """Batches made one step ahead in a thread."""
    ready: queue.Queue = queue.Queue(depth)

    def work() -> None:
        while True:
            ready.put(make())

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield ready.get()


def average_gradients(model: Pianist, done: bool, device: str) -> bool:
    """Average gradients over all processes; returns whether the first of them says that time is up."""
    if not dist.is_initialized():
        return done
    flag = torch.tensor([float(done and dist.get_rank() == 0)], device=device)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([*(g.flatten() for g in gradients), flag])
    dist.all_reduce(flat)
    flat, stop = flat[:-1] / dist.get_world_size(), bool(flat[-1] > 0)
    at = 0
    for g in gradients:
        g.copy_(flat[at : at + g.numel()].view_as(g))
        at += g.numel()
    return stop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", type=Path, default=Path("data/pianist-v1.npz"))
    parser.add_argument("--out", type=Path, default=Path("runs/pianist"))
    parser.add_argument("--minutes", type=float, default=30.0, help="stop after this long")
    parser.add_argument(
        "--schedule-minutes",
        type=float,
        default=0.0,
        help="length of the cosine schedule, over all sessions (default: --minutes)",
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=PianistConfig.width)
    parser.add_argument("--score-layers", type=int, default=PianistConfig.score_layers)
    parser.add_argument("--flow-layers", type=int, default=PianistConfig.flow_layers)
    parser.add_argument("--save-minutes", type=float, default=4.0)
    parser.add_argument("--limit", type=int, default=0, help="use only this many performances (rehearsal)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    if world > 1:
        dist.init_process_group("nccl" if device != "cpu" else "gloo")
    args.out.mkdir(parents=True, exist_ok=True)
    pack = Pack(args.pack)
    train, held_out = Corpus(pack, "train", args.limit), Corpus(pack, "validation", args.limit)
    config = PianistConfig(
        width=args.width, feed_forward=args.width * 8 // 3, score_layers=args.score_layers, flow_layers=args.flow_layers
    )
    expected = Expected.fit(train, config.window)
    torch.manual_seed(args.seed)
    model = Pianist(config).to(device)
    average = Pianist(config).to(device)
    average.load_state_dict(model.state_dict())
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}],
        lr=args.rate,
        betas=(0.9, 0.98),
    )
    step, trained = 0, 0.0
    last = args.out / "last.pt"
    if last.exists():
        state = torch.load(last, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, trained = state["step"], state["seconds"]
    schedule = 60 * (args.schedule_minutes or args.minutes)
    count = sum(p.numel() for p in model.parameters())
    if rank == 0:
        print(
            f"{device} x {world}, {count / 1e6:.2f} M parameters, {len(train)} train and {len(held_out)} validation performances, step {step}, pack {pack.digest}",
            flush=True,
        )
    # a seed for each process and each resumption, so that no batch is drawn twice
    rng = np.random.default_rng([args.seed, step, rank])
    torch.manual_seed(args.seed + 1000 * rank + step)
    batches = prefetch(lambda: make_batch(train, expected, rng, args.batch, config.window, augment=True))
    began = saved = time.monotonic()
    recent: list[dict[str, float]] = []

    def save(seconds: float, figures: dict[str, float]) -> None:
        state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
        state |= {"step": step, "seconds": seconds}
        torch.save(state, last.with_suffix(".tmp"))
        last.with_suffix(".tmp").replace(last)
        about = {"model": config.to_json(), "pack": pack.digest, "step": step, "minutes": seconds / 60}
        about |= {"args": {k: str(v) for k, v in vars(args).items()}, "validation": figures}
        (args.out / "config.json").write_text(json.dumps(about, indent=1))

    def report(seconds: float) -> None:
        figures = validate(average, held_out, expected, config.window, device)
        mean = {k: float(np.mean([r[k] for r in recent])) for k in recent[0]} if recent else {}
        notes = step * args.batch * config.window * world
        line = {"step": step, "minutes": round(seconds / 60, 2), "notes": notes, "train": mean, "validation": figures}
        recent.clear()
        with open(args.out / "log.jsonl", "a") as f:
            f.write(json.dumps(line) + "\n")
        short = {k: ({a: round(b, 4) for a, b in v.items()} if isinstance(v, dict) else v) for k, v in line.items()}
        print(json.dumps(short), flush=True)
        save(seconds, figures)

    stop = False
    while not stop:
        seconds = trained + time.monotonic() - began
        progress = min(seconds / schedule, 1.0)
        rate = args.rate * min((step + 1) / 200, 1.0) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = {k: v.to(device, non_blocking=True) for k, v in next(batches).items()}
        model.train()
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
            parts = losses(model, batch)
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        stop = average_gradients(model, seconds - trained >= 60 * args.minutes, device)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        keep = min(args.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters(), strict=True):
                a.lerp_(p, 1 - keep)
        recent.append({k: float(v.detach()) for k, v in parts.items()})
        if rank == 0 and (stop or time.monotonic() - saved > 60 * args.save_minutes):
            report(seconds)
            saved = time.monotonic()


if __name__ == "__main__":
    main()
