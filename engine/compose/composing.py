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
from engine.limits import REQUEST_BARS
from engine.measures.form import bar_structure, compare_bars
from engine.models.composer.conditions import (
    COMPOSERS,
    DENSITY_EDGES,
    PERIODS,
    Conditions,
    composer_of,
    density_class,
    key_name,
    parse_key,
    period_of,
    tempo_class,
)
from engine.models.composer.generate import NoteSampler, SamplingTask
from engine.models.composer.numpy_network import Weights
from engine.models.composer.piece_prior import Prior
from engine.models.composer.plan_prior import MAX_LAG
from engine.music.edition import COMPOSED
from engine.music.engraving.hands import too_wide, within_reach
from engine.music.engraving.lengths import plain_lengths
from engine.music.engraving.spelling import spell, within_key
from engine.music.io.alignment import kept_notes
from engine.music.keys import MAJOR_PROFILE, MINOR_PROFILE, in_minor
from engine.music.types import MARK_NAMES, Marks, Measures, Score
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
    make_bars,
    make_written,
    write_tokens,
)
from engine.tokens.genres import genre_class
from engine.tokens.plan import Plan

__all__ = ["Conditions", "Prior", "compose", "continue_score", "infill", "kept_notes"]

_PASSAGE_BARS = 24
_ASK_FOR = 1.1  # factor on the density, because pieces come out less dense than requested (training/LOG.md)
_IN_FORCE = [MARK_NAMES.index(k) for k in ("written_velocity", "tempo_bpm", "tempo_word")]


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
    if not bars:  # a first guess of the length, mended as it is written
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
        tell(on_note, take, rows[rows[:, 0] >= hidden], m)
        scores.append(new_score(rows, m, values["tempo"], about, exact=bool(bars)))
    return scores


def draw_values(prior: Prior, asked: Conditions, seed: int, passage: bool = False) -> dict[str, float]:
    """Conditions of a similar real piece; an open density is limited to readable bars (except for passages used in
    measurements).
    """
    values = prior.draw(asked, np.random.default_rng([seed, 7]))
    if asked.density or passage:
        return values
    num, den = (int(v) for v in METERS[int(values["meter"])].split("/"))
    return values | {"density": min(values["density"], MEAN_IN_BAR / (4 * num / den))}


def most_in_bar(asked: Conditions, num: int, den: int) -> int:
    """Maximum notes in a bar."""
    return max(MAX_IN_BAR, round(1.5 * asked.density * 4 * num / den))


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


def tell(on_note: NoteCallback | None, take: int, rows: Rows, m: Measures) -> None:
    """Call `on_note` with notes that are done."""
    if on_note is None:
        return
    for tick, pitch, staff, duration in rows.tolist():
        quarter = float(_quarter(np.array([tick]), m)[0])
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
        old, tail = _join(old, _slice(tail, 0, held)), _slice(tail, held, len(tail))
    measures = _join(old, tail)
    start = max(last_end, float(score.onset_quarter.max()) + 1 / TICKS_PER_QUARTER)
    values, home, w, grid = _read(score, measures, request.conditions, start)
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
    return [_merge(score, np.ones(len(score), bool), rows, measures, exact=bool(bars)) for rows in written]


def infill(model: Weights, prior: Prior, request: InfillRequest, on_note: NoteCallback | None = None) -> list[Score]:
    """Rewrite the selected notes of a score, starting in `request.span`; the others stay unchanged. If all selected
    notes are on one staff, so are the new ones (unless the other staff is empty there). Raises BadInput when the
    selection or the span does not fit the score.
    """
    request.check()
    score, selected, (start, stop) = request.score, request.selected, map(float, request.span)
    values, home, w, grid = _read(score, score.measures, request.conditions, start)
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
    return [_merge(score, ~selected, rows, score.measures) for rows in written]


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
    """Before each note, ask `progress` whether to go on; how much is done only the listener to the notes can tell."""

    def heard(take: int, onset: float, duration: float, pitch: int, staff: int) -> None:
        if progress is not None:
            progress(0.0)
        if on_note is not None:
            on_note(take, onset, duration, pitch, staff)

    return heard


# ---- the grid and what is known of a score


def make_measures(onset: float, count: int, num: int, den: int, fifths: int, number: int) -> Measures:
    """`count` equal bars from `onset` (quarters) on; the first has the printed number `number`."""
    length, one = 4.0 * num / den, np.ones(count, int)
    return Measures(
        onset + length * np.arange(count), length * one, 0.0 * one, num * one, den * one, fifths * one,
        number + np.arange(count),
    )  # fmt: skip


def _slice(m: Measures, a: int, b: int) -> Measures:
    return Measures(*(getattr(m, k)[a:b] for k in m.__dataclass_fields__))


def _join(a: Measures, b: Measures) -> Measures:
    return Measures(*(np.concatenate([getattr(a, k), getattr(b, k)]) for k in a.__dataclass_fields__))


