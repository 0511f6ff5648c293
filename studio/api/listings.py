"""Endpoints that list the choices of the others. Their docstrings are the public documentation."""

from __future__ import annotations

from studio.service.shared_engine import SharedEngine


def list_styles(shared: SharedEngine) -> dict:
    """The sliders and named styles of perform: labels, meaning of either end, values of each style."""
    axes = [{"name": a.name, "label": a.label, "low": a.low, "high": a.high} for a in shared.axes]
    return {"sliders": axes, "styles": {name: list(z) for name, z in shared.presets.items()}}


def list_prompts(shared: SharedEngine) -> list[dict]:
    """The reference sounds of render, with their credits."""
    from engine.sound.prompts import gallery

    return [
        {"name": key, "title": prompt.name, "seconds": prompt.clip.duration_sec, "credit": prompt.credit}
        for key, prompt in gallery().items()
    ]


def list_conditions(shared: SharedEngine) -> dict:
    """The composers, periods, keys and metres of compose, and the pianos of preview."""
    from engine.models.composer.conditions import COMPOSERS, KEYS, METER_NAMES, PERIODS

    named = {"composers": COMPOSERS, "periods": PERIODS, "keys": KEYS, "meters": METER_NAMES}
    return {**{name: list(values) for name, values in named.items()}, "pianos": list(shared.pianos)}
