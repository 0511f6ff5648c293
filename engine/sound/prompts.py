"""Prompts: a few seconds of a real or sampled piano, the reference sound of a render.

A prompt is 3 to 10 s of mono sound at 32 kHz at a fixed level, with its notes if known. `gallery` has the prompts of
Étude, `prepare_prompt` makes one from a recording.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.limits import MAX_RATE, MIN_RATE
from engine.music.types import AudioClip, BadInput, Performance, digest
from engine.sound.clip import SILENCE, read_audio, read_stereo
from engine.sound.prompt_remarks import remarks_on_notes, remarks_on_sound
from engine.sound.recording import resample
from engine.sound.spectra import LEVEL_DB, sounding_db
from engine.sound.stereo import Image, measure_image

SAMPLE_RATE = 32_000
SHORTEST_SEC, LONGEST_SEC = 3.0, 10.0
PROMPT_MAX_PEAK = 0.89  # -1 dBFS: a prompt with high peaks gets a lower level than LEVEL_DB
MAX_GAIN_DB = 36.0  # maximum gain, against amplified hiss
MAX_CLIPPED = 0.01  # share of samples at full scale
EDGE_SEC = 0.005  # fade at both ends
FRAME_SEC = 0.05
QUIET_DB = -45.0  # relative to the loudest frame: threshold of leading silence
LEAD_SEC = 0.05  # kept before the first sound
EARLY_SEC = 0.03  # notes that start this little before the excerpt are included

FOLDER = Path(__file__).parent / "prompts_data"


@dataclass(frozen=True)
class Prompt:
    """The reference sound of a render.

    clip    AudioClip, mono, 32 kHz, 3 to 10 s, levelled
    notes   its notes and pedal, seconds from the clip's start; None if unknown
    name    name in menus
    credit  player, source and licence, to be displayed with its sound; "" for a visitor's own
    image   stereo image; None for a mono recording
    remarks  warnings, one sentence each; not part of its digest
    """

    clip: AudioClip
    notes: Performance | None = None
    name: str = ""
    credit: str = ""
    image: Image | None = None
    remarks: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.clip.sample_rate != SAMPLE_RATE:
            raise ValueError(f"a prompt has {SAMPLE_RATE} Hz, got {self.clip.sample_rate}; make it with prepare_prompt")
        if not SHORTEST_SEC - 1e-6 <= self.clip.duration_sec <= LONGEST_SEC + 1e-6:
            raise ValueError(f"a prompt lasts {SHORTEST_SEC:g} to {LONGEST_SEC:g} s, got {self.clip.duration_sec:.2f}")

    @property
    def digest(self) -> str:
        return digest(self)

    def with_notes(self, notes: Performance) -> Prompt:
        """The prompt with transcribed notes."""
        return replace(self, notes=notes, remarks=(*self.remarks, *remarks_on_notes(notes)))


def prepare_prompt(
    clip: AudioClip, start_sec: float = 0.0, seconds: float = 6.0, notes: Performance | None = None, name: str = "",
    credit: str = "",
) -> Prompt:  # fmt: skip
    """Cut, resample and level a recording into a Prompt.

    clip       AudioClip at 8 to 192 kHz; stereo is stored as mean and image
    start_sec  start of the excerpt, seconds; leading silence is removed if 3 s remain
    seconds    its length, 3 to 10; down to 3 at the end of the recording
    notes      notes of the whole recording, seconds from its start; cut like the sound

    Raises BadInput for an excerpt outside the recording, under 3 s, silent, mostly clipped, or not finite.
    """
    rate = clip.sample_rate
    if not np.isfinite([start_sec, seconds]).all() or not SHORTEST_SEC <= seconds <= LONGEST_SEC:
        raise BadInput(f"The excerpt is {seconds:g} s long; {SHORTEST_SEC:g} to {LONGEST_SEC:g} s are accepted.")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BadInput(f"This recording has {rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are read, save it at 44100.")
    if not np.isfinite(clip.samples).all():
        raise BadInput("This recording holds values that are not numbers; save it again as 16-bit WAV or FLAC.")
    if clip.duration_sec < SHORTEST_SEC:
        raise BadInput(
            f"This recording lasts {clip.duration_sec:.2f} s; a reference needs at least {SHORTEST_SEC:g} s, "
            "choose a longer one."
        )
    if not 0 <= start_sec <= clip.duration_sec - SHORTEST_SEC:
        latest = clip.duration_sec - SHORTEST_SEC
        raise BadInput(f"The excerpt begins at {start_sec:g} s; 0 to {latest:.1f} s is accepted for this recording.")
    whole, clip = clip, clip.mono()
    first = round(start_sec * rate)
    latest = max(first, len(clip.samples) - math.ceil(SHORTEST_SEC * rate))
    first = min(first + _waiting(clip.samples[first : first + round(seconds * rate)], rate), latest)
    excerpt = clip.samples[first : first + round(seconds * rate)]
    clipped = clipped_share(AudioClip(excerpt, rate))
    if clipped > MAX_CLIPPED:
        raise BadInput(
            f"{clipped:.0%} of this excerpt is clipped; choose another part, or record it again more softly."
        )
    made = resample(excerpt, rate, SAMPLE_RATE)[: round(LONGEST_SEC * SAMPLE_RATE)]
    samples = _faded(_levelled(made))
    prompt = Prompt(
        AudioClip(samples, SAMPLE_RATE), None, name, credit, image_of(whole, first, len(excerpt)),
        remarks_on_sound(excerpt, rate),
    )  # fmt: skip
    if notes is None:
        return prompt
    return prompt.with_notes(_cut(notes, first / rate, first / rate + len(samples) / SAMPLE_RATE))


def image_of(clip: AudioClip, first: int, count: int) -> Image | None:
    """The stereo image of `count` samples from `first` on; None for one channel."""
    if clip.channels == 1:
        return None
    left, right = (resample(c, clip.sample_rate, SAMPLE_RATE) for c in clip.samples[first : first + count].T)
    return measure_image(left, right)


def read_prompt(
    data: bytes, start_sec: float = 0.0, seconds: float = 6.0, notes: Performance | None = None, name: str = "",
    credit: str = "",
) -> Prompt:  # fmt: skip
    """A Prompt of the first minute of an untrusted sound file, see `engine.sound.clip.read_stereo`. Raises BadInput."""
    return prepare_prompt(read_stereo(data), start_sec, seconds, notes, name, credit)


def clipped_share(clip: AudioClip) -> float:
    """The share of samples that lie in runs of two or more at full scale, 0 to 1."""
    full = np.abs(clip.samples) >= 0.999
    runs = np.zeros(len(full) + 2, bool)
    runs[1:-1] = full
    return float((full & (runs[:-2] | runs[2:])).mean()) if len(full) else 0.0


def gallery() -> Mapping[str, Prompt]:
    """The prompts that come with Étude, by a short key; read once, the same objects each time.

    >>> prompt = gallery()["gymnopedie"]
    >>> prompt.clip.sample_rate, 3 <= prompt.clip.duration_sec <= 10, "Alciatore" in prompt.credit
    (32000, True, True)
    """
    return _gallery()


def about_gallery() -> dict[str, dict[str, Any]]:
    """Entries of prompts.json by prompt name: file, name, kind ("recording" or "sampled"), credit, notes, pedal."""
    path = FOLDER / "prompts.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@cache
def _gallery() -> Mapping[str, Prompt]:
    found = {}
    for key, about in about_gallery().items():
        clip = read_audio((FOLDER / about["file"]).read_bytes())
        on, length, pitch, velocity = np.array(about["notes"], float).reshape(-1, 4).T
        sec, value = np.array(about["pedal"], float).reshape(-1, 2).T
        notes = Performance(on, length, pitch, velocity, sec, value)
        image = Image(tuple(about["lean"]), tuple(about["width"])) if "lean" in about else None
        found[key] = Prompt(clip, notes, about["name"], about["credit"], image)
    return MappingProxyType(found)


def _frames_db(samples: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """(frames,) power of each FRAME_SEC, dBFS."""
    size = max(1, round(FRAME_SEC * rate))
    count = max(1, len(samples) // size)
    power = (samples[: count * size].astype(np.float64).reshape(count, -1) ** 2).mean(1)
    return 10 * np.log10(power + 1e-12)


def _waiting(samples: NDArray[np.float32], rate: int) -> int:
    """Samples of leading silence. Raises BadInput if all is silent."""
    if not len(samples) or np.abs(samples).max() < SILENCE:
        raise BadInput("This excerpt is silent (its peak is under -60 dBFS); choose a part with sound.")
    level = _frames_db(samples, rate)
    first = int(np.argmax(level > max(level.max() + QUIET_DB, -70.0)))
    return max(0, round((first * FRAME_SEC - LEAD_SEC) * rate))


def _levelled(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The excerpt at LEVEL_DB: gated, with peaks under PROMPT_MAX_PEAK."""
    samples = samples - samples.mean(dtype=np.float64)
    mean_db = sounding_db(_frames_db(samples, SAMPLE_RATE))
    gain = 10 ** (min(LEVEL_DB - mean_db, MAX_GAIN_DB) / 20)
    return (samples * min(gain, PROMPT_MAX_PEAK / np.abs(samples).max())).astype(np.float32)


