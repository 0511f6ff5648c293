"""Agreement of renderings with human pianists: Pearson r, note by note and beat by beat.

Beat annotations map each human performance to score time; a human note is matched to the score note of the
same pitch that is nearest after that mapping. A rendering must play the score's notes one to one: the n-th time
a pitch sounds in the score is the n-th time it sounds in the rendering. Printed, as medians over pieces: r of
velocity, of log beat period (one value a beat) and of log articulation, rendering against every human, and human
against human, which is the ceiling to expect. `training.pianist.eval` gives the matching itself, by alignment, for
renderings that do not play one to one. Agreement with one human is a weak measure (arXiv 2401.00471): read it beside
the ceiling, never alone.

usage: expression_agreement.py SET_DIR PREDICTIONS_DIR [PREDICTIONS_DIR ...]
SET_DIR as in expression_distribution.py, with ID.beats.txt beside every MIDI file ((n)ASAP annotations: the
first tab-separated column is the beat's time in that file, in seconds).
"""

import sys
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np

from training.pianist.expression_distribution import read

warnings.filterwarnings("ignore", "Mean of empty slice")
KEYS = ("velocity", "beat_period", "articulation")


def beats(path):
    return np.array([float(line.split("\t")[0]) for line in Path(path).read_text().splitlines() if line.strip()])


def pearson(a, b):
    ok = np.isfinite(a) & np.isfinite(b)
    if ok.sum() < 20 or a[ok].std() < 1e-9 or b[ok].std() < 1e-9:
        return np.nan
    return float(np.corrcoef(a[ok], b[ok])[0, 1])


def log_beat_period(performed_beats, score_beats):
    b = np.log2(np.maximum(np.diff(performed_beats), 1e-3) / np.diff(score_beats))
    return b - np.median(b)


def view_of_human(score, score_beats, performance, performed_beats):
    n = min(len(score_beats), len(performed_beats))
    score_beats, keep = np.unique(score_beats[:n], return_index=True)
    performed_beats = performed_beats[:n][keep]
    if len(score_beats) < 8 or (np.diff(performed_beats) <= 0).mean() > 0.02:
        return None
    warped = np.interp(performance[:, 0], performed_beats, score_beats)
    velocity, articulation = np.full(len(score), np.nan), np.full(len(score), np.nan)
    of_pitch = defaultdict(list)
    for j, p in enumerate(performance[:, 2]):
        of_pitch[p].append(j)
    beat = np.median(np.diff(score_beats))
    for i, (onset, duration, pitch, _) in enumerate(score):
        candidates = np.array(of_pitch.get(pitch, []), dtype=int)
        if not len(candidates):
            continue
        k = candidates[np.abs(warped[candidates] - onset).argmin()]
        if abs(warped[k] - onset) < 0.35 * beat:
            velocity[i] = performance[k, 3]
            local = np.diff(np.interp([onset, onset + duration], score_beats, performed_beats))[0]
            articulation[i] = np.log2(max(performance[k, 1], 0.01) / max(local, 0.01))
    return {
        "velocity": velocity,
        "articulation": articulation,
        "beat_period": log_beat_period(performed_beats, score_beats),
        "found": np.isfinite(velocity).mean(),
        "score_beats": score_beats,
    }


def view_of_rendering(score, rendering, score_beats, match=None):
    """match: (n,) the row of the rendering that plays each score note, -1 for none; without it the n-th of a pitch."""
    if match is None:
        match = matched_by_count(score, rendering)
    found = match >= 0
    onset, held, velocity = (np.where(found, rendering[match, k], np.nan) for k in (0, 1, 3))
    times, group = np.unique(score[:, 0].round(4), return_inverse=True)
    played = np.array(
        [np.nanmedian(onset[group == g]) if np.isfinite(onset[group == g]).any() else np.nan for g in range(len(times))]
    )
    ok = np.isfinite(played)

    def warp(t):
        return np.interp(t, times[ok], played[ok])

    local = warp(score[:, 0] + score[:, 1]) - warp(score[:, 0])
    return {
        "velocity": velocity,
        "articulation": np.log2(np.maximum(held, 0.01) / np.maximum(local, 0.01)),
        "beat_period": log_beat_period(warp(score_beats), score_beats),
        "found": np.isfinite(velocity).mean(),
    }


def matched_by_count(score, rendering):
    sounding = defaultdict(list)
    for j in np.argsort(rendering[:, 0], kind="stable"):
        sounding[rendering[j, 2]].append(j)
    match, seen = np.full(len(score), -1), defaultdict(int)
    for i in np.argsort(score[:, 0], kind="stable"):
        p = score[i, 2]
        if seen[p] < len(sounding[p]):
            match[i] = sounding[p][seen[p]]
        seen[p] += 1
    return match


def humans(root):
    """{id: (score, [views])}, one view per distinct, well-matched performance."""
    out = {}
    for path in sorted(Path(root, "score").glob("*.mid")):
        score, _ = read(path)
        score_beats, views = beats(path.with_name(path.stem + ".beats.txt")), []
        for f in sorted(Path(root, "human").glob(f"{path.stem}-*.mid")):
            annotation = f.with_name(f.stem + ".beats.txt")
            if not annotation.exists():
                continue
            v = view_of_human(score, score_beats, read(f)[0], beats(annotation))
            same = v and any(np.allclose(np.nan_to_num(v["velocity"]), np.nan_to_num(u["velocity"])) for u in views)
            if v and v["found"] > 0.8 and not same:
                views.append(v)
        out[path.stem] = (score, views)
    return out


def row(name, per_piece, note=""):
    n = max(len(v) for v in per_piece.values())
    print(f"{name:24s} {n:6d}  " + "  ".join(f"{np.nanmedian(per_piece[k]):14.3f}" for k in KEYS) + note)


def main(root, *directories):
    pieces = humans(root)
    print(f"{'':24s} pieces  " + "  ".join(f"{'r ' + k:>14s}" for k in KEYS))
    ceiling = {k: [] for k in KEYS}
    for _, views in pieces.values():
        for k in KEYS:
            pairs = [pearson(a[k], b[k]) for i, a in enumerate(views) for b in views[:i] if len(a[k]) == len(b[k])]
            if pairs:
                ceiling[k].append(np.nanmean(pairs))
    row("human vs human", ceiling)
    for d in directories:
        result, found = {k: [] for k in KEYS}, []
        for i, (score, views) in pieces.items():
            if not views or not Path(d, f"{i}.mid").exists():
                continue
            rendering, _ = read(Path(d, f"{i}.mid"))
            scores = {k: [] for k in KEYS}
            for h in views:
                v = view_of_rendering(score, rendering, h["score_beats"])
                found.append(v["found"])
                for k in KEYS:
                    if len(v[k]) == len(h[k]):
                        scores[k].append(pearson(v[k], h[k]))
            for k in KEYS:
                result[k].append(np.nanmean(scores[k]) if scores[k] else np.nan)
        if found:
            row(Path(d).name, result, f"   notes found {np.mean(found):.3f}")
        else:
            print(f"{d}: no ID.mid found")


if __name__ == "__main__":
    main(*sys.argv[1:])
