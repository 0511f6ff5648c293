"""Phrases and cadences counted by hand, and the table of real scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.files import open_score_file
from engine.measures.form_metrics import FORM_METRICS, form_row, in_words, measure_form, phrase_figures, real_rows
from engine.models.tagger.tag import Tags

DATA = Path(__file__).parents[2] / "data"


def tagged(bars: int, ends: dict[int, int]) -> Tags:
    """Two beats a bar; a phrase ends in the last beat of the given bars, with the given cadence."""
    phrase, cadence = np.zeros(2 * bars, bool), np.zeros(2 * bars, np.int64)
    for bar, kind in ends.items():
        phrase[2 * bar + 1], cadence[2 * bar + 1] = True, kind
    return Tags(phrase, cadence, phrase.astype(np.float32), np.repeat(np.arange(bars), 2))


def test_phrases_by_hand():
    """Phrases of 4, 4, 8 and 3 bars, three of them with a cadence, the last an authentic one."""
    found = phrase_figures(tagged(20, {3: 2, 7: 0, 15: 3, 18: 1}))
    assert found == {"phrase": 19 / 4, "square": 3 / 4, "cadences": 3 / 4, "final": 1.0}


def test_only_the_first_bars_are_counted_and_the_last_of_the_piece():
    found = phrase_figures(tagged(60, {3: 2, 7: 0, 55: 3}))
    assert found == {"phrase": 4.0, "square": 1.0, "cadences": 0.5, "final": 0.0}
    assert phrase_figures(tagged(4, {})) == {"final": 0.0}


def test_a_row_leaves_out_what_no_piece_has():
    row = form_row("two", [{"far": 0.25, "final": 1.0}, {"final": 0.0}])
    assert row.mean == {"far": 0.25, "final": 0.5}
    assert "25.0" in in_words([row])
    assert in_words([row]).splitlines()[1].count("–") == len(FORM_METRICS) - 2


def test_a_mazurka_returns():
    """The first bars of the mazurka come back after eight bars, its repeats played out."""
    found = measure_form(open_score_file(DATA / "anonymous_mazur_6.krn"))
    assert found["far"] > 0.5
    assert found["final"] in (0.0, 1.0)


@pytest.mark.parametrize("name", ["real scores", "dances", "not dances", "mazurka", "with repeats, as played"])
def test_real_rows_have_every_figure(name):
    row = next(r for r in real_rows() if r.name == name)
    assert set(row.mean) == {m.name for m in FORM_METRICS}
    assert all(low <= row.mean[k] <= high for k, (low, high) in row.interval.items())
    assert row.pieces >= 10


def test_repeats_raise_the_exact_returns():
    rows = {r.name: r for r in real_rows()}
    written, played = rows["with repeats, as written"], rows["with repeats, as played"]
    assert written.pieces == played.pieces
    assert played.mean["exact"] > 1.5 * written.mean["exact"]
