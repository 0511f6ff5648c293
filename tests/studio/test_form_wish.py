"""A form request through the studio."""

from __future__ import annotations

import pytest

from engine.engine import Engine
from engine.models.composer.conditions import Conditions
from engine.music.types import BadInput
from engine.requests import ComposeRequest
from studio.actions.composing import as_form
from studio.service.shared_engine import SharedEngine


def test_a_form_is_checked():
    with pytest.raises(BadInput, match="up to 128"):
        as_form("A64 B64 A64")
    with pytest.raises(BadInput, match="not a text"):
        as_form(8)
    assert as_form("free") == {}
    assert as_form("AABA") == {"form": "A8 A'8 B8 A8", "bars": 32}


def test_the_shared_composes_the_bars_of_a_form():
    request = ComposeRequest(Conditions(meter="2/4"), seed=4, **as_form("A2 B1 A'2"))
    assert len(SharedEngine(Engine.load()).compose(request, lambda *_: None)[0].measures) == 5
