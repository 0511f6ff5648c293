"""The physical model as a method of Render: dry parts equal the whole, tuning, loudness, stereo."""

from __future__ import annotations

import numpy as np
import pytest

from engine.engine import Engine
from engine.music.types import BadInput, Performance
from engine.render.physical import ModalPiano, PhysicalRenderer
from engine.requests import RenderRequest
from engine.sound.modal import SAMPLE_RATE, play_strings
from engine.sound.preview import Preview
from engine.sound.prompts import gallery
from engine.sound.spectra import level_db, sounding_db

NOTES = Performance([0.1, 0.45, 0.8, 0.8], [0.3, 0.3, 0.5, 0.5], [67, 72, 48, 76], [50, 70, 90, 60], [0, 1.2], [127, 0])


def dry(cents: np.ndarray | None = None, chunk: int = 8000) -> np.ndarray:
    return np.concatenate(list(ModalPiano().dry(NOTES, "strings", 2 * SAMPLE_RATE, cents, chunk)))


def test_dry_parts_are_the_whole() -> None:
    whole = play_strings(NOTES).samples[: 2 * SAMPLE_RATE]
    made = dry()
    assert len(made) == 2 * SAMPLE_RATE
    np.testing.assert_allclose(
        made / np.abs(made).max(), whole / np.abs(whole).max(), atol=1e-4
    )  # that one is levelled


def test_keys_are_tuned() -> None:
    def peak(sound: np.ndarray) -> float:
        spectrum = np.abs(np.fft.rfft(sound[4000:12000] * np.hanning(8000), 1 << 18))  # one note of key 67 sounds
        return float(spectrum[3000:3600].argmax() + 3000)

    assert 1200 * np.log2(peak(dry(np.full(128, 30.0))) / peak(dry())) == pytest.approx(30, abs=1)


def test_renders_as_loud_as_the_preview_and_in_stereo() -> None:
    engine, prompt = Engine.load(), gallery()["gymnopedie"]
    assert "physical" in engine.profiles
    assert engine.weights("physical") == PhysicalRenderer.digest
    assert prompt.notes is not None
    clip = engine.render(RenderRequest(prompt.notes, prompt, profile="physical"))
    assert clip.sample_rate == 48000
    assert clip.channels == 2, "the prompt is stereo"
    made, heard = (
        sounding_db(level_db(c.samples, c.sample_rate, 0.05)) for c in (clip.mono(), Preview().preview(prompt.notes))
    )
    assert made == pytest.approx(heard, abs=1.5)
    with pytest.raises(BadInput, match="leave it at 1"):
        engine.render(RenderRequest(prompt.notes, prompt, temperature=0.5, profile="physical"))


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(BadInput, match="fitted, product"):
        Engine.load().weights("organ")
