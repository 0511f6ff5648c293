"""The phrase tagger: features and labels counted by hand, marks read off, a tiny network that learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints.bundle import TaggerBundle
from engine.models.tagger.decode import Decoding, peaks, read_cadences
from engine.models.tagger.features import CLASS_KINDS, PARTS, bar_of_beat, beat_features, count_beats
from engine.models.tagger.network import HEADS, INPUTS, Tagger, TaggerConfig
from engine.models.tagger.tag import Tags, probabilities, rows_of, tag
from engine.tokens.composer_tokens import Written, make_bars, make_written
from training.core.corpora import QUARTER
from training.core.score_packs import PackedScore, played
from training.tagger.data import HC, OTHER, PAC, UNKNOWN, Labelled, as_played, degree_of, label_beats
from training.tagger.labels import labelled
from training.tagger.pretrain import CLASSES, Filler, holes
from training.tagger.pretrain import make_batch as make_holes
from training.tagger.scoring import Count, choose, every_fourth_bar, scores
from training.tagger.train import adamw, begin_from, losses, make_batch

TINY = TaggerConfig(width=16, dilations=(1, 2), dropout=0.0)


def written(bars: int, fifths: int = 1) -> Written:
    """Bars of 2/4: a quarter g' over a half G, then a quarter c''; the last bar holds only a half g' over G."""
    onset = 2.0 * np.arange(bars)
    m = make_bars(onset, np.full(bars, 2.0), np.zeros(bars), np.full(bars, 2), np.full(bars, 4), np.full(bars, fifths))
    notes = [(b * 2.0, 43, 2, 2.0) for b in range(bars)] + [((bars - 1) * 2.0, 67, 1, 2.0)]
    notes += [n for b in range(bars - 1) for n in ((b * 2.0, 67, 1, 1.0), (b * 2.0 + 1, 72, 1, 1.0))]
    at, pitch, staff, duration = map(np.array, zip(*sorted(notes), strict=True))
    return make_written(at, duration, pitch, staff, np.zeros(len(at)), m)


def test_pitch_classes_of_a_beat_are_counted_from_the_signature() -> None:
    """One sharp: G is 0. In beat 1 of bar 0 c'' sounds and begins over G, which began a beat ago."""
    f = beat_features(written(3))
    assert f.classes.shape == (6, PARTS, len(CLASS_KINDS), 12)
    sounding, beginning, lowest, highest = (np.flatnonzero(f.classes[1, 0, k]).tolist() for k in range(4))
    assert (sounding, beginning, lowest, highest) == ([0, 5], [5], [0], [5])
    later = [np.flatnonzero(f.classes[1, 3, k]).tolist() for k in range(4)]
    assert later == [[0, 5], [], [0], [5]]


def test_texture_of_a_beat_by_hand() -> None:
    """Sounds; G and g' as octaves from middle c; two notes sound and begin; the longest lasts two quarters."""
    first = beat_features(written(3)).texture[0]
    np.testing.assert_allclose(first[0], [1, -17 / 24, 7 / 24, 2 / 6, 2 / 4, np.log2(3), 1, 1], rtol=1e-5)
    np.testing.assert_allclose(first[1, 4:], 0)


def test_beats_and_bars() -> None:
    w = written(3)
    assert count_beats(w) == 6
    assert bar_of_beat(w).tolist() == [0, 0, 1, 1, 2, 2]
    assert np.isfinite(rows_of(beat_features(w))).all()
    assert rows_of(beat_features(w)).shape == (6, INPUTS)


def test_transposing_rolls_the_pitch_classes() -> None:
    """The rows of a piece moved up a fourth equal those of the piece written a fourth higher in the same signature."""
    low = written(3, fifths=0)
    high = make_written(
        low.tick / 24, np.array([1.0, 2, 1, 1, 2, 1, 2, 2])[: len(low)], low.pitch + 5, low.staff + 1,
        np.zeros(len(low)), low.bars,
    )  # fmt: skip
    a = rows_of(beat_features(low), 5)[:, : PARTS * 48].reshape(6, PARTS, 4, 12)
    b = beat_features(high).classes
    np.testing.assert_array_equal(a[:, :, 1], b[:, :, 1])


