"""From corpora to training: the pack of ECP tokens, the segments drawn from it, the commands that read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.music.io.alignment import read_match
from engine.tokens.ecp import decode, encode_score, grammar_faults
from engine.tokens.grid import tick_notes
from engine.tokens.tables import BEAT_PERIOD, METRIC, NOTE, PITCH, POSITION, VALUE_MEAN, VALUE_STD, VELOCITY
from training.xmvae import train as train_xmvae
from training.xmvae import train_prior
from training.xmvae.prepare import Rows, adjacent, scores
from training.xmvae.segments import FORMAT, PERFORMANCE, SCORE, BeatCorpus, augment, collate, cut, enclose, values_of

DATA = Path(__file__).parents[1] / "data"
MATCHES = {
    "w1": ("bach_fugue_846_Shi05M", "train"), "w2": ("bach_prelude_868_GonzalezJ05M", "train"),
    "w3": ("chopin_etude_25_2_Karpeyev02", "train"), "w4": ("beethoven_sonata_9_2_Tysman05", "validation"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    played, written = Rows(PERFORMANCE), Rows(SCORE)
    for work, (name, split) in MATCHES.items():
        score, performance, alignment = read_match(DATA / f"{name}.match")
        played.add((name, work, split, "Someone", name.split("_")[-1]), adjacent(score, performance, alignment))
        written.add((name, work, split, "Someone", ""), [encode_score(score)[1:-1].astype(np.uint8)])
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    np.savez_compressed(path, format=FORMAT, **played.columns(), **written.columns())
    return path


def test_segments_keep_the_limits_and_the_grammar(pack):
    rng = np.random.default_rng(0)
    for kind, columns in ((PERFORMANCE, 8), (SCORE, 4)):
        corpus = BeatCorpus(pack, kind, "train")
        assert set(corpus.works) == {"w1", "w2", "w3"}
        for segment in [corpus.draw(rng) for _ in range(40)] + [s for _, s in corpus.segments()]:
            assert segment.shape[1] == columns
            assert len(segment) <= 512
            assert 16 <= (segment[:, 0] == NOTE).sum() <= 256
            assert grammar_faults(segment) == []


def test_fixed_segments_cover_the_whole_piece_once(pack):
    corpus = BeatCorpus(pack, SCORE, "validation")
    notes = sum((s[:, 0] == NOTE).sum() for _, s in corpus.segments())
    assert notes == (corpus.pieces[0].tokens[:, 0] == NOTE).sum()
    again = [s for _, s in BeatCorpus(pack, SCORE, "validation").segments()]
    assert all(np.array_equal(a, b) for (_, a), b in zip(corpus.segments(), again, strict=True))


def test_a_run_of_segments_plays_as_the_performance_did(pack):
    score, performance, alignment = read_match(DATA / "bach_fugue_846_Shi05M.match")
    corpus = BeatCorpus(pack, PERFORMANCE, "train")
    run = next(p.tokens for p in corpus.pieces if p.work == "w1")
    start, end = cut(run)
    k = len(start) // 2  # in the middle of the run, not where the encoder cut
    decoded = decode(enclose(run[start[k] : end[k]]))
    heard, order = decoded.performance, np.cumsum(run[:, 0] == NOTE) - 1
    index = tick_notes(score).index
    assert order[-1] + 1 == len(index)  # nothing of this piece is refused
    written = index[order[start[k] + decoded.step - 1]]
    onset = np.full(len(score), np.nan)
    onset[alignment.score_index] = performance.onset_sec[alignment.performance_index]
    drift = (heard.onset_sec - onset[written])[np.isfinite(onset[written])]
    assert len(drift) > 200
    assert np.percentile(np.abs(drift - np.median(drift)), 95) < 0.02


def test_cut_by_hand():
    def beat(notes: int) -> list[list[int]]:
        return [[METRIC, 1, 0, 0]] + [[NOTE, 0, 10 + i % 70, 5] for i in range(notes)]

    rows = np.array(beat(20) + beat(0) + beat(250) + beat(10) + beat(0), np.uint8)
    start, end = cut(rows)
    # the first beat stands alone: with the third there would be 270 notes; silent beats begin and end nothing
    assert start.tolist() == [0, 22]
    assert end.tolist() == [21, 273]


def test_augmentation_moves_all_notes_alike(pack):
    segment = BeatCorpus(pack, PERFORMANCE, "train").segments()[0][1]
    note = segment[:, 0] == NOTE
    seen = set()
    for seed in range(30):
        other = augment(segment, np.random.default_rng(seed))
        assert grammar_faults(other) == []
        shift = set((other[note, PITCH] - segment[note, PITCH]).tolist())
        assert len(shift) == 1
        seen |= shift
        played = segment[:, BEAT_PERIOD] > 0
        for column, most in ((BEAT_PERIOD, 4), (VELOCITY, 3)):
            moved = set((other[played, column] - segment[played, column]).tolist())
            assert max(abs(m) for m in moved) <= most
        assert (other[~played, 4:] == 0).all()
        np.testing.assert_array_equal(other[:, POSITION], segment[:, POSITION])
    assert min(seen) >= -6
    assert max(seen) <= 5
    assert len(seen) > 5


def test_values_by_hand():
    row = np.array([[NOTE, 0, 40, 25, 91, 17, 21, 51], [METRIC, 1, 0, 0, 0, 0, 0, 0]])
    value = values_of(row)
    # class 90 is 2^0 s a beat, class 16 is velocity 66, class 20 no deviation, class 50 the notated length
    np.testing.assert_allclose(value[0] * VALUE_STD + VALUE_MEAN, [0, 66 / 127, 0, 0], atol=1e-6)
    assert (value[1] == 0).all()


def test_a_batch_is_padded_to_its_longest(pack):
    a, b = (s for _, s in BeatCorpus(pack, PERFORMANCE, "train").segments()[:2])
    batch = collate([a[:60], b])
    assert batch["tokens"].shape == (2, max(60, len(b)), 8)
    assert batch["pad"].sum() == abs(len(b) - 60)
    assert batch["beat"][0, :2].tolist() == [0, 1]


def test_shares_of_the_compositions_lie_in_one_another(pack):
    third, whole = (set(BeatCorpus(pack, PERFORMANCE, "train", f).works) for f in (0.34, 1.0))
    assert len(third) == 1
    assert third < whole
    assert third == set(BeatCorpus(pack, PERFORMANCE, "train", 0.34).works)


def test_an_older_pack_is_refused(pack, tmp_path):
    with np.load(pack) as z:
        np.savez(tmp_path / "old.npz", **{k: (0 if k == "format" else z[k]) for k in z.files})
    with pytest.raises(ValueError, match="run prepare_xmvae again"):
        BeatCorpus(tmp_path / "old.npz", SCORE, "train")


def test_the_score_corpus_is_read(tmp_path):
    """One score of two bars with a pickup of a quarter: c e g, the last two struck at once."""
    unit = 10_080
    np.savez(
        tmp_path / "scores.npz", id=np.array(["a"]), work=np.array(["w"]), split=np.array(["train"]),
        composer=np.array(["X"]), note_ptr=np.array([0, 3]), bar_ptr=np.array([0, 2]), key_ptr=np.array([0, 1]),
        onset=np.array([0, unit, unit]), duration=np.array([unit, 2 * unit, unit]),
        pitch=np.array([60, 67, 64], np.uint8), staff=np.ones(3, np.uint8), voice=np.ones(3, np.uint8),
        grace=np.zeros(3, np.uint8), bar=np.array([0, 1, 1], np.uint16), bar_onset=np.array([0, unit]),
        bar_ts_num=np.array([3, 3], np.uint8), bar_ts_den=np.array([4, 4], np.uint8),
        key_onset=np.array([0]), key_fifths=np.array([0], np.int8),
    )  # fmt: skip
    rows, refused = scores(tmp_path / "scores.npz")
    assert not refused
    wanted = [[METRIC, 1, 0, 0], [NOTE, 0, 40, 25], [METRIC, 1, 0, 0], [NOTE, 0, 44, 25], [NOTE, 0, 47, 37]]
    assert rows.runs[0].tolist() == wanted


TINY = ["--small", "--width", "32", "--feed-forward", "48", "--encoder-layers", "1", "--decoder-layers", "1"]
TINY += ["--num-codes", "16", "--batch", "2", "--steps", "2"]


def command(monkeypatch, module, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    module.main()


def test_the_commands_train_one_after_another(pack, tmp_path, monkeypatch):
    common = [*TINY, "--pack", str(pack)]
    command(monkeypatch, train_xmvae, *common, "--out", str(tmp_path / "pre"), "--pretrain")
    command(monkeypatch, train_xmvae, *common, "--out", str(tmp_path / "vae"), "--init", str(tmp_path / "pre"))
    line = json.loads((tmp_path / "vae" / "log.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 2
    figures = line["validation"]
    assert {"score", "performance", "performance_z_s", "kl_true", "perplexity", "code_use_gap"} <= figures.keys()
    assert all(np.isfinite(v) for v in figures.values())
    other = [*common, "--out", str(tmp_path / "no"), "--multiscale", "off", "--init", str(tmp_path / "pre")]
    with pytest.raises(SystemExit, match="differs in multiscale"):
        command(monkeypatch, train_xmvae, *other)
    prior = ["--small", "--batch", "2", "--steps", "2", "--pack", str(pack), "--vae", str(tmp_path / "vae")]
    command(monkeypatch, train_prior, *prior, "--out", str(tmp_path / "prior"))
    assert train_prior.load_prior(tmp_path / "prior").config.num_codes == 16
    assert not train_prior.load_xmvae(tmp_path / "vae").training


def test_two_processes_train_one_model(pack, tmp_path):
    out = tmp_path / "two"
    arguments = ["-m", "training.xmvae.train", *TINY, "--pack", str(pack), "--out", str(out)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*launcher, *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    state = torch.load(out / "last.pt", weights_only=True)
    assert state["step"] == 2
    assert all(torch.isfinite(v).all() for v in state["model"].values())
    assert len((out / "log.jsonl").read_text().splitlines()) == 1  # one process reports