def make_grid(m: Measures) -> Bars:
    """Barlines on the tick grid."""
    return make_bars(m.onset_quarter, m.duration_quarter, m.position_quarter, m.ts_num, m.ts_den, m.fifths)


def _read(score: Score, m: Measures, asked: Conditions, at: float) -> tuple[dict[str, float], int, Written, Bars]:
    """(conditions, key signature that is home, notes on the grid, the grid) around a place in a score."""
    w = write_tokens(score)
    grid = make_grid(m)
    w = replace(w, bars=grid)
    near = np.argsort(np.abs(w.tick / TICKS_PER_QUARTER - at), kind="stable")[:256]
    bar = int(np.clip(np.searchsorted(m.onset_quarter, at - 1e-6, side="right") - 1, 0, len(m) - 1))
    home = int(m.fifths[bar])
    if not m.fifths.any():
        home = _heard_fifths(w.pitch[near], NOTE_TICKS[w.duration[near]])
        grid = replace(grid, fifths=np.full(len(grid.fifths), home))
        w = replace(w, bars=grid)
    name, period = composer_of(score.composer)
    name, period = asked.composer or name, period_of(asked.composer) if asked.composer else asked.period or period
    marked = int(score.marks["tempo_bpm"][min(np.searchsorted(score.onset_quarter, at), len(score) - 1)])
    if asked.key:
        home, minor = parse_key(asked.key)
    else:
        minor = is_minor(w.pitch[near] + key_shift(home), NOTE_TICKS[w.duration[near]])
    wide = max(float(np.ptp(w.tick[near])) / TICKS_PER_QUARTER, 1.0) if len(near) else 1.0
    values = {
        "composer": 1 + COMPOSERS.index(name) if name else 0, "period": 1 + PERIODS.index(period) if period else 0,
        "minor": float(minor), "meter": float(grid.meter[bar]), "tempo": asked.tempo or float(marked),
        "density": asked.density or float(np.clip(len(near) / wide, DENSITY_EDGES[0], DENSITY_EDGES[-1])),
        "genre": float(genre_class(asked.genre)),
    }  # fmt: skip
    return values, home, w, grid


def _heard_fifths(pitch: NDArray, duration: NDArray) -> int:
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


# ---- notes into scores


def run(
    model: Weights, task: SamplingTask, m: Measures, request: WritingRequest, on_note: NoteCallback | None
) -> list[NDArray[np.int64]]:
    """(k, 4) tick, pitch, staff and duration class of each take's new notes."""
    writer = NoteSampler(model, task, request.takes, request.seed, request.temperature, request.top_p)
    with model.one_thread():
        for take, (tick, pitch, staff, duration) in writer:
            if on_note is not None:
                quarter = float(_quarter(np.array([tick]), m)[0])
                on_note(take, quarter, float(NOTE_TICKS[duration] / TICKS_PER_QUARTER), pitch, staff + 1)
    return [np.array(t.notes, np.int64).reshape(-1, 4) for t in writer.takes]


def _quarter(tick: NDArray, m: Measures) -> NDArray[np.float64]:
    """Ticks as quarters, counted from their own barline, which need not stand on a tick."""
    start = np.round(m.onset_quarter * TICKS_PER_QUARTER)
    bar = np.clip(np.searchsorted(start, tick, side="right") - 1, 0, None)
    return m.onset_quarter[bar] + (tick - start[bar]) / TICKS_PER_QUARTER


def _lengths(tick: NDArray, pitch: NDArray, duration: NDArray, end: NDArray, others: NDArray) -> NDArray[np.float64]:
    """Durations in ticks: to the next stroke of the same key at most (`others` (2, k): tick, pitch), and to `end`."""
    length = np.minimum(NOTE_TICKS[duration].astype(float), np.maximum(end - tick, 1))
    at, key = np.concatenate([tick, others[0]]), np.concatenate([pitch, others[1]])
    for i in range(len(tick)):
        later = at[(key == pitch[i]) & (at > tick[i])]
        if len(later):
            length[i] = min(length[i], later.min() - tick[i])
    return length


