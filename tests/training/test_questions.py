"""The open questions: passages found again, statistics on made-up cases with known answers, and the three commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.measures.side_by_side import pearson
from engine.models.xmvae.ecpt import Ecpt, EcptConfig
from engine.models.xmvae.network import XMVAE, XMVAEConfig
from engine.music.expression import encode_expression
from engine.music.io.alignment import read_match
from engine.tokens.ecp import encode
from engine.tokens.tables import BEAT_PERIOD, FAMILY, IGN, METRIC, NOTE, VELOCITY
from training.core.probes import balanced_accuracy, bootstrap, logistic, predicted_by_fold, probe, without_piece
from training.pianist.pack import PackWriter
from training.xmvae import questions
from training.xmvae.passages import describe, find, onset_of, passages, quantities
from training.xmvae.questions import MeanPlaying, agreement, among_humans, closeness, deadpan, slope
from training.xmvae.segments import FORMAT, PERFORMANCE, BeatCorpus
from training.xmvae.style_questions import Sources, transfer

DATA = Path(__file__).parents[1] / "data"
FILES = ("chopin_etude_25_2_Karpeyev02.match", "bach_prelude_868_GonzalezJ05M.match")


@pytest.fixture(scope="module")
def played() -> list[np.ndarray]:
    """The first beats of two segments of an étude and of a prelude, as uint8 rows without BOS and EOS."""
    found = []
    for file in FILES:
        for rows in (s.tokens[1:-1].astype(np.uint8) for s in encode(*read_match(DATA / file)).segments[:2]):
            beats = np.flatnonzero((rows[:, FAMILY] == METRIC) & (rows[:, 1] == 1))
            found.append(rows[: beats[beats <= 70][-1]])
    return found


def varied(rows: np.ndarray, k: int) -> np.ndarray:
    """The same notes, played otherwise."""
    out, rng = rows.copy(), np.random.default_rng(k)
    note = out[:, BEAT_PERIOD] > 0
    out[note, VELOCITY] = np.clip(out[note, VELOCITY] + rng.integers(-2, 3, note.sum()), 1, 32)
    return out


@pytest.fixture(scope="module")
def pack(played, tmp_path_factory) -> Path:
    """Two compositions of two runs each; in both splits, each by three pianists."""
    names, works, splits, runs, items = [], [], [], [], []
    for split in ("train", "validation"):
        for w in (0, 1):
            for k, pianist in enumerate(("AnnaB01", "CarlD02", "EvaF03")):
                items += [len(names)] * 2
                runs += [varied(rows, k) for rows in played[2 * w : 2 * w + 2]]
                names.append(f"{'XY'[w]}/{split}/{pianist}M")
                works.append(f"{split} {w}")
                splits.append(split)
    columns: dict[str, np.ndarray] = {}
    for kind, width in (("performance", 8), ("score", 4)):
        columns |= {f"{kind}_name": np.array(names), f"{kind}_work": np.array(works)}
        columns |= {f"{kind}_split": np.array(splits), f"{kind}_run_item": np.array(items)}
        columns |= {f"{kind}_{k}": np.array([""] * len(names)) for k in ("composer", "performer")}
        columns[f"{kind}_tokens"] = np.concatenate(runs)[:, :width].T
        columns[f"{kind}_run_ptr"] = np.cumsum([0, *map(len, runs)])
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    np.savez(path, format=FORMAT, **columns)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Untrained runs: an XMVAE, and ECPT at two shares of the data."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    sizes = {"width": 16, "feed_forward": 16, "subtoken_width": 16, "encoder_layers": 1, "decoder_layers": 1}
    xmvae = XMVAEConfig.small(**sizes, num_codes=16, code_size=8)
    networks = {
        "xmvae": ("xmvae", 1.0, xmvae, XMVAE(xmvae)),
        **{f"ecpt-{s}": ("ecpt", s, c, Ecpt(c)) for s in (0.5, 1.0) for c in [EcptConfig(16, 1, 2, 16)]},
    }
    for name, (kind, share, config, model) in networks.items():
        (folder / name).mkdir()
        torch.save({"average": model.state_dict(), "model": model.state_dict()}, folder / name / "last.pt")
        about = {"kind": kind, "model": config.to_json(), "args": {"fraction": str(share)}}
        (folder / name / "config.json").write_text(json.dumps(about))
    return folder


def test_a_run_of_rows_is_found_only_where_rows_begin():
    rows = np.arange(40).reshape(10, 4)
    assert find(rows[3:5], rows) == 3
    assert find(rows[3:5] + 1, rows) == -1
    assert find(np.array([[1, 1, 1, 1]]), np.array([[0, 0, 1, 1], [1, 1, 1, 1]])) == 1
    assert find(np.array([[1, 2, 3, 4]]), np.array([[9, 1, 2, 3], [4, 9, 9, 9]])) == -1


def test_passages_hold_what_everybody_played(pack):
    corpus = BeatCorpus(pack, PERFORMANCE, "validation")
    found = passages(corpus, 3)
    assert {p.work for p in found} == {"validation 0", "validation 1"}
    assert all(p.performers == ("AnnaB01M", "CarlD02M", "EvaF03M") for p in found)
    for p in found:
        assert (p.played[..., :4] == p.score).all()
        assert len({t.tobytes() for t in p.played}) == 3
    assert len(passages(corpus, 3, 2)) == 2
    assert passages(corpus, 4) == []


def hand_made() -> np.ndarray:
    """A beat with a chord of two, then one note on the next beat that was not played, then one that was."""
    rows = np.zeros((9, 8), np.int64)
    rows[[0, 8], FAMILY] = 3, 4
    rows[[1, 4, 6], FAMILY], rows[[1, 4, 6], 1] = METRIC, 1
    rows[[2, 3, 5, 7], FAMILY] = NOTE
    rows[[2, 3, 5, 7], 2], rows[[2, 3, 5, 7], 3] = (40, 44, 45, 47), 25
    # beat periods 0.5 and 1 s (classes 70 and 90), velocities 42, 62, 22, articulation 0 and 1 (classes 50 and 60)
    rows[2, 4:], rows[3, 4:], rows[7, 4:] = (71, 11, 21, 51), (71, 16, 21, 61), (91, 6, 21, 51)
    return rows


def test_quantities_hand_counted():
    q = quantities(hand_made())
    assert onset_of(hand_made()).tolist() == [0, 0, 1, 2]
    np.testing.assert_allclose(q["velocity"], [42, 62, np.nan, 22])
    np.testing.assert_allclose(q["log2 beat period"], [-1, np.nan, 0], atol=1e-12)
    np.testing.assert_allclose(q["articulation"], [0, 1, np.nan, 0], atol=1e-12)
    np.testing.assert_allclose(describe(hand_made()), [0.5, 42, np.std([42, 62, 22]), 1 / 3])


def test_agreement_of_a_performance_with_itself_is_one_and_of_a_constant_nothing(pack):
    passage = passages(BeatCorpus(pack, PERFORMANCE, "validation"), 3)[0]
    only = replace(passage, performers=("x",), played=passage.played[:1])
    np.testing.assert_allclose(agreement(only, [quantities(passage.played[0])]), 1.0)
    np.testing.assert_allclose(agreement(passage, [deadpan(passage.score)]), 0.0)
    pairs = among_humans(passage)
    assert pairs.shape == (3, 3)
    assert (pairs[:, 1:] > 0.999).all()  # only velocity was varied
    assert (pairs[:, 0] < 1).all()


def test_mean_playing_knows_what_is_always_done():
    """In every segment the upper note of a chord is 20 louder and held longer: so it is played."""
    mean = MeanPlaying([hand_made()] * 50)
    shape = mean.play(hand_made()[:, :4])
    assert shape["velocity"][1] - shape["velocity"][0] > 15
    assert shape["articulation"][1] > shape["articulation"][0] + 0.8
    assert shape["velocity"].shape == (4,)
    assert shape["log2 beat period"].shape == (3,)


def test_correlation():
    assert np.isnan(pearson(np.arange(5), np.arange(5)))
    assert pearson(np.arange(9), -np.arange(9)) == pytest.approx(-1)
    assert pearson(np.arange(9), np.ones(9)) == 0


def test_logistic_separates_and_weighs_classes_equally():
    rng = np.random.default_rng(0)
    label = np.array([0] * 90 + [1] * 10)
    x = rng.normal(size=(100, 2)) + 3 * label[:, None]
    weight = logistic(x, label, 2)
    found = (np.append(x, np.ones((100, 1)), axis=1) @ weight).argmax(1)
    assert balanced_accuracy(found, label) > 0.95


def test_a_probe_finds_a_signal_and_none_in_noise():
    rng = np.random.default_rng(1)
    pianist, piece = np.repeat(np.arange(4), 12), np.tile(np.arange(12), 4)
    noise = rng.normal(size=(48, 5))
    accuracy, chance, shuffled = probe(noise + 2 * np.eye(4, 5)[pianist], pianist, piece, draws=100)
    assert chance == 0.25
    assert accuracy.low > max(shuffled, 0.5)
    assert accuracy.low <= accuracy.value <= accuracy.high
    nothing, _, shuffled = probe(noise, pianist, piece, draws=100)
    assert nothing.value <= shuffled + 0.1


def test_a_probe_is_not_trained_on_its_test_group():
    """Each label occurs in one group only, so every prediction for that group is wrong."""
    label = np.repeat(np.arange(6), 4)
    x = np.eye(6)[label]
    assert (predicted_by_fold(x, label, label) != label).all()


def test_without_piece_takes_off_the_others():
    x = np.array([[1.0], [3.0], [5.0], [7.0]])
    apart, rows = without_piece(x, ["a", "a", "a", "b"])
    assert rows.tolist() == [0, 1, 2]
    assert apart[:, 0].tolist() == [-3.0, 0.0, 3.0]


def test_bootstrap_draws_whole_groups():
    values = np.array([0.0] * 50 + [1.0] * 50)
    figure = bootstrap(np.repeat([0, 1], 50), lambda rows: float(values[rows].mean()), draws=400)
    assert (figure.value, figure.low, figure.high) == (0.5, 0.0, 1.0)


def test_slope_per_doubling():
    losses = np.array([[4.0, 5.0], [3.5, 4.5], [3.0, 4.0]])
    assert slope(np.array([0.25, 0.5, 1.0]), losses)(np.array([0, 1])) == pytest.approx(-0.5)


def test_transfer_with_and_without_style():
    """z equals the descriptors; one player follows z, the other ignores it."""
    rng = np.random.default_rng(0)
    passage = np.repeat(np.arange(12), 4)
    own = rng.normal(size=(48, 4))
    described = own + 5 * rng.normal(size=(12, 4))[passage]
    sources = Sources(described, described, passage, passage // 2)
    followed = transfer(sources, lambda z: np.stack([z, z + 1], axis=1), draws=50)
    assert [row[0] for row in followed] == ["as they are", "apart from the others"]
    assert [row[1:3] for row in followed] == [(48, 2), (48, 2)]
    assert all(figure.value == pytest.approx(1) for row in followed for figure in row[3:])
    deaf = transfer(sources, lambda z: rng.normal(size=(len(z), 1, 4)), draws=50)
    assert abs(deaf[1][-1].value) < 0.3


def test_closeness_of_real_music_to_itself_is_whole(pack):
    made = [questions.played_notes(s) for _, s in BeatCorpus(pack, PERFORMANCE, "train").segments()]
    assert closeness(made, questions.measure_all(made)).value == pytest.approx(1.0, abs=1e-6)


def test_unplayed_notes_of_a_score_have_no_quantities(pack):
    passage = passages(BeatCorpus(pack, PERFORMANCE, "validation"), 3)[0]
    silent = passage.played[0].copy()
    silent[:, 4:] = IGN
    assert np.isnan(quantities(silent)["velocity"]).all()


def test_the_three_commands(pack, runs, tmp_path, capsys):
    common = ["--pack", str(pack), "--run", str(runs / "xmvae"), "--tiny"]
    questions.main(["x1", *common])
    said = capsys.readouterr().out
    assert "4 passages of 2 unseen compositions, 12 human performances" in said
    rows = {line.split("|")[1].strip(): line for line in said.splitlines() if line.startswith("| ")}
    assert "z_s+score, z_p drawn" in rows
    assert "0.000 [0.000, 0.000]" in rows["deadpan (a constant counts as 0)"]

    questions.main(["x3", "--pack", str(pack), "--tiny", "--runs", *(str(runs / f"ecpt-{s}") for s in (1.0, 0.5))])
    said = capsys.readouterr().out
    assert said.index("| 50 %") < said.index("| 100 %")
    assert "change per doubling" in said
    assert said.count("(pieces, six)") == 2
    questions.main(["x3", "--pack", str(pack), "--tiny", "--runs", str(runs / "xmvae")])
    said = capsys.readouterr().out
    assert "held-out performance" in said
    assert "(playing, three)" in said

    writer = PackWriter()
    for k, file in enumerate(FILES):
        score, performance, alignment = read_match(DATA / file)
        e = encode_expression(score, performance, alignment)
        for split in ("train", "validation"):
            for pianist in ("AnnaB01M", "CarlD02M", "EvaF03M"):
                louder = replace(e, velocity=np.clip(np.array(e.velocity) + len(pianist), 1, 127))
                writer.add(f"{k}/{split}/{pianist}", f"{split} {k}", split, 1, score, louder)
    writer.save(tmp_path / "pianist.npz")
    questions.main(["x2", *common, "--pianist-pack", str(tmp_path / "pianist.npz")])
    said = capsys.readouterr().out
    assert said.count("pianist, unseen pieces") >= 6
    assert said.count("apart from the others") == 2