def _faded(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    ramp = np.linspace(0, 1, round(EDGE_SEC * SAMPLE_RATE), dtype=np.float32)
    faded = samples.copy()
    faded[: len(ramp)] *= ramp
    faded[-len(ramp) :] *= ramp[::-1]
    return faded


def _cut(notes: Performance, start: float, end: float) -> Performance:
    """The notes that begin in [start, end), their keys released by the end, and the pedal, from `start` on."""
    on = notes.onset_sec - start
    inside = (on >= -EARLY_SEC) & (on < end - start)
    onset = np.maximum(on[inside], 0.0)
    until = np.minimum(on[inside] + notes.duration_sec[inside], end - start)
    order = np.lexsort((notes.pitch[inside], onset))
    before = np.searchsorted(notes.pedal_sec, start, side="right")
    within = slice(before, np.searchsorted(notes.pedal_sec, end, side="left"))
    held = [(0.0, int(notes.pedal_value[before - 1]))] if before else []
    pedal = [*held, *zip(notes.pedal_sec[within] - start, notes.pedal_value[within])]
    return Performance(
        onset[order], np.maximum(until - onset, 0.001)[order], notes.pitch[inside][order],
        notes.velocity[inside][order], [t for t, _ in pedal], [v for _, v in pedal],
    )  # fmt: skip
