"""MIDI in and out: real files, files counted by hand, round trips note by note, hostile and mutated files."""

from __future__ import annotations

import random
import struct
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.music.expression import decode_expression, encode_expression
from engine.music.io.alignment import read_match
from engine.music.io.midi import read_midi_performance, read_midi_score, write_midi, write_midi_locked
from engine.music.io.midi_bytes import parse_midi
from engine.music.types import BadInput, Performance
from engine.untrusted.scores import open_performance, open_score
from tests.helpers.soak_report import Reporter

DATA = Path(__file__).parents[2] / "data"
END = b"\x00\xff\x2f\x00"
NOTE = b"\x00\x90\x3c\x40\x83\x60\x80\x3c\x40"  # middle C, a quarter at 480


def midi(*tracks: bytes, division: int = 480, kind: int = 1) -> bytes:
    chunks = b"".join(b"MTrk" + struct.pack(">I", len(t)) + t for t in tracks)
    return b"MThd" + struct.pack(">IHHH", 6, kind, len(tracks), division) + chunks


def variable(n: int) -> bytes:
    """A MIDI variable-length number."""
    out = [n & 127]
    while n := n >> 7:
        out.insert(0, n & 127 | 128)
    return bytes(out)


def events(*notes: tuple[int, int, int, int]) -> bytes:
    """A track of (onset tick, length, pitch, velocity)."""
    timed = sorted(
        [(t + d, 0 if d else 2, bytes([0x80, p, 0])) for t, d, p, v in notes]
        + [(t, 1, bytes([0x90, p, v])) for t, d, p, v in notes]
    )
    out, now = b"", 0
    for at, _, message in timed:
        out += variable(at - now) + message
        now = at
    return out + END


def sorted_notes(p: Performance) -> np.ndarray:
    rows = np.stack([p.onset_sec, p.pitch, p.onset_sec + p.duration_sec, p.velocity], axis=1)
    return rows[np.lexsort((rows[:, 2], rows[:, 3], rows[:, 0].round(3), rows[:, 1]))]


def test_four_notes_counted_by_hand() -> None:
    score = read_midi_score(midi(
        b"\x00\xff\x58\x04\x03\x02\x18\x08\x00\xff\x59\x02\x02\x00" + END,  # 3/4, two sharps
        events((0, 479, 74, 80), (480, 240, 73, 80), (720, 239, 66, 80)),
        events((0, 1440, 50, 80)),
    ))  # fmt: skip
    assert score.onset_quarter.tolist() == [0, 0, 1, 1.5]
    assert score.duration_quarter.tolist() == [3, 1, 0.5, 0.5]  # a tick short is not short
    assert score.pitch.tolist() == [50, 74, 73, 66]
    assert score.spelling.tolist() == [2, 2, 7, 6]  # D, D, C sharp, F sharp
    assert score.staff.tolist() == [2, 1, 1, 1]
    assert not score.grace.any()
    assert not score.marks.table.any()
    m = score.measures
    assert (m.onset_quarter.tolist(), m.duration_quarter.tolist()) == ([0], [3])
    assert (m.ts_num.tolist(), m.ts_den.tolist(), m.fifths.tolist(), m.number.tolist()) == ([3], [4], [2], [1])


def test_a_unison_stays_two_notes_and_a_note_without_length_gets_one() -> None:
    score = read_midi_score(
        midi(events((0, 240, 60, 64), (480, 0, 62, 64)), events((0, 480, 60, 64), (0, 480, 40, 64)))
    )
    assert score.pitch.tolist() == [40, 60, 60, 62]
    assert score.duration_quarter.tolist() == [1, 1, 0.5, 1 / 32]


def test_meter_change_cuts_the_bar_and_numbers_go_on() -> None:
    meters = b"\x00\xff\x58\x04\x04\x02\x18\x08" + variable(960) + b"\xff\x58\x04\x06\x03\x18\x08" + END
    m = read_midi_score(midi(meters, events((0, 960, 60, 64), (960, 2400, 62, 64)))).measures
    assert m.onset_quarter.tolist() == [0, 2, 5]
    assert m.duration_quarter.tolist() == [2, 3, 3]
    assert m.ts_num.tolist() == [4, 6, 6]
    assert m.ts_den.tolist() == [4, 8, 8]


