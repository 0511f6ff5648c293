"""Prior over conditions, from real pieces, to draw the open conditions of a request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.models.composer.conditions import COMPOSERS, PERIODS, Conditions, parse_key, period_of
from engine.models.composer.genre_habits import HABITS
from engine.models.composer.plan_prior import PlanPrior
from engine.tokens.composer_tokens import METERS
from engine.tokens.genres import GENRES, genre_class
from engine.tokens.plan import Plan

PRIOR_COLUMNS = ("composer", "period", "minor", "fifths", "meter", "tempo", "density")
_ALIKE = 40  # number of similar pieces to draw a tempo from


@dataclass(frozen=True)
class Prior:
    """Conditions of real pieces: rows of (composer, period, minor, fifths, meter, tempo, density), 0 where unknown.

    rows  (k, 7) float: class of composer and period (0 unknown), 0 or 1, fifths, index into METERS, quarters a minute,
          notes a quarter
    plan  draws the plan of a piece; None for a Composer without a plan
    """

    rows: NDArray[np.float32]
    plan: PlanPrior | None = None

    def draw(self, asked: Conditions, rng: np.random.Generator) -> dict[str, float]:
        """Values of one real piece among those nearest to the request; requested values replace them."""
        r = {k: self.rows[:, i] for i, k in enumerate(PRIOR_COLUMNS)}
        wanted: dict[str, float] = {}
        if asked.composer:
            wanted["composer"], wanted["period"] = (
                1 + COMPOSERS.index(asked.composer), 1 + PERIODS.index(period_of(asked.composer)),
            )  # fmt: skip
        elif asked.period:
            wanted["period"] = 1 + PERIODS.index(asked.period)
        if asked.meter:
            wanted["meter"] = METERS.index(asked.meter)
        if asked.key:
            wanted["fifths"], wanted["minor"] = parse_key(asked.key)
        alike = {
            "tempo": (lambda v: np.abs(np.log2(np.maximum(v, 1) / asked.tempo)) < 0.3) if asked.tempo else None,
            "density": (lambda v: np.abs(np.log2(v / asked.density)) < 0.3) if asked.density else None,
        }
        habits = HABITS.get(GENRES[genre - 1]) if (genre := genre_class(asked.genre)) else None
        if habits is not None and "meter" not in wanted:
            usual = np.array([METERS.index(name) for name in habits.meters])
            alike["meter"] = lambda v: np.isin(v, usual)
        if habits is not None and alike["density"] is None:
            low, high = habits.density
            alike["density"] = lambda v: (v >= low) & (v <= high)
        if habits is not None and not asked.composer and not asked.period:
            name = habits.composers[rng.integers(len(habits.composers))]
            wanted["composer"] = 1 + COMPOSERS.index(name) if name else 0
            wanted["period"] = 1 + PERIODS.index(period_of(name)) if name else 0
        mask = np.ones(len(self.rows), bool)
        for name in ("composer", "period", "meter", "density", "tempo", "minor"):
            test = alike.get(name)
            if name in wanted:
                match = r[name] == wanted[name]
            elif test is not None:
                match = test(r[name])
            else:
                continue
            if (mask & match).sum() >= 5:
                mask &= match
        chosen = self.rows[rng.choice(np.flatnonzero(mask))]
        out = {k: float(v) for k, v in zip(PRIOR_COLUMNS, chosen, strict=True)} | wanted
        if asked.period and not asked.composer and out["composer"]:
            named = COMPOSERS[int(out["composer"]) - 1]
            out["composer"] = out["composer"] if period_of(named) == asked.period else 0
        if asked.tempo:
            out["tempo"] = asked.tempo
        elif out["tempo"] <= 0:
            out["tempo"] = self._tempo_of(out, rng)
        if asked.density:
            out["density"] = asked.density
        return out | {"genre": float(genre)}

    def draw_plan(
        self, piece: dict[str, float], bars: int, rng: np.random.Generator, total: int = 0,
        given: NDArray[np.int64] | None = None, left: int = 0,
    ) -> Plan | None:  # fmt: skip
        """The plan of a piece with the conditions `piece` (from `draw`); None for a Composer without a plan.

        bars   of the plan; those after the first `total` (0 for all) are left open
        given  (bars,) lags that are fixed, -1 where one is drawn
        left   bars of the piece that follow those of the plan
        """
        if self.plan is None:
            return None
        planned = min(total or bars, bars)
        made = self.plan.draw(
            planned, rng, int(piece["meter"]), int(piece["period"]), int(piece.get("genre", 0)), left=left,
            given=None if given is None else given[:planned],
        )  # fmt: skip
        return made.followed_by_open(bars - planned)

    def _tempo_of(self, piece: dict[str, float], rng: np.random.Generator) -> float:
        """A tempo for a piece of unknown tempo: drawn from pieces of similar density, if possible of its period."""
        known = self.rows[self.rows[:, PRIOR_COLUMNS.index("tempo")] > 0]
        if not len(known):
            return 0.0
        period = known[known[:, PRIOR_COLUMNS.index("period")] == piece["period"]]
        known = period if len(period) >= 2 * _ALIKE else known
        apart = np.abs(np.log2(known[:, PRIOR_COLUMNS.index("density")] / piece["density"]))
        alike = known[np.argsort(apart, kind="stable")[:_ALIKE]]
        return float(alike[rng.integers(len(alike)), PRIOR_COLUMNS.index("tempo")])