def new_score(
    rows: NDArray[np.int64], m: Measures, tempo: float, about: str, exact: bool = False, tidy: bool = True
) -> Score:
    """A Score of its own: cut after the last bar that has notes, a short start turned into a pickup.

    exact  keep all bars of `m` as they are
    tidy   write lengths as a person would; without, they are the Composer's own (for measurements)

    Chords that one hand could not span are divided between the hands, or rolled.
    """
    tick, pitch, staff, duration = rows.T
    if not exact:
        last = int(np.searchsorted(m.onset_quarter * TICKS_PER_QUARTER, tick.max(), side="right"))
        empty = int(np.searchsorted(m.onset_quarter * TICKS_PER_QUARTER, tick.min(), side="right")) - 1
        m = _slice(m, empty, last)  # bars of rest before the first note are left out
        start = float(m.onset_quarter[0])
        m = replace(m, onset_quarter=m.onset_quarter - start, number=np.arange(1, len(m) + 1))
        tick = tick - round(start * TICKS_PER_QUARTER)
    onset = tick / TICKS_PER_QUARTER
    end = np.full(len(tick), m.end_quarter * TICKS_PER_QUARTER)
    length = _lengths(tick, pitch, duration, end, np.zeros((2, 0))) / TICKS_PER_QUARTER
    whole, lead = float(m.duration_quarter[0]), float(np.floor(onset.min() * 2) / 2)
    if len(m) > 1 and lead >= whole / 2 and not exact:
        position, first = np.array(m.position_quarter), np.array(m.onset_quarter) - whole
        duration_quarter = np.array(m.duration_quarter)
        position[0], first[0], duration_quarter[0] = lead, lead - whole, whole - lead
        number = np.arange(len(m))
        m = replace(m, onset_quarter=first, duration_quarter=duration_quarter, position_quarter=position, number=number)
        onset = onset - whole
    staff = within_reach(onset, length, pitch, staff + 1)
    if tidy:
        bar = np.searchsorted(m.onset_quarter, onset + 1e-6, side="right") - 1
        length = plain_lengths(onset, length, pitch, staff, (m.onset_quarter + m.duration_quarter)[bar])
    fifths = int(m.fifths[0])
    marks = np.zeros((len(tick), len(MARK_NAMES)), np.int16)
    marks[:, MARK_NAMES.index("tempo_bpm")] = round(tempo)
    marks[:, MARK_NAMES.index("arpeggio")] = too_wide(onset, pitch, staff)
    made = Score(
        onset, length, pitch, within_key(spell(pitch, fifths), fifths), staff, np.zeros(len(tick)),
        np.zeros(len(tick), bool), Marks(marks), m, "", f"{COMPOSED}, {about}" if about else COMPOSED, tempo,
    )  # fmt: skip
    return replace(made, title=f"Composition in {key_name(int(m.fifths[0]), in_minor(made))}")


def _merge(score: Score, keep: NDArray[np.bool_], rows: NDArray[np.int64], m: Measures, exact: bool = False) -> Score:
    """The kept notes of a score with new ones among them; bars after the last note are cut off without `exact`."""
    tick, pitch, staff, duration = rows.T
    last = float((score.onset_quarter + score.duration_quarter)[keep].max(initial=0.0))
    if len(tick):
        last = max(last, float(tick.max()) / TICKS_PER_QUARTER + 1e-6)
    if not exact:
        bars = max(int(np.searchsorted(m.onset_quarter, last - 1e-9, side="left")), len(score.measures))
        m = _slice(m, 0, bars)
    onset = _quarter(tick, m)
    kept_at = np.stack([score.onset_quarter[keep] * TICKS_PER_QUARTER, score.pitch[keep]])
    end = np.full(len(tick), m.end_quarter * TICKS_PER_QUARTER)
    length = _lengths(tick, pitch, duration, end, kept_at) / TICKS_PER_QUARTER
    n = len(tick)
    before = np.clip(np.searchsorted(score.onset_quarter, onset, side="right") - 1, 0, len(score) - 1)
    marks = np.zeros((n, len(MARK_NAMES)), np.int16)
    marks[:, _IN_FORCE] = score.marks.table[before][:, _IN_FORCE]
    new = (onset, length, pitch, np.zeros(n, np.int8), staff + 1, np.zeros(n, np.int16), np.zeros(n, bool))
    names = ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff", "voice", "grace")
    joined = {k: np.concatenate([getattr(score, k)[keep], v]) for k, v in zip(names, new, strict=True)}
    fresh = np.concatenate([np.zeros(keep.sum(), bool), np.ones(n, bool)])
    # kept notes keep their order; at one onset the new ones follow by pitch
    order = np.lexsort((np.where(fresh, joined["pitch"], -1), fresh, joined["onset_quarter"]))
    order = _by_pitch_where_free(order, joined, fresh)
    joined = {k: v[order] for k, v in joined.items()}
    fresh = fresh[order]
    fifths = int(m.fifths[0])
    joined["spelling"] = np.where(fresh, spell(joined["pitch"], fifths), joined["spelling"])
    table = np.concatenate([score.marks.table[keep], marks])[order]
    return replace(score, **joined, marks=Marks(table), measures=m)


def _by_pitch_where_free(order: NDArray, joined: dict[str, NDArray], fresh: NDArray) -> NDArray:
    """Sort chords by pitch wherever their kept notes already stand that way, so that (onset, pitch) order holds."""
    onset, pitch = joined["onset_quarter"][order], joined["pitch"][order].astype(int)
    grace, new = joined["grace"][order], fresh[order]
    edges = np.flatnonzero(np.diff(onset, prepend=-np.inf) > 0)
    for a, b in zip(edges, [*edges[1:], len(order)], strict=True):
        old = ~new[a:b]
        if new[a:b].any() and old.any() and not grace[a:b].any() and (np.diff(pitch[a:b][old]) >= 0).all():
            order[a:b] = order[a:b][np.argsort(pitch[a:b], kind="stable")]
    return order
