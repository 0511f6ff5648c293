"""Composing, continuing and infilling of scores with the Composer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.compose.finishing import (
    ENDING_BARS,
    MAX_IN_BAR,
    MEAN_IN_BAR,
    Rows,
    Sheet,
    begun_at_once,
    closed,
    thinned,
)
from engine.compose.scores import (
    join_measures,
    make_grid,
    make_measures,
    merge_notes,
    new_score,
    quarters_of,
    slice_measures,
)
from engine.limits import REQUEST_BARS
from engine.measures.form import bar_structure, compare_bars
from engine.models.composer.conditions import (
    COMPOSERS,
    DENSITY_EDGES,
    PERIODS,
    Conditions,
    composer_of,
    density_class,
    parse_key,
    period_of,
    tempo_class,
)
from engine.models.composer.generate import NoteSampler, SamplingTask
from engine.models.composer.numpy_network import Weights
from engine.models.composer.piece_prior import Prior
from engine.models.composer.plan_prior import MAX_LAG
from engine.music.keys import MAJOR_PROFILE, MINOR_PROFILE
from engine.music.types import Measures, Score
from engine.progress import NoteCallback, ProgressCallback
from engine.requests import ComposeRequest, ContinueRequest, InfillRequest, WritingRequest
from engine.tokens.composer_tokens import (
    MAX_BAR_TICKS,
    METERS,
    NOTE_TICKS,
    TICKS_PER_QUARTER,
    Bars,
    Written,
    is_minor,
    key_shift,
    make_written,
    write_tokens,
)
from engine.tokens.genres import genre_class
from engine.tokens.plan import Plan

_PASSAGE_BARS = 24
_ASK_FOR = 1.1  # factor on the density, because pieces come out less dense than requested (training/LOG.md)


def classes_of(values: dict[str, float]) -> NDArray[np.int64]:
    """(7,) classes of drawn conditions: CONDITION_COLUMNS, the genre, and 1 for a piece without a voice."""
    return np.array([
        int(values["composer"]), int(values["period"]), 1 + int(values["minor"]), tempo_class(values["tempo"]),
        density_class(values["density"]), int(values.get("genre", 0)), 1,
    ])  # fmt: skip


def compose(model: Weights, prior: Prior, request: ComposeRequest, on_note: NoteCallback | None = None) -> list[Score]:
    """Compose new pieces without a form, one for each take; `compose_form` composes those with one.

    The last bars of a piece of fixed length or requested key are composed several times, to end on the tonic if
    possible. Raises BadInput for a condition or a number that is not accepted.
    """
    request.check()
    notes, bars = request.notes, request.bars
    values = draw_values(prior, request.conditions, request.seed, request.passage)
    meter, fifths = METERS[int(values["meter"])], int(values["fifths"])
    num, den = (int(v) for v in meter.split("/"))
    count = bars or REQUEST_BARS
    m = make_measures(0.0, count, num, den, fifths, 1)
    grid = make_grid(m)
    nothing = make_written(*(np.zeros(0) for _ in range(5)), grid)  # type: ignore[arg-type]
    if not bars:  # an estimate of the length, corrected while notes are sampled
        guess = round(notes / (values["density"] * 4 * num / den))
        first_end = int(np.clip(guess, 1, REQUEST_BARS))
    else:
        first_end = count
    end = int(grid.start[first_end - 1] + grid.length[first_end - 1])
    plan = prior.draw_plan(values, count, np.random.default_rng([request.seed, 11]), first_end)
    plan = plan.closed() if plan is not None and bars else plan
    task = SamplingTask(
        nothing, np.zeros(0, np.int64), grid, 0, end, fifths, key_shift(fifths), False, 0, 0 if bars else notes,
        classes_of(values | {"density": _ASK_FOR * values["density"]}), _PASSAGE_BARS if request.passage else 0, plan,
    )  # fmt: skip
    sheet = Sheet(
        model, grid, fifths, bool(values["minor"]), task.conditions, plan, (request.temperature, request.top_p)
    )
    hidden = REQUEST_BARS * MAX_BAR_TICKS if request.passage or not bars else sheet.tick(max(count - ENDING_BARS, 0))
    written = run(model, task, m, request, shown_until(on_note, hidden))
    about = in_the_manner_of(values)
    if request.passage:
        return [new_score(rows, m, values["tempo"], about, tidy=False) for rows in written]
    most = most_in_bar(request.conditions, num, den)
    scores = []
    for take, rows in enumerate(written):
        rows = begun_at_once(sheet, rows, [request.seed, take]) if bars else rows
        rows = thinned(sheet, rows, most, [request.seed, take])
        rows = closed(sheet, rows, [request.seed, take]) if bars or request.conditions.key else rows
        send_notes(on_note, take, rows[rows[:, 0] >= hidden], m)
        scores.append(new_score(rows, m, values["tempo"], about, exact=bool(bars)))
    return scores


def draw_values(prior: Prior, conditions: Conditions, seed: int, passage: bool = False) -> dict[str, float]:
    """Conditions of a similar real piece; an open density is limited to readable bars (except for passages used in
    measurements).
    """
    values = prior.draw(conditions, np.random.default_rng([seed, 7]))
    if conditions.density or passage:
        return values
    num, den = (int(v) for v in METERS[int(values["meter"])].split("/"))
    return values | {"density": min(values["density"], MEAN_IN_BAR / (4 * num / den))}


def most_in_bar(conditions: Conditions, num: int, den: int) -> int:
    """Maximum notes in a bar."""
    return max(MAX_IN_BAR, round(1.5 * conditions.density * 4 * num / den))


def in_the_manner_of(values: dict[str, float]) -> str:
    """The composer label of drawn conditions, in words."""
    composer = COMPOSERS[int(values["composer"]) - 1] if values["composer"] else ""
    return f"in the manner of {composer}" if composer else ""


def shown_until(on_note: NoteCallback | None, tick: int) -> NoteCallback | None:
    """The callback for notes before a tick; later notes may be composed again."""
    if on_note is None:
        return None

    def early(take: int, onset: float, duration: float, pitch: int, staff: int) -> None:
        if onset * TICKS_PER_QUARTER < tick - 1e-6:
            on_note(take, onset, duration, pitch, staff)

    return early


def send_notes(on_note: NoteCallback | None, take: int, rows: Rows, m: Measures) -> None:
    """Call `on_note` with finished notes."""
    if on_note is None:
        return
    for tick, pitch, staff, duration in rows.tolist():
        quarter = float(quarters_of(np.array([tick]), m)[0])
        on_note(take, quarter, float(NOTE_TICKS[duration] / TICKS_PER_QUARTER), pitch, staff + 1)


def continue_score(
    model: Weights, prior: Prior, request: ContinueRequest, on_note: NoteCallback | None = None
) -> list[Score]:
    """Continue a score; its notes come first and stay unchanged in every field.

    The new notes begin where the last note ends, in the last bar's metre and key. With `bars` the piece is longer by
    exactly so many, a last note that is held beyond the last barline included; one more is added where it fills them
    all. Raises BadInput for numbers that are not accepted.
    """
    request.check()
    score, notes, bars = request.score, request.notes, request.bars
    old = score.measures
    num, den, fifths = int(old.ts_num[-1]), int(old.ts_den[-1]), int(old.fifths[-1])
    last_end = float((score.onset_quarter + score.duration_quarter).max())
    held = int(max(last_end - old.end_quarter + 1e-6, 0.0) // (4 * num / den))  # bars that the last note fills
    more = max(bars, held + 1) if bars else REQUEST_BARS + 1
    tail = make_measures(old.end_quarter, more, num, den, fifths, int(old.number[-1]) + 1)
    if held:
        old, tail = join_measures(old, slice_measures(tail, 0, held)), slice_measures(tail, held, len(tail))
    measures = join_measures(old, tail)
    start = max(last_end, float(score.onset_quarter.max()) + 1 / TICKS_PER_QUARTER)
    values, home, w, grid = _conditions_around(score, measures, request.conditions, start)
    end_bar = len(measures) if bars else len(old) + max(1, round(notes / max(values["density"] * 4 * num / den, 1)))
    end_bar = min(end_bar, len(measures))
    end = int(grid.start[end_bar - 1] + grid.length[end_bar - 1])
    low = int(np.ceil(start * TICKS_PER_QUARTER - 1e-6))
    first = max(int(np.searchsorted(grid.start, low, side="right")) - 1, 0)
    task = SamplingTask(
        w, np.zeros(0, np.int64), grid, low, end, home, key_shift(home),
        False, 0, 0 if bars else notes, classes_of(values),
        plan=plan_around(prior, w, values, request.seed, min(first, end_bar - 1), end_bar),
    )  # fmt: skip
    written = run(model, task, measures, request, on_note)
    return [merge_notes(score, np.ones(len(score), bool), rows, measures, exact=bool(bars)) for rows in written]


def infill(model: Weights, prior: Prior, request: InfillRequest, on_note: NoteCallback | None = None) -> list[Score]:
    """Rewrite the selected notes of a score, starting in `request.span`; the others stay unchanged. If all selected
    notes are on one staff, so are the new ones (unless the other staff is empty there). Raises BadInput when the
    selection or the span does not fit the score.
    """
    request.check()
    score, selected, (start, stop) = request.score, request.selected, map(float, request.span)
    values, home, w, grid = _conditions_around(score, score.measures, request.conditions, start)
    staves = set(np.unique(score.staff[selected]).tolist())
    others = (~selected) & (score.onset_quarter >= start) & (score.onset_quarter < stop)
    hand = staves.pop() if len(staves) == 1 and others.any() and staves <= {1, 2} else 0
    low, high = (int(np.ceil(v * TICKS_PER_QUARTER - 1e-6)) for v in (start, stop))
    first = max(int(np.searchsorted(grid.start, low, side="right")) - 1, 0)
    end = max(int(np.searchsorted(grid.start, high)), first + 1)
    stays = ~selected[w.source]
    columns = (w.tick, w.pitch, w.staff, w.duration, w.bar, w.source)
    tick, pitch, staff, duration, bar, source = (c[stays] for c in columns)
    kept = Written(tick, pitch, staff, duration, bar, source, grid)
    task = SamplingTask(
        kept, np.flatnonzero(kept.tick >= low), grid, low, high, home, key_shift(home), True, int(hand), 0,
        classes_of(values), plan=plan_around(prior, kept, values, request.seed, first, end, request.lags),
    )  # fmt: skip
    written = run(model, task, score.measures, request, on_note)
    return [merge_notes(score, ~selected, rows, score.measures) for rows in written]


def plan_around(
    prior: Prior, w: Written, values: dict[str, float], seed: int, first: int, end: int, lags: tuple[int, ...] = ()
) -> Plan | None:
    """The plan for bars `first` to `end` (not included) of a piece whose other notes `w` are given; None without plans.

    The structure of the bars before is measured and stands in the plan; that of the new bars is drawn, except where
    `lags` has it. All other bars are open.
    """
    if prior.plan is None:
        return None
    bars = len(w.bars.start)
    begin = max(0, first - MAX_LAG)
    near = (w.bar >= begin) & (w.bar < first)
    place = w.in_bar[near] / TICKS_PER_QUARTER
    found = bar_structure(compare_bars(w.bar[near] - begin, place, w.pitch[near], first - begin))
    wanted = np.full(end - first, -1)
    wanted[: len(lags)] = lags[: end - first]
    reach = np.arange(end - first) + first - begin
    given = np.concatenate([found.lag, np.where(wanted > reach, 0, wanted)])
    made = prior.draw_plan(values, len(given), np.random.default_rng([seed, 11]), given=given, left=bars - end)
    assert made is not None
    known = replace(
        Plan.open(first - begin), lag=found.lag, likeness=found.likeness.astype(float),
        transpose=found.transpose.astype(np.int64),
    )  # fmt: skip
    before = Plan.open(begin).followed_by(known)
    return before.followed_by(made.last(end - first)).followed_by_open(bars - end)


def stepped(on_note: NoteCallback | None, progress: ProgressCallback | None) -> NoteCallback:
    """A note callback that first calls `progress` with 0, so that the work can be cancelled before each note."""

    def cancellable(take: int, onset: float, duration: float, pitch: int, staff: int) -> None:
        if progress is not None:
            progress(0.0)
        if on_note is not None:
            on_note(take, onset, duration, pitch, staff)

    return cancellable


# ---- conditions of an existing score
def _conditions_around(
    score: Score, m: Measures, conditions: Conditions, at: float
) -> tuple[dict[str, float], int, Written, Bars]:
    """(conditions, key signature that is home, notes on the grid, the grid) around a place in a score."""
    w = write_tokens(score)
    grid = make_grid(m)
    w = replace(w, bars=grid)
    near = np.argsort(np.abs(w.tick / TICKS_PER_QUARTER - at), kind="stable")[:256]
    bar = int(np.clip(np.searchsorted(m.onset_quarter, at - 1e-6, side="right") - 1, 0, len(m) - 1))
    home = int(m.fifths[bar])
    if not m.fifths.any():
        home = _estimated_fifths(w.pitch[near], NOTE_TICKS[w.duration[near]])
        grid = replace(grid, fifths=np.full(len(grid.fifths), home))
        w = replace(w, bars=grid)
    name, period = composer_of(score.composer)
    name, period = (
        conditions.composer or name,
        period_of(conditions.composer) if conditions.composer else conditions.period or period,
    )
    marked = int(score.marks["tempo_bpm"][min(np.searchsorted(score.onset_quarter, at), len(score) - 1)])
    if conditions.key:
        home, minor = parse_key(conditions.key)
    else:
        minor = is_minor(w.pitch[near] + key_shift(home), NOTE_TICKS[w.duration[near]])
    wide = max(float(np.ptp(w.tick[near])) / TICKS_PER_QUARTER, 1.0) if len(near) else 1.0
    values = {
        "composer": 1 + COMPOSERS.index(name) if name else 0, "period": 1 + PERIODS.index(period) if period else 0,
        "minor": float(minor), "meter": float(grid.meter[bar]), "tempo": conditions.tempo or float(marked),
        "density": conditions.density or float(np.clip(len(near) / wide, DENSITY_EDGES[0], DENSITY_EDGES[-1])),
        "genre": float(genre_class(conditions.genre)),
    }  # fmt: skip
    return values, home, w, grid


def _estimated_fifths(pitch: NDArray, duration: NDArray) -> int:
    """Estimated key signature (Krumhansl); 0 unless another fits clearly better."""
    weight = np.bincount(np.asarray(pitch) % 12, weights=duration, minlength=12)
    if len(pitch) < 16 or weight.std() == 0:
        return 0
    fit = {}
    for fifths in range(-5, 7):
        tonic = 7 * fifths % 12
        fit[fifths] = max(
            np.corrcoef(weight, np.roll(MAJOR_PROFILE, tonic))[0, 1],
            np.corrcoef(weight, np.roll(MINOR_PROFILE, tonic + 9))[0, 1],
        )
    best = max(fit, key=lambda k: fit[k])
    return best if fit[best] > fit[0] + 0.05 else 0


# ---- sampling


def run(
    model: Weights, task: SamplingTask, m: Measures, request: WritingRequest, on_note: NoteCallback | None
) -> list[NDArray[np.int64]]:
    """(k, 4) tick, pitch, staff and duration class of each take's new notes."""
    writer = NoteSampler(model, task, request.takes, request.seed, request.temperature, request.top_p)
    with model.one_thread():
        for take, (tick, pitch, staff, duration) in writer:
            if on_note is not None:
                quarter = float(quarters_of(np.array([tick]), m)[0])
                on_note(take, quarter, float(NOTE_TICKS[duration] / TICKS_PER_QUARTER), pitch, staff + 1)
    return [np.array(t.notes, np.int64).reshape(-1, 4) for t in writer.takes]
