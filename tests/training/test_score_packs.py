"""The packs of scores on tiny hand-made files: which scores are taken, and which notes and bars come out."""

from __future__ import annotations

import csv
import io
import lzma
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from training.core.corpora import QUARTER
from training.core.playing_order import ARCHIVES
from training.core.score_packs import ScorePack, chosen, second_pack
from training.xmvae.prepare import Rows, add_scores
from training.xmvae.segments import ACCOMPANIMENT, FORMAT, SCORE, BeatCorpus

ROOT = Path(__file__).parents[2]
TUNE = (60, 64, 67, 72)
DCML_ID = "some/notes/a.notes.tsv"


def write_compact(path: Path, scores: list[dict]) -> None:
    """Scores in 4/4, a bar of four quarters each: {id, work, split, bars: [[(quarter in bar, pitch, staff)]]}."""
    notes, note_ptr, bar_ptr = [], [0], [0]
    for s in scores:
        for b, bar in enumerate(s["bars"]):
            notes += [(int((4 * b + at) * QUARTER), QUARTER, pitch, staff, b) for at, pitch, staff in bar]
        note_ptr.append(len(notes))
        bar_ptr.append(bar_ptr[-1] + len(s["bars"]))
    onset, duration, pitch, staff, bar = map(np.array, zip(*notes, strict=True))
    bars = np.concatenate([np.arange(len(s["bars"])) for s in scores])
    np.savez(
        path, onset=onset, duration=duration, pitch=pitch.astype(np.uint8), staff=staff.astype(np.uint8),
        voice=np.ones(len(onset), np.uint8), grace=np.zeros(len(onset), np.uint8), bar=bar.astype(np.uint16),
        bar_onset=bars * 4 * QUARTER, bar_ts_num=np.full(len(bars), 4, np.uint8),
        bar_ts_den=np.full(len(bars), 4, np.uint8), key_onset=np.zeros(len(scores), int),
        key_fifths=np.zeros(len(scores), np.int8), note_ptr=note_ptr, bar_ptr=bar_ptr,
        key_ptr=np.arange(len(scores) + 1), licence=np.array(["CC0 1.0"] * len(scores)),
        composer=np.array(["Anonymous"] * len(scores)),
        **{k: np.array([s[k] for s in scores]) for k in ("id", "work", "split")},
    )  # fmt: skip