def row(quarter: float, kind: str, **more: str) -> dict[str, str]:
    base = {
        "onset": str(int(quarter * QUARTER)),
        "bar": "0",
        "kind": kind,
        "key_tonic": "",
        "key_mode": "",
        "numeral": "",
    }
    return base | more


LABELS = [
    row(0, "chord", key_tonic="7", key_mode="M", numeral="I"),
    row(2, "chord", key_tonic="2", key_mode="m", numeral="bII"),
    row(3, "phrase_end"), row(3, "cadence:HC"), row(7, "cadence:IAC"), row(4, "cadence:PAC"), row(4, "cadence:EC"),
]  # fmt: skip


def test_labels_by_hand() -> None:
    """A phrase ends in beat 3 with a half cadence; two cadences in beat 4, of which the PAC counts; keys from G."""
    found = label_beats(written(4), LABELS)
    assert found["phrase"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert found["cadence"].tolist() == [0, 0, 0, HC, PAC, 0, 0, OTHER]
    assert found["tonic"].tolist() == [0, 0, 7, 7, 7, 7, 7, 7]
    assert found["minor"].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert found["degree"].tolist() == [degree_of("I")] * 2 + [degree_of("bII")] * 6


def test_a_score_without_cadences_is_not_labelled_with_none() -> None:
    found = label_beats(written(4), [LABELS[2]])
    assert set(found["cadence"]) == {UNKNOWN}
    assert found["phrase"].sum() == 1


def piece(bars: int = 8, part: str = "train") -> Labelled:
    """A phrase of four bars again and again; each fourth bar ends with a PAC on its first beat."""
    w = written(bars)
    rows = [LABELS[0]]
    rows += [row(2 * b, kind) for b in range(3, bars, 4) for kind in ("phrase_end", "cadence:PAC")]
    return Labelled("id", "w", w, features=beat_features(w), part=part, **label_beats(w, rows))


def test_labels_come_with_their_bars_when_repeats_are_played() -> None:
    played = as_played(piece(), [*range(4), *range(8)])
    assert np.flatnonzero(played.phrase).tolist() == [6, 14, 22]
    assert len(played.features) == len(played.phrase) == 24


def test_marks_are_matched_once_within_a_beat() -> None:
    count = Count()
    count.add(np.array([3, 4, 10, 20]), np.array([4, 12, 19]))
    assert (count.right, count.found, count.there) == (2, 4, 3)
    assert count.f1 == pytest.approx(4 / 7)


def test_every_fourth_bar_is_right_where_phrases_have_four_bars() -> None:
    p = piece(12)
    found = scores([p], [every_fourth_bar(p.written, len(p.features))])
    assert found["phrase"] == 1.0
    assert found["PAC"] == pytest.approx(0.5)  # every second one is taken for a half cadence


def test_peaks_and_classes_are_read_off() -> None:
    assert peaks(np.array([0.0, 0.6, 0.7, 0.0, 0.65]), 0.5, 3).tolist() == [2]
    p = np.array([[0.9, 0.1, 0, 0], [0.3, 0.4, 0.3, 0], [0.9, 0, 0.1, 0], [1, 0, 0, 0], [0.7, 0.1, 0.0, 0.2]])
    assert read_cadences(p, Decoding(cadence=(0.4, 0.2, 0.2))).tolist() == [0, HC, 0, 0, OTHER]


def test_tags_by_bar() -> None:
    ends = np.array([0, 1, 0, 0, 1, 0], bool)
    tags = Tags(ends, np.array([0, PAC, 0, 0, HC, OTHER]), ends.astype(np.float32), np.array([0, 0, 1, 1, 2, 2]))
    by_bar = tags.by_bar()
    assert by_bar[0].tolist() == [True, False, True]
    assert by_bar[1].tolist() == [PAC, 0, OTHER]


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = Tagger(TaggerConfig(width=16, dilations=(1, 2), recurrent=0)).eval()
    x = torch.from_numpy(rows_of(beat_features(written(4))))[None]
    longer = torch.cat([x, torch.zeros(1, 5, INPUTS)], 1)
    mask = torch.cat([torch.ones(1, 8), torch.zeros(1, 5)], 1)
    short, padded = model(x, torch.ones(1, 8)), model(longer, mask)
    for name in HEADS:
        torch.testing.assert_close(short[name], padded[name][:, :8])


def test_a_tiny_tagger_learns_its_piece(tmp_path: Path) -> None:
    """Trained on one piece it finds that piece's phrase ends and cadences; thresholds are chosen on it."""
    torch.manual_seed(0)
    p, model = piece(16), Tagger(TINY)
    optimizer, rng = adamw(model, 1e-2)[0], np.random.default_rng(0)
    first = 0.0
    for _ in range(60):
        loss = losses(model, make_batch([p], rng, 4, 64))["loss"]
        first = first or float(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < first / 3
    model.eval()
    decoding = choose([p], [probabilities(model, p.features)])
    tags = tag(model, decoding, p.written)
    assert np.flatnonzero(tags.phrase_end).tolist() == [6, 14, 22, 30]
    assert tags.cadence[[6, 14, 22, 30]].tolist() == [PAC] * 4


def test_a_loss_without_any_label_is_zero() -> None:
    torch.manual_seed(0)
    batch = make_batch([piece(8)], np.random.default_rng(0), 2, 64)
    batch["cadence"][:] = UNKNOWN
    model = Tagger(TINY)
    found = losses(model, batch)
    assert float(found["cadence"].detach()) == 0
    found["loss"].backward()
    assert all(torch.isfinite(q.grad).all() for q in model.parameters() if q.grad is not None)


def test_masked_beats_are_hidden_and_predicted(tmp_path: Path) -> None:
    rows = [rows_of(beat_features(written(20))).astype(np.float16)]
    batch = make_holes(rows, np.random.default_rng(0), 2, 32)
    assert not batch["x"][..., :CLASSES][batch["hidden"]].any()
    assert batch["target"][batch["hidden"]].any()
    assert 0.3 <= holes(100, np.random.default_rng(1)).mean() < 0.4
    filler = Filler(TINY)
    torch.save({"average": filler.state_dict()}, tmp_path / "last.pt")
    model = Tagger(TINY)
    begin_from(model, tmp_path)
    torch.testing.assert_close(model.stem[0].weight, filler.tagger.stem[0].weight)


def test_expert_labels_count_and_the_tagger_fills_the_rest() -> None:
    """A score with marked phrases and no marked cadence gets the experts' phrases and the tagger's cadences."""
    torch.manual_seed(0)
    bundle = TaggerBundle(Tagger(TINY).eval(), Decoding(0.01, (0.01, 0.01, 0.01)), "digest", {})
    items = [PackedScore(id, "w", "Bach", "train", "scores", written(8)) for id in ("expert", "other")]
    experts = {"expert": [row(6, "phrase_end"), row(14, "phrase_end")]}
    known, other = labelled(items, bundle, experts)
    assert np.flatnonzero(known.phrase_end).tolist() == [3, 7]
    assert sum(other.phrase_end) > 2  # at a threshold of 1 % an untrained tagger marks phrases all over
    assert known.cadence == other.cadence
    assert any(other.cadence)


def test_labels_of_a_repeated_bar_are_repeated() -> None:
    ends, cadence = (False, False, False, True), (0, 0, 0, PAC)
    item = PackedScore(
        "x", "w", "Bach", "train", "scores", written(4), order=(2, 3, 2, 3), phrase_end=ends, cadence=cadence
    )
    as_written, again = played([item])
    assert as_written is item
    assert again.phrase_end == (False, True, False, True)
    assert again.cadence == (0, PAC, 0, PAC)
    assert again.unfolded
