"""Goals of the sound models, compared with the measured tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from training.sound.eval.material import ReportTable

Goal = tuple[str, float, str, float]  # figure, measured value, "≥", "≤" or "<", goal


def goals(tables: Mapping[str, Sequence[ReportTable]]) -> ReportTable:
    """Measured values beside the goals; tables by the names of `training.sound.eval.audio`."""
    found: list[Goal] = []
    if "codec" in tables:
        codec, use = tables["codec"][:2]
        for kind in ("calm", "dense"):
            found.append((f"codec: note F1, {kind}", codec.value("ours", f"F1 {kind}"), "≥", 0.90))
            found.append((f"codec: note F1, {kind}, above Opus", codec.value("ours", f"F1 {kind}"), "≥",
                          codec.value("Opus", f"F1 {kind}")))  # fmt: skip
        found.append(("codec: code use of every codebook", min(float(r[1]) for r in use.rows), "≥", 0.80))
    if "renderer" in tables:
        t = tables["renderer"][0]
        found += [
            ("product: note-onset F1", t.value("product", "F1"), "≥", 0.90),
            (
                "product: note-onset F1, sampler's - 0.07",
                t.value("product", "F1"),
                "≥",
                t.value("sampler", "F1") - 0.07,
            ),
            ("product: mean onset error, ms", t.value("product", "onset error, ms"), "≤", 15.0),
            ("product: loudness-velocity, single notes", t.value("product", "loudness ρ, scale"), "≥", 0.80),
            ("product: length error, s", t.value("product", "length error, s"), "≤", 0.0),
        ]
    if "fidelity" in tables:
        for how in ("nearer than another", "nearest of all"):
            found.append(
                (f"product: spectrum to its own prompt's: {how}", tables["fidelity"][0].value("all", how), "≥", 0.85)
            )
    if "seams" in tables:
        t = tables["seams"][0]
        found += [
            ("seams: AUC", t.value("AUC, all", "value"), "<", 0.60),
            ("drift from start to end, ms", abs(t.value("drift", "value")), "<", 5.0),
            ("real-time factor", t.value("real-time factor (wall)", "value"), "≤", 0.30),
            ("first sound, s", t.value("first sound", "value"), "≤", 1.0),
        ]
    for split in ("selection", "report"):
        if split in tables:
            found += of_recordings(split, tables[split])
    rows = [(what, value, f"{sign} {asked:.3g}", "yes" if _reached(value, sign, asked) else "no")
            for what, value, sign, asked in found]  # fmt: skip
    reached = sum(row[3] == "yes" for row in rows)
    return ReportTable(
        "Figures to reach", ("figure", "found", "goal", "reached"), rows, [f"{reached} of {len(rows)} reached."]
    )


def of_recordings(split: str, tables: Sequence[ReportTable]) -> list[Goal]:
    """The fitted piano's goals, from the tables of `recordings_table` and `fitted_table`."""
    far, measures, _, prompts, _, own = tables
    found: list[Goal] = []
    for label in ("MTT", "MSD"):
        for other in ("preview", "sampler"):
            share = _plain(far, "fitted", label) / _plain(far, other, label)
            found.append((f"{split}, fitted: {label} / {other}'s", share, "≤", 0.6))
    found += [
        (f"{split}, fitted: note F1", measures.value("fitted", "F1"), "≥", 0.975),
        (f"{split}, fitted: mel, dB", measures.value("fitted", "mel, dB"), "≤", 3.7),
        (f"{split}, fitted: pre-echo, dB", measures.value("fitted", "pre-echo, dB"), "≤", 0.0),
        (f"{split}, fitted: loudness r, second by second", own.value("mean", "loudness r"), "≥", 0.9),
        (f"{split}, fitted: loudness r across performances", own.value("mean", "r across performances"), "≥", 0.9),
        (
            f"{split}, fitted: loudness off across performances, dB",
            own.value("mean", "off across performances, dB"),
            "≤",
            1.0,
        ),
        (f"{split}, fitted: fit, s", own.value("mean", "fit, s"), "≤", 2.0),
        (f"{split}, fitted: real-time factor", own.value("mean", "real-time factor"), "≤", 0.03),
    ]
    for how in ("nearer own than another", "nearest own"):
        found.append((f"{split}, fitted: {how}, the recordings' own parts'", prompts.value("fitted", how), "≥",
                      prompts.value("the recording", how)))  # fmt: skip
    return found


def _plain(table: ReportTable, row: str, column: str) -> float:
    """The plain distance in a cell "endless (plain) [low, high]"; NaN without one."""
    if column not in table.columns:
        return float("nan")
    cells = [str(r[list(table.columns).index(column)]) for r in table.rows if str(r[0]).startswith(row)]
    number = re.search(r"\(([-\d.]+)\)", cells[0]) if cells else None
    return float(number[1]) if number else float("nan")


def _reached(value: float, sign: str, asked: float) -> bool:
    """Whether the value meets the goal; False for NaN."""
    return value >= asked if sign == "≥" else value <= asked if sign == "≤" else value < asked
