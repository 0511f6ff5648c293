"""The GPU job: a rehearsal of every stage with torch and numpy alone, and shards that join or are refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.music.io.alignment import read_match
from engine.music.io.read_musicxml import read_musicxml_file
from engine.tokens.composer_tokens import write_tokens
from engine.tokens.ecp import encode_score
from training.composer.prepare import write_pack
from training.core.gpu_job import STAGES, archive
from training.core.score_packs import PackedScore
from training.core.shards import MAX_BYTES, ShardError, join_folder, join_shards, write_shards
from training.xmvae.prepare import Rows, adjacent
from training.xmvae.segments import FORMAT, PERFORMANCE, SCORE

ROOT, DATA = Path(__file__).parents[2], Path(__file__).parents[1] / "data"
OTHER_PACKAGES = ("safetensors", "scipy", "symusic", "partitura", "soundfile", "soxr", "gradio", "tensorboard", "lxml")


def tiny_xmvae(path: Path) -> None:
    played, written = Rows(PERFORMANCE), Rows(SCORE)
    for work, split in (("bach_fugue_846_Shi05M", "train"), ("beethoven_sonata_9_2_Tysman05", "validation")):
        score, performance, alignment = read_match(DATA / f"{work}.match")
        played.add((work, work, split, "Someone", ""), adjacent(score, performance, alignment))
        written.add((work, work, split, "Someone", ""), [encode_score(score)[1:-1].astype(np.uint8)])
    np.savez_compressed(path, format=FORMAT, **played.columns(), **written.columns())


def tiny_composer(path: Path) -> None:
    prelude = write_tokens(read_musicxml_file(DATA / "bach_prelude_868.musicxml"))
    write_pack(path, [PackedScore(s, s, "Bach", s, "nasap", prelude) for s in ("train", "validation")])


def tiny_renderer(path: Path) -> None:
    random, clips, frames = np.random.default_rng(0), 4, 240
    codes = random.integers(0, 2048, (clips * frames, 4)).astype(np.int16)
    np.savez(
        path, codes=codes, frame_ptr=np.arange(clips + 1) * frames, gain=np.ones(clips, np.float32), codec="tiny",
        codebooks=random.normal(size=(4, 2048, 64)).astype(np.float32), session=np.array([0, 0, 1, 1]),
        piano=np.array(["grand"] * clips), split=np.array(["train"] * 2 + ["validation"] * 2),
        note_ptr=np.arange(clips + 1) * 8, pedal_ptr=np.zeros(clips + 1, int),
        onset_sec=np.tile(np.arange(8) * 0.5, clips), duration_sec=np.full(8 * clips, 0.4),
        pitch=np.full(8 * clips, 60), velocity=np.full(8 * clips, 64),
        pedal_sec=np.zeros(0), pedal_value=np.zeros(0, int),
    )  # fmt: skip
    np.save(path.with_suffix(".sketches.npy"), codes)


@pytest.fixture(scope="module")
def packs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packs")
    tiny_xmvae(folder / "xmvae-v2.npz")
    tiny_composer(folder / "composer-v2.npz")
    tiny_renderer(folder / "renderer-v3.npz")
    return folder


@pytest.fixture(scope="module")
def rehearsed(packs, tmp_path_factory) -> Path:
    """The folder of a whole rehearsal, run where no other package than torch and numpy can be imported."""
    folder = tmp_path_factory.mktemp("gpu")
    for name in OTHER_PACKAGES:
        (folder / "none" / name).mkdir(parents=True)
        (folder / "none" / name / "__init__.py").write_text(f"raise ImportError('{name} is not on the GPU machine')")
    environment = {
        **os.environ, "PYTHONPATH": f"{folder / 'none'}:{ROOT}", "PYTHON": sys.executable, "PACKS": str(packs),
        "RUNS": str(folder / "runs"), "OUT": str(folder / "out"),
    }  # fmt: skip
    script = ["bash", str(ROOT / "training" / "runs" / "gpu.sh"), "--rehearse"]
    done = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    again = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert again.stdout.count("done before") == len(STAGES)
    return folder


def test_a_rehearsal_takes_ten_steps_of_every_stage_and_its_shards_join(rehearsed, tmp_path) -> None:
    files = sorted((rehearsed / "out").iterdir())
    assert 1 <= len(files) <= 8
    assert all(f.stat().st_size <= MAX_BYTES for f in files)
    counts = join_folder(rehearsed / "out", tmp_path)
    exported = [stage for stage in STAGES if stage.export]
    assert set(counts) == {stage.name for stage in exported}
    for stage in exported:
        config = json.loads((tmp_path / stage.name / "config.json").read_text())
        assert config["step"] == 10
        state = torch.load(rehearsed / "runs" / stage.name / "last.pt", weights_only=True)["average"]
        joined = load_file(tmp_path / stage.name / "model.safetensors")
        assert joined.keys() == state.keys()
        for name, value in state.items():
            torch.testing.assert_close(joined[name].to(value.dtype), value, rtol=1e-3, atol=1e-6)


def test_shards_are_small_join_in_any_order_and_keep_large_and_whole_numbers(tmp_path) -> None:
    torch.manual_seed(0)
    weights = {
        "w": torch.randn(700, 1000),
        "count": torch.tensor([1e6, 2.0]),
        "n": torch.arange(3),
        "b": torch.ones(2) > 0,
    }
    paths = write_shards(tmp_path, "m", weights, {"model": {"width": 1}}, max_bytes=2**20)
    assert len(paths) == 2
    assert all(p.stat().st_size <= 2**20 for p in paths)
    joined, config = join_shards(paths[::-1])
    assert config == {"model": {"width": 1}}
    assert joined["w"].dtype == torch.float16
    torch.testing.assert_close(joined["w"].float(), weights["w"], rtol=1e-3, atol=1e-6)
    assert torch.equal(joined["count"], weights["count"])
    assert torch.equal(joined["n"], weights["n"])
    assert torch.equal(joined["b"], weights["b"])


def test_missing_damaged_mixed_and_foreign_files_are_refused(tmp_path) -> None:
    one = write_shards(tmp_path / "1", "m", {"w": torch.randn(700, 1000)}, {}, max_bytes=2**20)
    two = write_shards(tmp_path / "2", "m", {"w": torch.randn(700, 1000)}, {}, max_bytes=2**20)
    with pytest.raises(ShardError, match="file 2 of 2 is missing"):
        join_shards(one[:1])
    with pytest.raises(ShardError, match="different runs"):
        join_shards([one[0], two[1]])
    raw = bytearray(one[1].read_bytes())
    raw[-1] ^= 1
    one[1].write_bytes(bytes(raw))
    with pytest.raises(ShardError, match="damaged"):
        join_shards(one)
    (tmp_path / "x.shard").write_bytes(b"something else entirely")
    with pytest.raises(ShardError, match="not a shard"):
        join_shards([tmp_path / "x.shard"])
    with pytest.raises(ShardError, match="no files"):
        join_folder(tmp_path / "none", tmp_path)
    with pytest.raises(ShardError, match="not finite"):
        write_shards(tmp_path, "m", {"w": torch.tensor([float("nan")])}, {})


def test_code_and_packs_make_one_archive_under_the_limit(packs, tmp_path) -> None:
    assert archive(tmp_path / "gpu.tar.gz", packs) < 25 * 2**20
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "composer-v2.npz").write_bytes(np.random.default_rng(0).bytes(26 * 2**20))
    with pytest.raises(SystemExit, match="the limit is 25 MiB"):
        archive(tmp_path / "large.tar.gz", tmp_path / "large")