def test_velocities_and_tempi_become_marks() -> None:
    tempo = b"\x00\xff\x51\x03\x0f\x42\x40" + variable(480) + b"\xff\x51\x03\x07\xa1\x20" + END  # 60, then 120
    marks = read_midi_score(midi(tempo, events((0, 480, 60, 40), (480, 480, 62, 90)))).marks
    assert marks["written_velocity"].tolist() == [40, 90]
    assert marks["tempo_bpm"].tolist() == [60, 120]
    assert not read_midi_score(midi(b"\x00\xff\x51\x03\x07\xa1\x20" + END, NOTE + END)).marks["tempo_bpm"].any()


def test_one_track_is_divided_between_two_hands() -> None:
    notes = [(i * 480, 480, p, 64) for i in range(8) for p in (40 + i % 3, 47, 64, 67, 72 + i % 2)]
    score = read_midi_score(midi(events(*notes)))
    assert (score.staff == np.where(score.pitch < 60, 2, 1)).all()


@pytest.mark.timeout(20)
def test_a_chord_of_every_note_of_a_piece_is_divided_quickly() -> None:
    piled = midi(events(*((0, 480 + k, 21 + k % 88, 64) for k in range(18_000))))
    score = read_midi_score(piled)
    assert set(score.staff[score.pitch < 40].tolist()) == {2}
    assert set(score.staff[score.pitch > 80].tolist()) == {1}


@pytest.mark.parametrize("name", ["bach_fugue_846", "bach_prelude_868", "beethoven_sonata_9_2"])
def test_score_midi_agrees_with_the_notation(name: str) -> None:
    midi_score = read_midi_score((DATA / f"{name}.mid").read_bytes())
    suffix = "musicxml" if (DATA / f"{name}.musicxml").exists() else "mxl"
    notation = open_score((DATA / f"{name}.{suffix}").read_bytes(), name)

    def plain(s):  # ornaments are written out in the MIDI
        return {
            (round(o * 48), int(p)): (int(st), int(sp))
            for o, p, st, sp in zip(s.onset_quarter, s.pitch, s.staff, s.spelling, strict=True)
        }

    a, b = plain(midi_score), plain(notation)
    common = a.keys() & b.keys()
    assert len(common) > 0.94 * len(b)
    assert np.mean([a[k] == b[k] for k in common]) > 0.93
    assert midi_score.measures.ts_num[0] == notation.measures.ts_num[0]


def test_live_recordings_and_scores_are_distinguished() -> None:
    for path in DATA.glob("*.mid"):
        data = path.read_bytes()
        live = path.stem.endswith(("M", "02"))
        assert any("guess" in r.text for r in read_midi_score(data).remarks) == live, path.name
        score = read_midi_score(data)
        if live:
            assert np.allclose(score.onset_quarter * 12, (score.onset_quarter * 12).round())


@pytest.mark.parametrize("path", sorted(DATA.glob("*.match")), ids=lambda p: p.stem)
def test_performed_round_trip(path: Path) -> None:
    _, performance, _ = read_match(path)
    back = read_midi_performance(write_midi(performance))
    a, b = sorted_notes(performance), sorted_notes(back)
    assert len(a) == len(b)
    assert (a[:, 1] == b[:, 1]).all()
    assert (a[:, 3] == b[:, 3]).all()
    assert np.abs(a[:, 0] - b[:, 0]).max() <= 0.00051
    struck_again = np.append((np.diff(a[:, 1]) == 0) & (a[:-1, 2] > a[1:, 0] - 0.002), False)
    assert np.abs(a[:, 2] - b[:, 2])[~struck_again].max() <= 0.0011
    assert (performance.pedal_value == back.pedal_value).all()
    assert np.abs(performance.pedal_sec - back.pedal_sec).max(initial=0) <= 0.00051


