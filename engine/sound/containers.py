"""Sound in the containers of phones and browsers (m4a, mp4, webm, AAC), decoded by FFmpeg through PyAV."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from engine.music.types import BadInput

HEAD = 12  # bytes that identify the container
EBML = b"\x1aE\xdf\xa3"
ADTS = (b"\xff\xf1", b"\xff\xf9")
CODECS = {"aac", "alac", "opus", "vorbis", "mp3", "mp3float", "flac", "pcm_s16le", "pcm_s16be", "pcm_f32le"}
Check = Callable[[int, int], None]
Decoded = tuple[NDArray[np.float32], int]
DAMAGED = "This recording is damaged or of an unknown kind; save it as WAV, FLAC, AIFF, M4A, WebM, OGG or MP3."


def demuxer(head: bytes) -> str:
    """FFmpeg's name of the container with these first bytes; "" for an unsupported one.

    >>> demuxer(b"\\x00\\x00\\x00\\x1cftypM4A "), demuxer(b"RIFF....WAVE")
    ('mp4', '')
    """
    if head[4:8] == b"ftyp":
        return "mp4"
    if head.startswith(EBML):
        return "matroska"
    return "aac" if head.startswith(ADTS) else ""


def decode(source: BinaryIO | Path, kind: str, start_sec: float, seconds: float, accept: Check) -> Decoded:
    """The first audio track, unchanged: (num_samples, channels) and Hz.

    kind     from `demuxer`; no other demuxer is tried, so nothing outside the file is opened
    seconds  the most that is read from `start_sec` on
    accept   called with rate and channels before anything is decoded; raises BadInput to refuse

    Raises BadInput for a damaged file, one without sound and a codec that is not in CODECS.
    """
    import av

    try:
        with av.open(source if not isinstance(source, Path) else str(source), format=kind) as file:
            if not file.streams.audio:
                raise BadInput("This file has no sound in it; choose a recording.")
            context = file.streams.audio[0].codec_context
            if context.name not in CODECS:
                raise BadInput(f"The sound of this recording is coded as {context.name}; save it as WAV, FLAC or M4A.")
            rate, channels = context.sample_rate, context.channels
            accept(rate, channels)
            first, last = round(start_sec * rate), round((start_sec + seconds) * rate)
            plain, parts, passed = av.AudioResampler(format="fltp", layout=context.layout, rate=rate), [], 0
            for frame in file.decode(audio=0):
                for same in plain.resample(frame):
                    sound = same.to_ndarray().T
                    parts.append(sound[max(0, first - passed) : max(0, last - passed)])
                    passed += len(sound)
                if passed >= last:
                    break
    except (av.FFmpegError, ValueError, OSError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(DAMAGED) from error
    return (np.concatenate(parts) if parts else np.zeros((0, channels), np.float32)), rate
