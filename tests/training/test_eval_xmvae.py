"""From corpora to tables: the reference, stored samples, evaluation of the composing systems."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.measures.corpora import Measured, measure_pieces
from engine.measures.sanity import Originality
from engine.models.xmvae import music_transformer
from engine.models.xmvae.code_prior import CodePrior, PriorConfig
from engine.models.xmvae.music_transformer import MtConfig, MusicTransformer
from engine.models.xmvae.network import XMVAE, XMVAEConfig
from engine.music.expression import deadpan
from engine.music.types import Performance
from engine.tokens import events
from tests.helpers.paper_checkpoints import link_shipped
from training.core.corpora import QUARTER, Nasap
from training.xmvae import eval as eval_xmvae
from training.xmvae import likelihood, prepare
from training.xmvae import reference_metrics as metrics
from training.xmvae.generate import keep, load, paper, passage, real_passages, save
from training.xmvae.segments import FORMAT, PERFORMANCE, BeatCorpus, collate
from training.xmvae.systems import find
from training.xmvae.train_baselines import collate_events

NOTES = 600


def corpora(folder: Path) -> Path:
    """Two works in each of both corpora: eighths in 4/4 at 120 a minute, played on time, pitches at random."""
    rng = np.random.default_rng(0)
    count, works = 4, np.array(["w1", "w2", "w3", "w4"])
    split = np.array(["train", "train", "validation", "validation"])
    pitch = rng.integers(40, 80, count * NOTES)
    onset = np.tile(np.arange(NOTES) * QUARTER // 2, count)
    half = np.tile(np.concatenate([[0], np.full(NOTES - 1, 240)]), count)  # 240 / 960 s between notes
    same = {"ts_num": 4, "ts_den": 4, "fifths": 0, "voice": 1, "staff": 1, "grace": 0, "label": 0, "pedal": 0}
    notes = {k: np.full(count * NOTES, v) for k, v in same.items()} | {
        "onset": onset, "duration": np.full(count * NOTES, QUARTER // 2), "position": onset % (4 * QUARTER),
        "bar": onset // (4 * QUARTER), "pitch": pitch, "p_duration": rng.integers(100, 300, count * NOTES),
        "velocity": rng.integers(40, 90, count * NOTES), "p_onset_diff": half,
    }  # fmt: skip
    pointer = np.arange(count + 1) * NOTES
    (folder / "aligned").mkdir(parents=True)
    (folder / "scores").mkdir()
    np.savez(
        folder / "aligned" / "nasap-aligned.npz", note_ptr=pointer, pedal_ptr=np.arange(count + 1),
        pedal_time_diff=np.full(count, 960), pedal_value=np.full(count, 90), work=works, split=split,
        robust=np.ones(count, int), id=np.array([f"Bach/Prelude/{w}/x" for w in works]), **notes,
    )  # fmt: skip
    other = (pitch + rng.integers(0, 3, count * NOTES)).clip(30, 90)
    np.savez(
        folder / "scores" / "scores-compact.npz", note_ptr=pointer, work=works, split=split, pitch=other,
        **{k: notes[k] for k in ("onset", "duration", "grace")},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return corpora(tmp_path_factory.mktemp("corpora"))


def test_the_reference_of_a_corpus(data, tmp_path, monkeypatch, capsys):
    out, index = tmp_path / "made" / "metrics.json", tmp_path / "passages.npz"
    monkeypatch.setattr(sys, "argv", ["metrics", "--data", str(data), "--out", str(out), "--index", str(index)])
    metrics.main()
    made = json.loads(out.read_text())
    assert set(made["sets"]) == {"train", "validation", "train openings", "validation openings"}
    train = made["sets"]["train"]
    assert train["pieces"] == 2
    assert train["count"]["PR"] == train["count"]["loop"] == 4  # 600 notes are two segments and a rest
    assert made["sets"]["train openings"]["count"]["PR"] == 2
    assert train["mean"]["IOI"] == pytest.approx(0.25)
    assert train["mean"]["IOI_onset"] == pytest.approx(0.25)
    assert sum(train["histograms"]["velocity"]) == 2 * NOTES
    assert sum(made["sets"]["validation openings"]["histograms"]["velocity"]) == 2 * 256
    assert made["scores"]["validation"]["loop"]["count"] == 8
    with np.load(index) as z:
        assert len(z["hashes"]) == 4 * (NOTES - 11)
    assert "train (2 performances, 4 segments)" in capsys.readouterr().out


def test_quantiles_keep_the_distribution():
    values = np.random.default_rng(0).normal(size=5000)
    kept = metrics.quantiles(values)
    assert len(kept) == 1000
    assert np.mean(kept) == pytest.approx(values.mean(), abs=0.01)
    assert metrics.quantiles(np.array([3.0, 1.0])) == [1.0, 3.0]


def test_samples_are_kept_exactly(data, tmp_path):
    score, human, _ = Nasap(data / "aligned" / "nasap-aligned.npz").load(2)
    path, about = tmp_path / "kept.npz", {"weights": "a"}
    save(path, [(human, score), (human, None)], about)
    (performance, again), (_, nothing) = load(path, about)
    assert performance.digest == human.digest
    assert again.digest == score.digest
    assert nothing is None
    assert load(path, {"weights": "b"}) == []
    assert load(tmp_path / "none.npz", about) == []


def test_only_missing_samples_are_made(data, tmp_path):
    _, human, _ = Nasap(data / "aligned" / "nasap-aligned.npz").load(0)
    made: list[int] = []

    def make(i: int):
        made.append(i)
        return human, None

    path = tmp_path / "kept.npz"
    assert len(keep(path, {}, 2, make, lambda line: None)) == 2
    assert len(keep(path, {}, 3, make, lambda line: None)) == 3
    assert len(keep(path, {}, 1, make)) == 1
    assert made == [0, 1, 2]


def test_passages_begin_with_a_bar_and_keep_their_notes(data):
    nasap = Nasap(data / "aligned" / "nasap-aligned.npz")
    score, _, _ = nasap.load(2)
    piece = passage(score, 16, 272)  # the third bar of eighths
    assert piece.onset_quarter[0] == 0
    assert piece.measures.onset_quarter[0] == 0
    assert len(piece.measures) == 32
    np.testing.assert_array_equal(piece.pitch, score.pitch[16:272])
    for cut, human in real_passages(nasap, "validation", 5):
        assert len(cut) == len(human) == 256
        assert cut.onset_quarter[0] == 0
        np.testing.assert_array_equal(cut.pitch, human.pitch)
        assert cut.tempo_bpm == pytest.approx(120)
        assert human.onset_sec[0] == 0


def fake_run(folder: Path, kind: str, model: torch.nn.Module, shape: dict) -> None:
    folder.mkdir(parents=True)
    torch.save({"average": model.state_dict(), "model": model.state_dict()}, folder / "last.pt")
    (folder / "config.json").write_text(json.dumps({"kind": kind, "model": shape, "step": 7, "pack": "toy"}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Untrained, tiny: XMVAE with its prior, and MT."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    sizes = {"width": 32, "feed_forward": 48, "encoder_layers": 1, "decoder_layers": 1, "subtoken_width": 16}
    config = XMVAEConfig.small(**sizes, num_codes=16, code_size=8, z_size=4)
    fake_run(folder / "xmvae", "xmvae", XMVAE(config), config.to_json())
    prior = PriorConfig(config.num_codes, 32, 2, 48, 1, 0.0)
    fake_run(folder / "xmvae-prior", "code_prior", CodePrior(prior), prior.to_json())
    mt = MtConfig(32, 2, 2, 64, max_distance=24, dropout=0.1)
    fake_run(folder / "mt", "mt", MusicTransformer(mt), mt.to_json())
    return folder


def test_runs_of_the_paper_profile_are_sampled_once(runs, tmp_path):
    for name, writes in (("XMVAE paper", True), ("MT", False)):
        system = find(name, runs, tmp_path)
        first = paper(system, name, tmp_path, 1)
        assert len(first) == 1
        assert all(isinstance(p, Performance) and (s is not None) == writes for p, s in first)
        assert [p.digest for p, _ in paper(system, name, tmp_path, 1)] == [p.digest for p, _ in first]
    with pytest.raises(FileNotFoundError, match=r"ECPT: there is no .*ecpt/config\.json"):
        find("ECPT", runs, tmp_path)


def shifted(m: Measured, **by: float) -> Measured:
    values = {k: v + by.get(k, 0.0) for k, v in m.values.items()}
    return Measured(
        values, {k: float(v.mean()) if len(v) else np.nan for k, v in values.items()}, m.sd, m.count, m.histograms, 9
    )


@pytest.fixture(scope="module")
def some() -> Measured:
    rng = np.random.default_rng(3)
    return measure_pieces([
        Performance(np.cumsum(rng.exponential(0.1, 512)), rng.exponential(0.2, 512), rng.integers(30, 90, 512),
                    rng.integers(20, 100, 512)) for _ in range(30)
    ])  # fmt: skip


def test_targets(some):
    assert all(t.reached for t in eval_xmvae.closeness_targets(some, some))
    off = shifted(some, PR=3.5, APS=0.9, IOI=0.2 * some.mean["IOI"], AVI=-2.1)
    missed = {t.name for t in eval_xmvae.closeness_targets(off, some) if not t.reached}
    assert {"mean PR", "mean IOI", "mean AVI"} <= missed
    assert not {"mean APS", "mean UPC", "mean DSTD", "overlap of UPC"} & missed


def test_the_order_of_systems_is_one_sentence_each(some):
    systems = {
        "XMVAE paper": some, "MT": shifted(some, UPC=0.5, PR=3.0), "without SubToken": shifted(some, UPC=-0.4),
        "without beat attention": shifted(some, UPC=0.001),
    }  # fmt: skip
    lines = "\n".join(eval_xmvae.order_of_systems(systems, some))
    assert "XMVAE has a lower UPC than MT: as published" in lines
    assert "XMVAE has a wider PR than MT: **the other way round**" in lines
    assert "without SubToken UPC rises (7.37 to 8.06): **the other way round**" in lines
    assert "without beat attention UPC rises: undecided" in lines
    assert "ECPT" not in lines
    assert "XMVAE paper 0.00" in lines
    assert "neither pretrained" not in lines
    assert "how fast they learn" not in lines
    far = {"MT": shifted(some, PR=40.0, APS=9.0, UPC=5.0, IOI=3.0, DSTD=3.0, AVI=30.0)}
    assert "largest mean overlap 0.00" in "\n".join(eval_xmvae.order_of_systems(far, some))


@pytest.fixture(scope="module")
def pack(data, tmp_path_factory) -> Path:
    """The performances in the tokens of XMVAE."""
    path = tmp_path_factory.mktemp("pack") / "xmvae.npz"
    played, refused = prepare.performances(data / "aligned" / "nasap-aligned.npz", 0)
    assert not refused
    np.savez_compressed(path, format=FORMAT, **played.columns())
    return path


def test_held_out_nats_are_those_of_the_training_losses(pack, runs, tmp_path):
    data = likelihood.held_out(BeatCorpus(pack, PERFORMANCE, "validation"))
    mt = likelihood.measure(find("MT", runs, tmp_path), data)
    batch = collate_events(data.segments)
    mean = music_transformer.losses(find("MT", runs, tmp_path).model, batch)["loss"]  # type: ignore[arg-type]
    assert mt.total.sum() == pytest.approx(mean.item() * int((batch["events"][:, 1:] != events.PAD).sum()), rel=1e-4)
    assert np.isnan(mt.score).all()
    system = find("XMVAE paper", runs, tmp_path)
    found = likelihood.measure(system, data)
    assert found.total == pytest.approx(found.score + found.performance)
    b = collate(data.segments)
    codes = system.model.encode_score(b, system.model.scope(b)).codes  # type: ignore[union-attr]
    nats = system.prior.nats(codes, b["pad"])  # type: ignore[union-attr]
    ends = int((~b["pad"]).sum()) + len(data.segments)
    assert nats.sum().item() == pytest.approx(system.prior.loss(codes, b["pad"]).item() * ends, rel=1e-4)
    assert (found.score > nats.detach().double().numpy()).all()


def test_intervals_of_nats_are_paired_by_composition():
    data = likelihood.HeldOut([], np.array(["a", "a", "b"]), np.array([10, 10, 20]))
    one = likelihood.per_note(np.array([30.0, 30.0, 40.0]), data)
    assert one.value == pytest.approx(2.5)
    assert (one.low, one.high) == pytest.approx((2.0, 3.0))
    same = likelihood.per_note(np.array([30.0, 30.0, 40.0]), data, np.array([20.0, 20.0, 20.0]))
    assert same.low == same.high == same.value == pytest.approx(1.0)


def test_known_passages_count_passages_not_pieces(data):
    rng = np.random.default_rng(0)
    known, new = rng.integers(40, 80, 30), rng.integers(40, 80, 60)
    onset = np.arange(60) / 2
    index = Originality.of([(onset[:30], known)])
    share, (low, high) = eval_xmvae.passages_known(index, [(onset[:30], known), (onset, new)])
    assert share == pytest.approx(100 * 19 / (19 + 49))
    assert low <= share <= high


def test_faults_of_a_composed_score(data):
    score, _, _ = Nasap(data / "aligned" / "nasap-aligned.npz").load(0)
    short = passage(score, 0, 32)
    assert eval_xmvae.faults_of(short, read_back=True) == []
    assert len(deadpan(short)) == 32


def test_the_whole_evaluation(data, runs, pack, tmp_path, monkeypatch, capsys):
    """Two samples of the product's checkpoints, one of each run that is there."""
    out, checkpoints = tmp_path / "eval", tmp_path / "checkpoints"
    checkpoints.mkdir()
    link_shipped(checkpoints)  # the systems of the paper are sampled from the tiny runs
    command = f"eval --data {data} --runs {runs} --out {out} --samples 2 --passages 2 --read-back 1 --paper-samples 1"
    command += f" --checkpoints {checkpoints} --pack {pack} --segments 2"
    monkeypatch.setattr(sys, "argv", command.split())
    eval_xmvae.main()
    said = capsys.readouterr()
    for words in ("figures to reach", "Étude Composer and Pianist, from scratch", "Pianist on the same passages",
                  "published: XMVAE", "XMVAE paper (7 steps)", "MT (7 steps)", "of 16 reached"):  # fmt: skip
        assert words.lower() in said.out.lower()
    assert "Skipped ECPT: there is no" in said.err
    made = json.loads((out / "eval.json").read_text())
    assert len(made["product"]["targets"]) == 16
    assert made["product"]["sanity"]["faults"] == {}
    own = {"Étude Composer and Pianist", "XMVAE paper", "MT"}
    assert set(made["paper"]["systems"]) == own | {"XMVAE paper, with the Pianist"}
    assert set(made["paper"]["nats"]) == {"XMVAE paper", "MT"}
    assert (out / "eval.md").read_text().startswith("## The product from scratch: 2 samples")
    monkeypatch.setattr(sys, "argv", ["eval", "--data", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="eval_xmvae: "):
        eval_xmvae.main()