@pytest.mark.parametrize("path", sorted(DATA.glob("*.match")), ids=lambda p: p.stem)
def test_locked_round_trip(path: Path) -> None:
    score, performance, alignment = read_match(path)
    played = decode_expression(score, encode_expression(score, performance, alignment))
    data = write_midi_locked(score, played)
    back = read_midi_performance(data)
    a, b = sorted_notes(played), sorted_notes(back)
    assert len(a) == len(b)
    assert (a[:, 1] == b[:, 1]).all()
    assert (a[:, 3] == b[:, 3]).all()
    assert np.abs(a[:, 0] - b[:, 0]).max() < 0.002
    assert np.abs(a[:, 2] - b[:, 2]).max() < 0.003
    assert np.abs(played.pedal_sec - back.pedal_sec).max(initial=0) < 0.002
    file = parse_midi(data)
    quarters = score.measures.end_quarter - score.measures.onset_quarter[0]
    assert len(file.tempo_tick) >= 0.6 * quarters * score.measures.ts_den[0] / 4 / 3
    assert (file.meter[-1][1], file.meter[0][2]) == (score.measures.ts_num[-1], file.meter[0][2])


def test_locked_bars_are_the_scores_bars() -> None:
    """Notes on barlines, played exactly on the beat, stand on bar ticks in the file; the pickup is a bar of its own."""
    score, performance, alignment = read_match(DATA / "chopin_etude_25_2_Karpeyev02.match")
    expression = encode_expression(score, performance, alignment)
    exact = decode_expression(score, replace(expression, timing_sec=np.zeros(len(score))))
    file = parse_midi(write_midi_locked(score, exact))
    assert file.meter[:2] == ((0, 1, 4), (file.ticks_per_quarter, 2, 2))
    quarter = file.onset_tick / file.ticks_per_quarter - 1
    first_of_bar = np.isin(score.onset_quarter.round(3), score.measures.onset_quarter.round(3))
    on_bar = np.abs(quarter / 4 - (quarter / 4).round()) < 0.002
    assert on_bar.sum() >= first_of_bar.sum() * 0.95


def test_locked_refuses_another_number_of_notes() -> None:
    score, performance, _ = read_match(DATA / "bach_prelude_868_GonzalezJ05M.match")
    with pytest.raises(BadInput, match="414 notes and the score 417"):
        write_midi_locked(score, performance)


def test_notes_before_zero_and_restruck_keys() -> None:
    performance = Performance(
        [-0.5, 0.0, 0.1, 0.1], [1, 1, 1, 0.2], [60, 60, 60, 61], [1, 64, 127, 64], [-0.2, 0.3], [127, 0]
    )
    back = read_midi_performance(write_midi(performance))
    assert back.onset_sec.round(3).tolist() == [0, 0.5, 0.6, 0.6]
    assert back.duration_sec.round(3).tolist() == [0.499, 0.099, 1, 0.2]
    assert back.velocity.tolist() == [1, 64, 127, 64]
    assert back.pedal_sec.round(3).tolist() == [0.3, 0.8]


FAR = b"\xff\xff\xff\x7f"  # the longest pause that MIDI knows

