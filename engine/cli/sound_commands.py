"""`etude render` and `etude codec`: render with a reference's sound; encode and decode a recording."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.cli.progress import CommandProgress
from engine.files import check_input, check_output, open_performance_file, read_input, write_output
from engine.limits import MAX_SEED
from engine.music.types import AudioClip, BadInput

if TYPE_CHECKING:
    from engine.sound.prompts import Prompt

KINDS = ("wav", "flac")
MAX_CODED_SEC = 900.0


def add_commands(add: Any) -> None:
    """Add both commands to the parser; `add` is that of `parser.build_parser`."""
    p = add("render", render, "Render a performance with the sound of a reference recording.")
    p.add_argument("performance", type=Path, metavar="PERF.mid")
    p.add_argument(
        "--prompt", required=True, metavar="REF.wav",
        help="a sound file with 3 to 10 s of piano, or the name of a gallery recording, see below",
    )  # fmt: skip
    p.add_argument("--prompt-midi", type=Path, metavar="REF.mid", help="MIDI of REF.wav")
    p.add_argument("--prompt-start", type=float, default=0.0, metavar="SEC", help="start of the excerpt of REF.wav")
    p.add_argument("--prompt-seconds", type=float, default=6.0, metavar="SEC", help="its length, 3 to 10 (default 6)")
    p.add_argument("--transcribe", action="store_true", help="transcribe REF.wav first")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.wav", help="WAV or FLAC")
    p.add_argument(
        "--from", dest="start", type=float, default=0.0, metavar="SEC", help="render a part of the piece only"
    )
    p.add_argument("--to", dest="end", type=float, metavar="SEC")
    p.add_argument(
        "--method", "--profile", dest="profile", default="fitted",
        choices=("fitted", "product", "paper", "physical", "ddsp"),
        help="fitted: a sampled piano fitted to the reference (default); product: Étude's codec model; paper: "
        "MIDI-VALLE as published, if its weights were imported; physical: modal strings in the reference's room; "
        "ddsp: DDSP-Piano in it",
    )  # fmt: skip
    p.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="sampling temperature, 0 to 1.5 (default 1)"
    )
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same sound (default 0)")
    p.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="models to use instead of the repository's")

    p = add("codec", codec, "Encode and decode a recording with the piano codec.")
    p.add_argument("recording", type=Path, metavar="IN.wav", help="WAV, FLAC, AIFF, M4A, WebM, OGG or MP3")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.wav", help="WAV or FLAC")
    p.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="models to use instead of the repository's")


def sound_kind(path: Path) -> str:
    """wav or flac, from an output's name. Raises BadInput."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in KINDS:
        raise BadInput(f'"{path.name}" is not a supported sound format; end it with .wav or .flac.')
    return kind


def wanted_prompt(arguments: argparse.Namespace) -> Prompt:
    """The prompt of --prompt: a file, or one of the gallery. Raises BadInput."""
    from engine.sound.prompts import gallery, read_prompt

    named, path = arguments.prompt, Path(arguments.prompt)
    known = gallery()
    if named in known and not path.exists():
        if arguments.prompt_midi is not None:
            raise BadInput(f"The notes of {named} are known; leave --prompt-midi out, or give --prompt a file.")
        return known[named]
    if not path.exists():
        raise BadInput(f"There is no file {named}; name a recording, or one of {', '.join(known)}.")
    notes = open_performance_file(arguments.prompt_midi) if arguments.prompt_midi is not None else None
    return read_prompt(read_input(path), arguments.prompt_start, arguments.prompt_seconds, notes, path.name)


def render(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    out = arguments.output
    kind = sound_kind(out)
    named = [Path(arguments.prompt), *([arguments.prompt_midi] if arguments.prompt_midi else [])]
    check_output(out, [arguments.performance, *named])
    if not 0 <= arguments.seed <= MAX_SEED:
        raise BadInput(f"The seed is {arguments.seed}; 0 to {MAX_SEED} is accepted.")
    if arguments.start < 0 or (arguments.end is not None and arguments.end <= arguments.start):
        raise BadInput("The part to render ends before it begins; --from is at least 0 and --to is later.")
    progress.stage("Reading")
    performance = open_performance_file(arguments.performance)
    prompt = wanted_prompt(arguments)
    progress.stage("Loading")
    from engine.engine import Engine
    from engine.render.provenance import describe_render
    from engine.requests import RenderRequest
    from engine.sound.clip import encode_audio

    engine = Engine.load(arguments.checkpoints)
    request = RenderRequest(
        performance, prompt, arguments.seed, arguments.temperature, (arguments.start, arguments.end),
        profile=arguments.profile, transcribe=arguments.transcribe,
    )  # fmt: skip
    if request.needs_transcription:
        progress.stage("Listening")
        request = request.with_prompt_notes(engine.transcribe(prompt.clip, progress=progress.share))
    for remark in request.prompt.remarks:
        progress.note(remark)
    progress.stage("Rendering")
    clip = engine.render(request, progress=progress.share)
    weights = engine.weights(arguments.profile)
    comment = describe_render(request, weights, piece=arguments.performance.stem)
    write_output(out, encode_audio(clip, kind, comment))
    return {
        "output": str(out), "prompt": prompt.name, "credit": prompt.credit, "profile": arguments.profile,
        "weights": weights, "notes": len(performance), "duration_sec": round(clip.duration_sec, 3),
        "sample_rate": clip.sample_rate, "channels": clip.channels, "render_seed": arguments.seed,
    }  # fmt: skip


def codec(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    from engine.sound.clip import encode_audio
    from engine.sound.recording import read_recording
    from engine.sound.spectra import level_gain

    out = arguments.output
    kind = sound_kind(out)
    check_output(out, [arguments.recording])
    check_input(arguments.recording)
    progress.stage("Loading")
    import torch  # imported here, so that argument errors come first

    from engine.engine import Engine

    model = Engine.load(arguments.checkpoints).codec.model
    progress.stage("Reading")
    clip = read_recording(arguments.recording, model.sample_rate)
    if clip.duration_sec > MAX_CODED_SEC:
        raise BadInput(
            f"{arguments.recording.name} lasts {clip.duration_sec / 60:.0f} minutes; up to "
            f"{MAX_CODED_SEC / 60:.0f} are coded at once, cut it."
        )
    samples = np.array(clip.samples)
    frames = -(-len(samples) // model.hop_length)
    gain = np.float32(level_gain(samples, model.sample_rate))  # normalises the level before encoding
    padded = np.pad(gain * samples, (0, frames * model.hop_length - len(samples)))
    progress.stage("Encoding")
    with torch.inference_mode():
        codes = model.encode(torch.from_numpy(padded)[None], progress=progress.share)
        progress.stage("Decoding")
        back = model.decode(codes, progress=progress.share)[0, : len(samples)].numpy() / gain
    made = AudioClip(np.clip(back, -1, 1), model.sample_rate)
    write_output(out, encode_audio(made, kind))
    seconds = max(made.duration_sec, 1e-9)
    bits = codes.numel() * np.log2(model.codebook_size)
    return {
        "output": str(out), "codes": list(codes.shape[1:]), "kbit_per_sec": round(float(bits / seconds / 1000), 3),
        "duration_sec": round(made.duration_sec, 3), "sample_rate": made.sample_rate,
    }  # fmt: skip