def write_index(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as f:
        table = csv.DictWriter(f, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def piece(id: str, work: str, split: str = "train", bars: int = 4) -> dict:
    """The tune in every bar, a third higher in the second half, over a bass note."""
    made = [[(i, p + 4 * (b >= bars // 2), 1) for i, p in enumerate(TUNE)] + [(0, 40 + b, 2)] for b in range(bars)]
    return {"id": id, "work": work, "split": split, "bars": made}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    (one / "scores").mkdir()
    for name in ARCHIVES:
        with tarfile.open(one / "scores" / f"scores-{name}.tar.xz", "w:xz") as archive:
            if name.startswith("dcml"):
                table = b"mc\tnext\n1\t2\n2\t1, 3\n3\t4\n4\t-1\n"  # the first two of four bars are repeated
                info = tarfile.TarInfo("some/measures/a.measures.tsv")
                info.size = len(table)
                archive.addfile(info, io.BytesIO(table))
    write_compact(one / "scores" / "scores-compact.npz", [piece(DCML_ID, "w1"), piece("b", "w2", "validation", 6)])
    p = {"train": "p1", "known": "w1", "duplicate": "p9", "validation": "p2"}
    rows = [{"id": f"pianocore/{use}", "work": work, "use": use, "genre": "classical"} for use, work in p.items()]
    rows += [{"id": "pianocore/rag", "work": "p3", "use": "train", "genre": "ragtime"}]
    write_index(two / "pianocore-index.csv", rows)
    split = {"validation": "validation"}
    write_compact(
        two / "pianocore-compact.npz", [piece(r["id"], r["work"], split.get(r["use"], "train")) for r in rows]
    )
    ours = [
        ("new", "m1", "new", "piano", 0, 0.0), ("better", "p1", "pianocore", "piano", 0, 2.0),
        ("worse", "p2", "pianocore", "piano", 3, 0.0), ("opera", "m2", "new", "arrangement", 0, 0.0),
        ("broken", "m3", "new", "piano", 0, 9.0), ("known", "w1", "known", "piano", 0, 0.0),
    ]  # fmt: skip
    keys = ("id", "work", "use", "kind", "syntax_errors", "staff_end_gap")
    write_index(two / "mutopia-index.csv", [dict(zip(keys, row, strict=True)) for row in ours])
    write_compact(two / "mutopia-compact.npz", [piece(row[0], row[1]) for row in ours])
    song = piece("lieder/song", "l1")
    for bar in song["bars"]:
        bar.append((1.0, 80, 0))  # the singer
    write_compact(two / "lieder-compact.npz", [song])
    with lzma.open(two / "lieder-marks.tsv.xz", "wt") as f:
        f.write("song\tonset\tbar\tstaff\tvoice\tkind\tvalue\n")
        f.write(f"0\t{8 * QUARTER}\t1\t1\t0\trepeat-backward\t\n")
    return one, two


def test_what_is_taken_of_the_second_folder(folders) -> None:
    """New and classical; Mutopia's edition where it is sound, PianoCoRe's where it is not."""
    found = {(i.source, i.id, i.work, i.split) for i in second_pack(folders[1])}
    assert found == {
        ("mutopia", "new", "m1", "train"), ("mutopia", "better", "p1", "train"),
        ("pianocore", "pianocore/validation", "p2", "validation"), ("lieder", "lieder/song", "l1", "train"),
    }  # fmt: skip


def test_a_song_keeps_only_the_piano(folders) -> None:
    song = ScorePack(folders[1] / "lieder-compact.npz").item(0, "lieder")
    assert song.accompaniment
    assert 80 not in song.written.pitch
    assert len(song.written) == 20
    assert song.written.staff.tolist() == [1, 0, 0, 0, 0] * 4


def test_a_pickup_keeps_its_place_in_the_bar(tmp_path: Path) -> None:
    write_compact(tmp_path / "x.npz", [piece("a", "w1")])
    with np.load(tmp_path / "x.npz") as z:
        c = {k: z[k] for k in z.files}
    c["bar_onset"][1:] -= 3 * QUARTER  # the first bar lasts one quarter
    c["onset"][:5] = 0
    c["onset"][5:] -= 3 * QUARTER
    np.savez(tmp_path / "x.npz", **c)
    w = ScorePack(tmp_path / "x.npz").written(0)
    assert w.bars.length.tolist() == [24, 96, 96, 96]
    assert w.bars.offset.tolist() == [72, 0, 0, 0]
    assert set(w.in_bar[w.bar == 0]) == {72}


def test_the_command_writes_both_packs(folders, tmp_path: Path) -> None:
    """Without (n)ASAP's file the command cannot end, so an empty corpus of it stands beside the scores."""
    one, two = folders
    (one / "aligned").mkdir(exist_ok=True)
    np.savez(one / "aligned" / "nasap-aligned.npz", work=np.array([], "<U5"), id=np.array([], "<U5"))
    out = tmp_path / "pack.npz"
    done = subprocess.run(
        [sys.executable, "-m", "training.composer.prepare", "--data", one, "--data2", two, "--out", out],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mutopia train: 2 scores of 2 works, 40 notes, 8 bars" in done.stdout
    assert done.stdout.count("1 also as played") == 2
    with np.load(out) as z:
        assert z["source"].tolist() == ["scores"] * 3 + ["mutopia"] * 2 + ["pianocore", "lieder", "lieder"]
        assert z["accompaniment"].tolist() == [False] * 6 + [True] * 2
        assert z["unfolded"].tolist() == [False, True] + [False] * 5 + [True]
        # bars of four tune notes and a moving bass: each is like the one before by 4 / 6, the third a third higher
        assert z["bar_lag"][:4].tolist() == [0, 1, 1, 1]
        assert z["bar_likeness"][:4].tolist() == [0, 170, 170, 170]
        assert z["bar_transpose"][:4].tolist() == [0, 0, 4, 0]
        # as played: bars 0 1 0 1 2 3, of which the third and fourth are exactly those two bars before
        assert z["bar_lag"][4:10].tolist() == [0, 1, 2, 2, 1, 1]
        assert z["bar_likeness"][4:10].tolist() == [0, 170, 255, 255, 170, 170]
        assert not z["bar_phrase_end"].any()
        assert len(z["bar_cadence"]) == z["bar_ptr"][-1] == 38


def test_tokens_of_the_second_folder_and_the_weight_of_songs(folders, tmp_path: Path) -> None:
    """The song has the four piano bars of every other piece, without the singer, and counts less."""
    rows = Rows(SCORE)
    for pack, source, taken in chosen(folders[1]):
        assert not add_scores(rows, pack, source, taken)
    assert rows.sources == ["mutopia", "mutopia", "pianocore", "lieder"]
    assert rows.runs[3].tolist() == rows.runs[0].tolist()
    np.savez(tmp_path / "pack.npz", format=FORMAT, **rows.columns())
    corpus = BeatCorpus(tmp_path / "pack.npz", SCORE, "train")
    weight = dict(zip(corpus._names, corpus._weight, strict=True))
    assert weight["l1"] / weight["m1"] == pytest.approx(ACCOMPANIMENT)