HOSTILE = {
    "empty track": (midi(END), "no piano notes"),
    "header only": (midi(), "no piano notes|damaged"),
    "not midi": (b"RIFF" + bytes(100), "not a score that can be read"),
    "division 0": (midi(NOTE + END, division=0), "0 ticks"),
    "smpte": (midi(NOTE + END, division=0xE728), "damaged or of an unusual kind"),
    "tempo 0": (midi(b"\x00\xff\x51\x03\x00\x00\x00" + NOTE + END), None),
    "18 sharps": (midi(b"\x00\xff\x59\x02\x12\x00" + NOTE + END), None),
    "meter 0/4": (midi(b"\x00\xff\x58\x04\x00\x02\x18\x08" + NOTE + END), None),
    "meter x/2^255": (midi(b"\x00\xff\x58\x04\x04\xff\x18\x08" + NOTE + END), None),
    "22 days": (midi((NOTE + FAR + b"\x90\x3c\x40" + FAR + b"\x80\x3c\x40") * 4 + END), "minutes; up to 30"),
    "truncated": (midi(NOTE * 20 + END)[:-30], "damaged"),
    "false track length": (midi(NOTE + END).replace(b"MTrk\x00\x00", b"MTrk\x7f\xff"), "damaged"),
    "garbage running status": (midi(b"\x00\x40\x40\x40" + END), "damaged|no piano notes"),
    "data byte over 127": (midi(b"\x00\x90\xff\xff\x10\x80\xff\x40" + END), "damaged|no piano notes"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(1000), "not a score that can be read"),
    "random": (random.Random(1).randbytes(65536), "not a score that can be read"),
    "random after a header": (midi(random.Random(2).randbytes(60000)), "damaged|no piano notes"),
    "over 2 MB": (midi(NOTE * 250_000 + END), "MB; up to 2 MB"),
    "30,000 notes": (midi(events(*((i * 8, 4, 60, 64) for i in range(30_000)))), "more than 20000 notes"),
    "100,000 tempi": (midi(b"\x01\xff\x51\x03\x07\xa1\x20" * 100_000 + NOTE + END), "tempo and meter changes"),
    "only drums": (midi(b"\x00\x99\x3c\x40\x60\x89\x3c\x40" + END), "no piano notes"),
    "no note has an end": (midi(b"\x00\x90\x3c\x40" * 50 + END), "no piano notes"),
    "a million notes": (midi(NOTE * 1_000_000 + END), "MB; up to 2 MB"),
    "100,000 notes": (midi(events(*((i * 8, 4, 60, 64) for i in range(100_000)))), "more than 20000 notes"),
    "100,000 meters": (midi(b"\x01\xff\x58\x04\x03\x02\x18\x08" * 100_000 + NOTE + END), "tempo and meter changes"),
    "system exclusive without an end": (midi(b"\x00\xf0\x83\xff\xff\x7f" + NOTE + END), "damaged|no piano notes"),
    "three tracks named, one there": (midi(NOTE + END).replace(b"\0\1\1\xe0", b"\0\3\1\xe0", 1), None),
    "short bars": (midi(b"\x00\xff\x58\x04\x01\x06\x18\x08" + events((0, 9, 60, 9), (720_000, 9, 62, 9))), "5000 meas"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(20)
def test_hostile(name: str) -> None:
    data, message = HOSTILE[name]
    if message is None:
        assert len(open_score(data, name)) == 1
        assert np.isfinite(open_performance(data, name).end_sec)
        return
    with pytest.raises(BadInput, match=message) as caught:
        open_score(data, name)
    assert_sentence(caught.value)


def assert_sentence(error: BadInput) -> None:
    text = str(error)
    assert 15 < len(text) < 250, text
    assert text[-1] == ".", text
    assert "\n" not in text, text
    assert "Traceback" not in text, text


def mutate(data: bytes, r: random.Random) -> bytes:
    """A few random damages: bits, bytes, cuts, repeats, insertions, header values."""
    out = bytearray(data)
    for _ in range(r.choice((1, 1, 2, 5, 30))):
        if not out:
            break
        at = r.randrange(len(out)) if r.random() < 0.7 else r.randrange(min(40, len(out)))
        kind = r.randrange(6)
        if kind == 0:
            out[at] ^= 1 << r.randrange(8)
        elif kind == 1:
            out[at] = r.choice((0, 1, 127, 128, 255, 0x90, 0xFF, r.randrange(256)))
        elif kind == 2:
            del out[at : at + r.choice((1, 2, 4, 100))]
        elif kind == 3:
            out[at:at] = r.randbytes(r.choice((1, 2, 4, 64)))
        elif kind == 4:
            out[at:at] = out[at : at + r.choice((4, 16, 400))]
        else:
            del out[max(at, 14) :]
    return bytes(out)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_mutated_midi_files_are_read_or_refused_in_one_sentence(count: int, soak_report: Reporter) -> None:
    r = random.Random(20)
    seeds = [p.read_bytes() for p in sorted(DATA.glob("*.mid"))]
    read, slowest = 0, 0.0
    for _ in range(count):
        data = mutate(r.choice(seeds), r)
        for reader in (open_score, open_performance):
            start = time.process_time()
            try:
                found = reader(data, "x.mid")
            except BadInput as error:
                assert_sentence(error)
                continue
            slowest = max(slowest, time.process_time() - start)
            read += 1
            if isinstance(found, Performance):
                assert np.isfinite(found.end_sec)
                assert found.end_sec <= 1801
                assert (found.velocity >= 1).all()
                assert (found.velocity <= 127).all()
            else:
                assert len(found)
    soak_report(
        1, "mutated MIDI files", asked=f"{count:,}: 0 crashes, 0 over 1 s, only sentences or success",
        found=f"{count:,} through both readers: 0 crashes, {read:,} readings, slowest {slowest:.2f} s of computing",
        passed=slowest < 1 and read > count / 10,
    )  # fmt: skip
