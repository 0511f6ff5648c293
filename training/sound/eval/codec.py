"""Fidelity of the codec on held-out piano music, relative to the original, beside Opus and Lyra v2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.measures.sound_metrics import Distances, distances
from engine.music.types import AudioClip, BadInput, Performance
from engine.sound.players import levelled
from engine.sound.transcribe import note_f1
from engine.tokens.note_frames import note_frames
from training.sound.eval.material import CALM, DENSE, RATE, Material, ReportTable, hear_all, lyra, opus

FIELDS = ("mel_db", "mel_low_db", "spectral_db", "si_sdr_db", "nrmse", "nrmse_corrected", "chroma_mae_corrected")
NAMES = ("mel, dB", "mel to 4 kHz", "log spectrum, dB", "SI-SDR, dB", "NRMSE", "corrected", "chroma MAE")
COLUMNS = ("system", "kbit/s", "F1 calm", "F1 dense", *NAMES)
STARTS = {CALM[0]: 20.0, CALM[1]: 30.0, DENSE[0]: 15.0, DENSE[1]: 20.0}


def through(codec: Any, clip: AudioClip, codebooks: int | None = None, notes: Performance | None = None) -> AudioClip:
    """A clip encoded and decoded with the first `codebooks` codebooks; with the notes, if the codec accepts them."""
    with torch.inference_mode():
        codes = codec.encode(torch.from_numpy(np.array(clip.samples))[None])
        codes = codes if codebooks is None else codes[:, :codebooks]
        if notes is None:
            sound = codec.decode(codes)
        else:
            frames = note_frames(notes, codec.sample_rate / codec.hop_length, 0, codes.shape[-1])
            sound = codec.decode(codes, torch.from_numpy(frames)[None])
    return AudioClip(sound[0].numpy()[: len(clip.samples)], clip.sample_rate)


def code_use(codec: Any, clips: list[AudioClip]) -> list[tuple[float, float]]:
    """For each codebook: share of its entries used by these sounds, and their perplexity over its size."""
    counts = np.zeros((codec.num_codebooks, codec.codebook_size))
    for clip in clips:
        with torch.inference_mode():
            codes = codec.encode(torch.from_numpy(np.array(clip.samples))[None])[0].numpy()
        for codebook, row in zip(counts, codes, strict=True):
            codebook += np.bincount(row, minlength=len(codebook))
    share = counts / counts.sum(1, keepdims=True)
    spread = np.exp(-(share * np.log(np.maximum(share, 1e-12))).sum(1)) / codec.codebook_size
    return [(float((row > 0).mean()), float(s)) for row, s in zip(counts, spread, strict=True)]


def codec_table(
    material: Material, codec: Any, seconds: float, others: dict[str, Any], quick: bool, say: Callable[[str], None]
) -> ReportTable:
    """The codec's table: `seconds` of each of two calm and two dense held-out recordings.

    others  further codecs with the same interface, by name
    quick   without the shallower depths and Lyra
    """
    names = (*CALM, *DENSE)
    pairs = [material.real(name, STARTS[name], seconds) for name in names]
    clips, notes = [levelled(c) for c, _ in pairs], [n for _, n in pairs]
    per_codebook = float(np.log2(codec.codebook_size) * codec.sample_rate / codec.hop_length / 1000)
    systems: dict[str, tuple[float, list[AudioClip]]] = {"original": (512.0, clips)}
    codebooks = codec.num_codebooks
    systems["ours"] = (codebooks * per_codebook, [through(codec, c) for c in clips])
    if hasattr(codec, "encode_notes"):
        told = [through(codec, c, None, n) for c, n in zip(clips, notes, strict=True)]
        systems["ours, given the notes"] = (codebooks * per_codebook, told)
    for name, other in others.items():
        systems[name] = (other.num_codebooks * per_codebook, [through(other, c) for c in clips])
    coded = [opus(c) for c in clips]
    systems["Opus, its lowest rate"] = (float(np.mean([rate for _, rate in coded])), [c for c, _ in coded])
    remarks = [
        "F1: notes that the transcriber finds in the sound, against those that it finds in the original (50 ms)."
    ]
    if not quick:
        for depth in (1, 2):
            systems[f"ours, {depth} of {codebooks} books"] = (
                depth * per_codebook,
                [through(codec, c, depth) for c in clips],
            )
        try:
            folder = material.data / "baselines" / "lyra"
            systems["Lyra v2, same rate"] = (2.2, [lyra(c, folder) for c in clips])
        except BadInput as error:
            remarks.append(f"Without Lyra: {error}")
    rows, heard_in_original = [], []
    for name, (rate, sounds) in systems.items():
        say(f"codec: {name}")
        heard = hear_all(sounds)
        heard_in_original = heard_in_original or heard
        f1 = [note_f1(a, b)[2] for a, b in zip(heard_in_original, heard, strict=True)]
        found = [distances(c, s) for c, s in zip(clips, sounds, strict=True)] if name != "original" else []
        rows.append([name, rate, np.mean(f1[:2]), np.mean(f1[2:]), *_means(found)])
    return ReportTable("Codec on held-out recordings", COLUMNS, rows, remarks)


def use_table(material: Material, codec: Any, quick: bool) -> ReportTable:
    """Use of each codebook by held-out music."""
    clips = _much_sound(material, quick)
    rows = [[f"codebook {k + 1}", share, spread] for k, (share, spread) in enumerate(code_use(codec, clips))]
    minutes = sum(c.duration_sec for c in clips) / 60
    return ReportTable(
        f"Code use in {minutes:.0f} minutes of held-out music", ("", "entries used", "perplexity / size"), rows
    )


def _means(found: list[Distances]) -> list[float | str]:
    return [float(np.mean([getattr(d, f) for d in found])) if found else "-" for f in FIELDS]


def _much_sound(material: Material, quick: bool) -> list[AudioClip]:
    """Minutes of held-out music, so that rare codes have a chance to be used."""
    length = 20.0 if quick else 80.0
    clips = [levelled(material.real(name, 0.0, length)[0]) for name in (*CALM, *DENSE)]
    for player in material.unseen_pianos().values():
        clips += [levelled(player(p)) for p in material.performances(1 if quick else 6, 20.0, seed=4)]
    return clips


def save_sounds(folder: Path, clips: dict[str, AudioClip]) -> None:
    """Write sounds to listen to, as FLAC."""
    from engine.sound.clip import encode_audio

    folder.mkdir(parents=True, exist_ok=True)
    for name, clip in clips.items():
        plain = "".join(ch if ch.isalnum() else "-" for ch in name)
        (folder / f"{plain}.flac").write_bytes(encode_audio(AudioClip(clip.samples, RATE), "flac"))
