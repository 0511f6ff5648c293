"""Make the prompts of engine/sound/prompts_data from licensed recordings and from the preview pianos.

    python -m training.assets.build_prompts --audio AUDIO

AUDIO holds real/ with the recordings and real_midi/ with their transcriptions, under the same names. The sampled
prompts are the same bars on each preview piano, so that they differ in the piano only.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.engine import Engine
from engine.music.io.midi import read_midi_performance
from engine.music.types import Performance
from engine.requests import PerformRequest
from engine.sound.clip import encode_audio, read_stereo
from engine.sound.preview import PIANOS
from engine.sound.prompts import FOLDER, LONGEST_SEC, Prompt, prepare_prompt
from engine.untrusted.scores import open_score

ISHIZAKA = "Kimiko Ishizaka, Open Well-Tempered Clavier, CC0 1.0"
PLAYED = Path(__file__).parents[2] / "examples" / "chopin-prelude-op-28-7.krn"


@dataclass(frozen=True)
class Excerpt:
    """Ten seconds of a recording that begin at a first note out of near silence.

    start_sec  just before that note, seconds of the recording
    """

    key: str
    recording: str
    start_sec: float
    name: str
    credit: str


EXCERPTS = (
    Excerpt(
        "gymnopedie", "satie_gymnopedie1_alciatore", 42.83, "Grand, calm (Satie)",
        "Robin Alciatore, Musopen, public domain",
    ),
    Excerpt(
        "prelude-c", "bach_wtc1_prelude01_bwv846_ishizaka", 1.37, "Grand, near (Bach)", ISHIZAKA
    ),
    Excerpt(
        "prelude-d", "bach_wtc1_prelude05_bwv850_ishizaka", 0.86, "Grand, quick (Bach)", ISHIZAKA
    ),
    Excerpt(
        "fugue-c-sharp", "bach_wtc1_fugue04_bwv849_ishizaka", 43.78, "Grand, full (Bach fugue)",
        ISHIZAKA,
    ),
    Excerpt(
        "goldberg", "bach_goldberg_excerpt_ishizaka", 0.26, "Concert grand, bright (Goldberg)",
        "Kimiko Ishizaka, Open Goldberg Variations, CC0 1.0",
    ),
)  # fmt: skip
SAMPLED = ("grand", "upright", "player")


def recorded(audio: Path, excerpt: Excerpt) -> Prompt:
    """A prompt from a recording and its transcription; the first minute of both."""
    clip = read_stereo((audio / "real" / f"{excerpt.recording}.ogg").read_bytes())
    heard = read_midi_performance((audio / "real_midi" / f"{excerpt.recording}.mid").read_bytes())
    return prepare_prompt(clip, excerpt.start_sec, LONGEST_SEC, heard, excerpt.name, excerpt.credit)


def sampled(engine: Engine, performance: Performance, piano: str) -> Prompt:
    """The first bars of a performance on a preview piano."""
    about = PIANOS[piano]
    clip = engine.preview(performance, piano)
    return prepare_prompt(clip, 0.0, LONGEST_SEC, performance, f"{about.label}, sampled", about.credit)


def described(prompt: Prompt, kind: str, file: str) -> dict[str, Any]:
    """Entry of a prompt in prompts.json; times are rounded to milliseconds."""
    notes = prompt.notes
    assert notes is not None
    columns = (notes.onset_sec.round(3), notes.duration_sec.round(3), notes.pitch, notes.velocity)
    return {
        "file": file, "name": prompt.name, "kind": kind, "credit": prompt.credit,
        "notes": [list(row) for row in zip(*(c.tolist() for c in columns), strict=True)],
        "pedal": [list(row) for row in zip(notes.pedal_sec.round(3).tolist(), notes.pedal_value.tolist(), strict=True)],
        **({} if prompt.image is None else {"lean": prompt.image.lean, "width": prompt.image.width}),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--audio", type=Path, required=True, help="holds real/ and real_midi/")
    parser.add_argument("--out", type=Path, default=FOLDER)
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    engine = Engine.load()
    played = engine.perform(PerformRequest(open_score(PLAYED.read_bytes(), PLAYED.name)))
    made = {e.key: ("recording", recorded(chosen.audio, e)) for e in EXCERPTS}
    made |= {f"sampled-{piano}": ("sampled", sampled(engine, played, piano)) for piano in SAMPLED}
    index = {}
    for key, (kind, prompt) in made.items():
        file = f"{key}.flac"
        (chosen.out / file).write_bytes(encode_audio(prompt.clip, "flac", f"{prompt.name}. {prompt.credit}"))
        index[key] = described(prompt, kind, file)
        peak, length = float(np.abs(prompt.clip.samples).max()), prompt.clip.duration_sec
        print(f"{key:16} {length:5.2f} s, {len(index[key]['notes']):3} notes, peak {peak:.2f}", flush=True)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(about, ensure_ascii=False)}" for key, about in index.items())
    (chosen.out / "prompts.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
