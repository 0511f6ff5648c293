"""Spectrograms of a prompt, a sampler and a rendering side by side in one PNG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from engine.music.types import AudioClip
from engine.sound.recording import resample
from engine.sound.spectra import log_mel

RATE, HOP = 32000, 320
ROWS, GAP, TITLE = 256, 12, 22  # pixels
SHOWN_DB = 70.0
# dark violet over red to pale yellow, of even lightness steps
COLOURS = np.array([[5, 4, 20], [60, 15, 90], [140, 40, 110], [215, 75, 75], [250, 150, 60], [252, 250, 200]])


def spectrogram_image(clip: AudioClip, width: int, seconds: float) -> NDArray[np.uint8]:
    """(256, width, 3) mel bands from 30 Hz (bottom) to 14 kHz over `seconds`; the loudest 70 dB are shown."""
    table = log_mel(resample(clip.samples, clip.sample_rate, RATE), RATE, 2048, HOP, ROWS // 2, 30.0, 14000.0, 1e-4)
    table = table[: round(seconds * RATE / HOP)]
    at = np.linspace(0, seconds * RATE / HOP, width, endpoint=False).astype(int)
    bright = np.clip((table - table.max()) / SHOWN_DB + 1, 0, 1)
    shown = np.where((at < len(table))[:, None], bright[np.minimum(at, len(table) - 1)], 0.0)
    shown = np.repeat(shown.T[::-1], 2, axis=0)
    place = shown * (len(COLOURS) - 1)
    low = np.minimum(place.astype(int), len(COLOURS) - 2)
    mix = (place - low)[..., None]
    return np.round(COLOURS[low] * (1 - mix) + COLOURS[low + 1] * mix).astype(np.uint8)


def side_by_side(clips: dict[str, AudioClip], width: int = 420) -> bytes:
    """A PNG of the spectrograms next to each other, each under its name, all on one time scale."""
    from PIL import Image, ImageDraw, ImageFont

    seconds = max(clip.duration_sec for clip in clips.values())
    whole = Image.new("RGB", (len(clips) * (width + GAP) - GAP, ROWS + TITLE), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=13)
    for i, (name, clip) in enumerate(clips.items()):
        left = i * (width + GAP)
        draw.text((left + 2, 3), name, fill="black", font=font)
        whole.paste(Image.fromarray(spectrogram_image(clip, width, seconds)), (left, TITLE))
    data = io.BytesIO()
    whole.save(data, "PNG", optimize=True)
    return data.getvalue()
