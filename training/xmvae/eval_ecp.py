"""Round-trip error of ECP tokens on real performances: `python -m training.xmvae.eval_ecp ALIGNED.npz`.

Every performance is encoded; each segment is decoded and compared with the performance, note by note and by identity,
then encoded and decoded a second time. Prints a table with the limits; the exit status is 1 if one is exceeded.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.music.expression import MIN_DURATION_SEC
from engine.music.types import Alignment, Performance, Score
from engine.tokens.ecp import EcpConfig, Encoding, Segment, decode, decode_score, encode, encode_score, grammar_faults
from engine.tokens.grid import MAX_NOTES, MAX_STEPS
from engine.tokens.tables import NOTE, VALUE_MEAN, VALUE_STD, VELOCITY
from training.core.corpora import Nasap


@dataclass
class Tally:
    """Errors over performances; lists of arrays, one entry per segment."""

    performances: int = 0
    segments: int = 0
    rejected: Counter = field(default_factory=Counter)
    onset: list[NDArray] = field(default_factory=list)  # seconds
    duration: list[NDArray] = field(default_factory=list)  # relative
    velocity: list[NDArray] = field(default_factory=list)
    moved: list[NDArray] = field(default_factory=list)  # seconds, second round trip
    values: list[NDArray] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    notes: list[int] = field(default_factory=list)
    changed_scores: int = 0
    changed_velocities: int = 0
    second_rejected: int = 0
    faults: Counter = field(default_factory=Counter)
    failed_repairs: int = 0


def measure(tally: Tally, score: Score, performance: Performance, alignment: Alignment, config: EcpConfig) -> None:
    """Add one aligned performance to the tally."""
    encoding = encode(score, performance, alignment, config)
    tally.performances += 1
    tally.segments += len(encoding.segments)
    tally.rejected.update(r.reason for r in encoding.rejected)
    played = played_notes(score, performance, alignment)
    for segment in encoding.segments:
        tally.steps.append(len(segment.tokens))
        tally.notes.append(int(segment.is_note.sum()))
        tally.faults.update(grammar_faults(segment.tokens))
        tally.values.append(segment.values[segment.played] * VALUE_STD + VALUE_MEAN)
        _first_trip(tally, segment, played)
        _second_trip(tally, segment, config)
    _score_trip(tally, score, encoding, config)


def played_notes(score: Score, performance: Performance, alignment: Alignment) -> NDArray[np.float64]:
    """Performed onset, duration and velocity of each score note, (n, 3); NaN for omissions."""
    out = np.full((len(score), 3), np.nan)
    p = alignment.performance_index
    columns = performance.onset_sec[p], performance.duration_sec[p], performance.velocity[p]
    out[alignment.score_index] = np.stack(columns, axis=1)
    return out


def _first_trip(tally: Tally, segment: Segment, played: NDArray) -> None:
    decoded = decode(segment.tokens, segment.start_sec)
    tally.failed_repairs += decoded.repairs.failed
    truth = played[segment.note_index[decoded.step]]
    known = np.isfinite(truth[:, 0])
    onset, held, velocity = truth[known].T
    held = np.maximum(held, MIN_DURATION_SEC)
    p = decoded.performance
    tally.onset.append(np.abs(p.onset_sec[known] - onset))
    tally.duration.append(np.abs(p.duration_sec[known] - held) / held)
    tally.velocity.append(np.abs(p.velocity[known] - velocity))


def _second_trip(tally: Tally, segment: Segment, config: EcpConfig) -> None:
    first = decode(segment.tokens, segment.start_sec)
    again = encode(first.score, first.performance, config=config)
    if len(again.segments) != 1:
        tally.second_rejected += 1
        return
    second = again.segments[0]
    tally.changed_scores += not np.array_equal(second.tokens[:, :4], segment.tokens[:, :4])
    if len(second.tokens) != len(segment.tokens):
        return
    live = segment.played
    tally.changed_velocities += int((second.tokens[live, VELOCITY] != segment.tokens[live, VELOCITY]).sum())
    twice = decode(second.tokens, second.start_sec)
    heard = live[twice.step]
    tally.moved.append(np.abs(twice.performance.onset_sec - first.performance.onset_sec)[heard])


def _score_trip(tally: Tally, score: Score, encoding: Encoding, config: EcpConfig) -> None:
    """Whole piece: score tokens -> score -> score tokens."""
    tokens = encode_score(score, config.beat_unit)
    tally.changed_scores += not np.array_equal(encode_score(decode_score(tokens)), tokens)
    tally.faults.update(grammar_faults(tokens))
    assert (tokens[:, 0] == NOTE).sum() + encoding.num_outside + encoding.num_merged == len(score)


def report(tally: Tally) -> bool:
    """Print the table; True if all errors are within the limits."""
    onset, duration = np.concatenate(tally.onset) * 1e3, np.concatenate(tally.duration) * 100
    moved = np.concatenate(tally.moved) * 1e3
    windows = tally.segments + sum(tally.rejected.values())
    rows = [
        ("onset error, ms, p95", np.percentile(onset, 95), 5.0),
        ("onset error, ms, p99", np.percentile(onset, 99), 20.0),
        ("duration error, %, p99", np.percentile(duration, 99), 3.6),
        ("velocity error, mean", np.concatenate(tally.velocity).mean(), 1.05),
        ("windows rejected, %", 100 * sum(tally.rejected.values()) / windows, 6.0),
        ("longest segment, steps", max(tally.steps), MAX_STEPS),
        ("fullest segment, notes", max(tally.notes), MAX_NOTES),
        ("second trip moves onsets, ms, p95", np.percentile(moved, 95), 4.0),
        ("second trip, score tokens changed", tally.changed_scores, 0),
        ("second trip, velocities changed", tally.changed_velocities, 0),
        ("grammar faults", sum(tally.faults.values()), 0),
    ]
    print(f"{tally.performances} performances, {windows} windows, {len(onset)} played notes compared by identity")
    print(f"{'':36}{'measured':>10}{'limit':>8}")
    for name, value, limit in rows:
        print(f"{name:36}{value:10.2f}{limit:8.2f}{'' if value <= limit else '  broken'}")
    print(f"median: onset {np.median(onset):.2f} ms, duration {np.median(duration):.2f} %; ", end="")
    print(f"steps {np.median(tally.steps):.0f}, 95 % {np.percentile(tally.steps, 95):.0f}")
    print("rejected: " + (", ".join(f"{n} {reason}" for reason, n in tally.rejected.most_common()) or "none"))
    print(f"second trip rejected: {tally.second_rejected}; more than 1 % repaired: {tally.failed_repairs}")
    values = np.concatenate(tally.values)
    print(f"values: mean {values.mean(0).round(3).tolist()}, deviation {values.std(0).round(3).tolist()}")
    if tally.faults:
        print("faults:", dict(tally.faults))
    return all(value <= limit for _, value, limit in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("aligned", help="nasap-aligned.npz")
    parser.add_argument("--every", type=int, default=1, help="take every n-th performance")
    parser.add_argument("--split", default="", help="only this split, train or validation")
    parser.add_argument("--all", action="store_true", help="also alignments that the corpus marks as not robust")
    parser.add_argument("--beat-unit", choices=("musical", "denominator", "quarter"), default="musical")
    parser.add_argument("--pedal", action="store_true")
    arguments = parser.parse_args()
    corpus = Nasap(arguments.aligned)
    chosen = [
        i for i in range(len(corpus))
        if (arguments.all or corpus.columns["robust"][i]) and arguments.split in ("", corpus.columns["split"][i])
    ]  # fmt: skip
    tally = Tally()
    for i in chosen[:: arguments.every]:
        measure(tally, *corpus.load(i), EcpConfig(arguments.beat_unit, arguments.pedal))
    raise SystemExit(0 if report(tally) else 1)


if __name__ == "__main__":
    main()
