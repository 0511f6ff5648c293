"""ECP tokens that a model may write, with faults and repairs; and real performances, there and back."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from engine.music.io.alignment import read_match
from engine.music.types import Alignment, Performance, Score
from engine.tokens import tables
from engine.tokens.decode import MAX_REPAIRED
from engine.tokens.ecp import EcpConfig, decode, encode, grammar_faults
from engine.tokens.tables import BOS, METRIC
from tests.engine.tokens.test_ecp import make_score, play, scale
from training.xmvae.eval_ecp import Tally, measure, report

# --- what a model may write


def small_segment() -> np.ndarray:
    score = scale(8)
    return encode(score, play(score)).segments[0].tokens.copy()


def test_well_formed_tokens_have_no_faults() -> None:
    assert grammar_faults(small_segment()) == []


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda t: t[1:], "one BOS"),
        (lambda t: np.delete(t, 1, axis=0), "Metric at position 0"),
        (lambda t: _set(t, 2, 1, 3), "a Note pitch and duration"),
        (lambda t: _set(t, 1, 5, 3), "only Note steps"),
        (lambda t: _set(t, 2, 6, 0), "all performance columns or none"),
        (lambda t: np.insert(t, 3, [METRIC, 5, 0, 0, 0, 0, 0, 0], axis=0), "followed by a note"),
        (lambda t: np.insert(t, 3, t[2], axis=0), "ascending pitch"),
        (lambda t: np.insert(t, 3, _set(t, 2, 4, 9)[2] + [0, 0, 1, 0, 0, 0, 0, 0], axis=0), "share a beat period"),
    ],
)
def test_faults_are_named(change, fault: str) -> None:
    assert any(fault in text for text in grammar_faults(change(small_segment())))


def _set(tokens: np.ndarray, row: int, column: int, value: int) -> np.ndarray:
    tokens = tokens.copy()
    tokens[row, column] = value
    return tokens


def test_repairs_are_made_and_counted() -> None:
    whole = small_segment()
    first = decode(whole)
    orphan = decode(np.insert(whole, 1, whole[2], axis=0))
    assert (orphan.repairs.orphan_notes, len(orphan.score)) == (1, 8)
    doubled = decode(np.insert(whole, 3, whole[2], axis=0))
    assert (doubled.repairs.doubled_notes, len(doubled.score)) == (1, 8)
    incomplete = decode(_set(whole, 2, tables.VELOCITY, 0))
    assert incomplete.repairs.incomplete_notes == 1
    assert incomplete.performance.velocity[0] == first.performance.velocity[1]
    stray = decode(np.insert(whole, 3, [BOS, 0, 0, 0, 0, 0, 0, 0], axis=0))
    assert stray.repairs.stray_steps == 1
    later, earlier = ([METRIC, position, 0, 0, 0, 0, 0, 0] for position in (9, 5))
    back = np.insert(whole, 3, [later, whole[2], earlier, whole[2]], axis=0)
    assert decode(back).repairs.disordered_steps == 1
    for decoded in (orphan, doubled, incomplete, stray):
        assert decoded.repairs.failed == (decoded.repairs.share > MAX_REPAIRED)
        assert decoded.repairs.failed
    assert not first.repairs.failed


def test_a_chord_takes_the_median_of_its_beat_periods() -> None:
    score = make_score([(0, 1, 60), (0, 1, 64), (0, 1, 67), (1, 1, 60)])
    (segment,) = encode(score, play(score)).segments
    tokens = _set(segment.tokens, 2, tables.BEAT_PERIOD, 150)
    assert decode(tokens).performance.onset_sec == pytest.approx(decode(segment.tokens).performance.onset_sec)


def test_tokens_after_eos_are_not_read() -> None:
    whole = small_segment()
    padded = np.concatenate([whole, np.zeros((5, 8), np.int16), whole])
    assert len(decode(padded).score) == 8


def test_wrong_arrays_are_refused() -> None:
    whole = small_segment()
    with pytest.raises(ValueError, match="without a batch axis"):
        decode(whole[None])
    with pytest.raises(ValueError, match="8 or 9"):
        decode(whole[:, :4])
    with pytest.raises(ValueError, match="sizes"):
        decode(_set(whole, 2, 2, 89))
    with pytest.raises(ValueError, match="no notes"):
        decode(whole[:2])


# --- real performances


CADENZA = "schumann_kreisleriana_4"  # sixteen grace notes at one onset, two seconds long


def real_performances() -> list[tuple[str, Score, Performance, Alignment]]:
    files = sorted((Path(__file__).parents[2] / "data").glob("*.match"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # partitura's, about the match format
        return [(path.name, *read_match(path)) for path in files]


def test_acceptance_on_real_performances() -> None:
    """Round-trip limits of ECP; `make eval` checks the whole corpus."""
    performances = [p for p in real_performances() if not p[0].startswith(CADENZA)]
    assert len(performances) >= 4
    for pedal in (False, True):
        tally = Tally()
        for _, score, performance, alignment in performances:
            measure(tally, score, performance, alignment, EcpConfig(pedal=pedal))
        assert report(tally)
        assert tally.failed_repairs == 0
        assert tally.second_rejected == 0


def test_a_cadenza_in_grace_notes_is_the_worst_case() -> None:
    """All of it hangs on one onset, as Timing, whose steps are 40 % wide so far out: half a second at most."""
    (piece,) = [p for p in real_performances() if p[0].startswith(CADENZA)]
    tally = Tally()
    measure(tally, *piece[1:], EcpConfig())
    onset = np.concatenate(tally.onset)
    assert np.median(onset) < 0.001
    assert onset.max() < 0.5
    assert not tally.rejected
    assert not tally.faults
    assert tally.changed_scores == tally.changed_velocities == 0
