"""Damaged checkpoints: each is refused with its name, and the page comes up without it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.checkpoints.bundle import open_codec, open_composer, open_expected, open_pianist, open_renderer, open_tagger
from engine.checkpoints.index import CHECKPOINTS, CODEC, COMPOSER, EXPECTED, PIANIST, RENDERER, TAGGER
from engine.music.types import BundleError
from engine.process.remote_engine import RemoteEngine
from engine.requests import ComposeRequest
from studio.actions import editing as actions
from studio.service.shared_engine import SharedEngine
from studio.state.examples import EXAMPLES
from studio.state.session import Controls, Session
from tests.helpers.soak_report import Reporter

SHORT = "Chopin, Prélude op. 28 no. 7"
OPEN: dict[str, Callable[[Path], object]] = {
    PIANIST: open_pianist, COMPOSER: open_composer, EXPECTED: open_expected, CODEC: open_codec, TAGGER: open_tagger,
    RENDERER: lambda folder: open_renderer(folder, open_codec(CHECKPOINTS / CODEC)),
}  # fmt: skip


def damage(folder: Path, how: str) -> None:
    """Damage a checkpoint; for wrong shapes and values the digest in the config is correct."""
    from safetensors.torch import load_file, save_file

    from engine.checkpoints.bundle import weights_digest

    weights, config = folder / "model.safetensors", folder / "config.json"
    if how == "missing":
        return weights.unlink()
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "hash":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    else:
        tensors = load_file(weights)
        name = next(k for k, v in tensors.items() if v.is_floating_point() and v.dim() == 2)
        tensors[name] = tensors[name].T.contiguous() if how == "shape" else tensors[name] * float("nan")
        if how == "shape":
            tensors[name] = tensors[name][:-1].contiguous()
        save_file(tensors, weights)
    if how in ("shape", "nan", "truncated"):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"weights_sha256": weights_digest(weights)}))


DAMAGES = ("missing", "truncated", "hash", "shape", "nan")


def refusal_of(name: str, how: str, tmp_path: Path) -> str:
    """The error message for a checkpoint with this damage."""
    folder = tmp_path / how / name
    shutil.copytree(CHECKPOINTS / name, folder)
    damage(folder, how)
    with pytest.raises(BundleError) as refused:
        OPEN[name](folder)
    return str(refused.value)


@pytest.mark.parametrize("name, how", [*zip(OPEN, DAMAGES, strict=False), (COMPOSER, "shape"), (RENDERER, "nan")])
def test_a_damaged_checkpoint_is_refused_by_name(name: str, how: str, tmp_path: Path) -> None:
    said = refusal_of(name, how, tmp_path)
    assert name in said
    assert said.count(". ") == 0


@pytest.mark.soak
def test_every_damage_of_every_checkpoint(tmp_path: Path, soak_report: Reporter) -> None:
    said = {(name, how): refusal_of(name, how, tmp_path) for name in OPEN for how in DAMAGES}
    named = sum(name in sentence for (name, _), sentence in said.items())
    soak_report(
        26, "missing, truncated, wrong hash, wrong shape, NaN: every checkpoint",
        asked="refused at load with its name", found=f"{named} of {len(said)} refused by name",
        passed=named == len(said),
    )  # fmt: skip


def test_the_page_comes_up_without_a_pianist(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINTS, tmp_path / "all", ignore=shutil.ignore_patterns(PIANIST))
    engine = RemoteEngine(tmp_path / "all")
    try:
        shared = SharedEngine(engine)
        assert list(shared.presets) == ["Default"]
        with pytest.raises(BundleError, match=PIANIST):
            actions.open_piece(shared, Session(), shared.read_example(EXAMPLES[SHORT]), SHORT, Controls())
        assert len(engine.compose(ComposeRequest(notes=8))[0]) > 0
    finally:
        engine.close()
