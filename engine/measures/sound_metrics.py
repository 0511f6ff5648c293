"""Distances between sounds, and between a sound and its performance: the measures of MIDI-VALLE's evaluation.

The spectrogram and chroma errors are the published ones (nii-yamagishilab/score-to-audio, objective_eval), each beside
a corrected variant. Distances between sets of sounds: `engine.measures.frechet`; seams: `engine.measures.seams`; notes
heard in `engine.sound.transcribe`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from engine.music.types import AudioClip, BadInput, Performance
from engine.sound.chroma import chroma
from engine.sound.recording import resample
from engine.sound.spectra import level_db, log_mel, magnitude_blocks, magnitudes, semitone_bank

RATE = 32000
PAPER_RATE = 24000  # of the published spectrogram and chroma errors
FLOOR_DB = 80.0  # below the reference's loudest value, in the corrected variants


@dataclass(frozen=True)
class Distances:
    """A sound against its reference; see `distances`.

    nrmse, nrmse_corrected            spectrogram error, share
    chroma_mae, chroma_mae_corrected  chroma error, per strong chroma value of the reference
    mel_db                            mean difference of 80 mel bands up to 16 kHz, dB
    mel_low_db                        the same up to 4 kHz, the range of all compared codecs
    spectral_db                       log-spectral distance, dB
    si_sdr_db                         scale-invariant signal-to-distortion ratio, dB
    longer_sec                        length minus the reference's, seconds
    """

    nrmse: float
    nrmse_corrected: float
    chroma_mae: float
    chroma_mae_corrected: float
    mel_db: float
    mel_low_db: float
    spectral_db: float
    si_sdr_db: float
    longer_sec: float


def distances(reference: AudioClip, made: AudioClip) -> Distances:
    """Every distance of `made` from `reference`, over their common duration. Raises BadInput under half a second."""
    both = min(reference.duration_sec, made.duration_sec)
    if both < 0.5:
        raise BadInput(f"The two sounds share {both:.2f} s; at least 0.5 s are compared, choose longer ones.")
    low = [resample(c.samples, c.sample_rate, PAPER_RATE) for c in (reference, made)]
    full = [resample(c.samples, c.sample_rate, RATE) for c in (reference, made)]
    n = min(map(len, full))
    true, mine = full[0][:n], full[1][:n]
    return Distances(
        *nrmse(*low), *chroma_mae(*low), mel_distance(true, mine), mel_distance(true, mine, 4000.0),
        log_spectral_distance(true, mine), si_sdr(true, mine), made.duration_sec - reference.duration_sec,
    )  # fmt: skip


def spectrogram(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(frames, 128) the published spectrogram of sound at 24 kHz: semitone bands every 12 ms, dB minus 20.

    FFT 32,768 of a 50 ms Hann window, magnitudes, 20 log10(max(1e-5, .)) - 20.
    """
    bank = semitone_bank(PAPER_RATE, 32768)
    parts = [block @ bank for block in magnitude_blocks(samples, 1200, 288, 32768, 400)]
    return 20 * np.log10(np.maximum(np.concatenate(parts), 1e-5)) - 20


def nrmse(reference: NDArray[np.float32], made: NDArray[np.float32]) -> tuple[float, float]:
    """Spectrogram error sqrt(sum (T - G)^2 / sum T^2) of sounds at 24 kHz: (as published, corrected).

    As published T is in dB with an offset that makes silence -120: silence weighs most. Corrected, both are dB above a
    floor 80 dB under the reference's loudest value, so that silence is 0 and weighs nothing.
    """
    t, g = spectrogram(reference), spectrogram(made)
    n = min(len(t), len(g))
    t, g = t[:n].astype(np.float64), g[:n].astype(np.float64)
    floor = t.max() - FLOOR_DB
    return _relative_error(t, g), _relative_error(np.maximum(t - floor, 0), np.maximum(g - floor, 0))


def _relative_error(t: NDArray[np.float64], g: NDArray[np.float64]) -> float:
    return float(np.sqrt(((t - g) ** 2).sum() / (t**2).sum()))


def chroma_mae(reference: NDArray[np.float32], made: NDArray[np.float32]) -> tuple[float, float]:
    """Chroma error sum |T - G| / count(T > 0.3) of sounds at 24 kHz: (as published, corrected).

    As published the sum runs over the frames of both, the count over all of the reference's: a sound that stops early
    looks better. Corrected, both run over the frames of both. nan for a reference without a tone.
    """
    t, g = chroma(reference, PAPER_RATE), chroma(made, PAPER_RATE)
    n = min(t.shape[1], g.shape[1])
    t, g = np.clip(t, 0, 1), np.clip(g, 1e-5, 1 - 1e-5)
    off = np.abs(t[:, :n] - g[:, :n]).sum()
    strong, strong_in_both = int((t > 0.3).sum()), int((t[:, :n] > 0.3).sum())
    return float(off / strong) if strong else float("nan"), float(off / strong_in_both) if strong_in_both else float(
        "nan"
    )


def mel_distance(reference: NDArray[np.float32], made: NDArray[np.float32], highest_hz: float = 16000.0) -> float:
    """Mean |difference| of 80 mel bands (FFT 2048, hop 512) of sounds of one length at 32 kHz, dB; both floored 80 dB
    under the reference's loudest band."""
    a, b = (log_mel(s, RATE, 2048, 512, 80, 30.0, highest_hz, 1e-6) for s in (reference, made))
    floor = a.max() - FLOOR_DB
    return float(np.abs(np.maximum(a, floor) - np.maximum(b, floor)).mean())


def log_spectral_distance(reference: NDArray[np.float32], made: NDArray[np.float32]) -> float:
    """Mean over frames of the root mean square difference of power spectra in dB (FFT 2048, hop 512, 32 kHz); floored
    as in `mel_distance`."""
    a, b = (20 * np.log10(np.maximum(magnitudes(s, 2048, 512), 1e-7)) for s in (reference, made))
    floor = a.max() - FLOOR_DB
    return float(np.sqrt(((np.maximum(a, floor) - np.maximum(b, floor)) ** 2).mean(1)).mean())


def si_sdr(reference: NDArray[np.float32], made: NDArray[np.float32]) -> float:
    """Scale-invariant signal-to-distortion ratio of two sounds of one length, dB (Le Roux et al. 2019)."""
    t, g = (s.astype(np.float64) - s.mean(dtype=np.float64) for s in (reference, made))
    target = t * (t @ g) / max(t @ t, 1e-20)
    return float(10 * np.log10(max(target @ target, 1e-20) / max(((g - target) ** 2).sum(), 1e-20)))


def long_term_spectrum(clip: AudioClip, bands: int = 48) -> NDArray[np.float64]:
    """(bands,) mean level of mel bands from 40 Hz to 14 kHz over what sounds, dB, mean 0: timbre and room without
    loudness. Frames over 40 dB under the loudest do not count."""
    sound = resample(clip.samples, clip.sample_rate, RATE)
    table = log_mel(sound, RATE, 2048, 512, bands, 40.0, 14000.0, 1e-5).astype(np.float64)
    loud = 10 * np.log10((10 ** (table / 10)).mean(1))
    spectrum = 10 * np.log10((10 ** (table[loud > loud.max() - 40] / 10)).mean(0))
    return spectrum - spectrum.mean()


def spectrum_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Root mean square difference of two long-term spectra, dB."""
    return float(np.sqrt(((a - b) ** 2).mean()))


def decay_time(clip: AudioClip) -> float:
    """Decay time to -60 dB, seconds; nan without decays. Instrument, pedal and room.

    The median over monotonic decays of a quarter of a second or more and at least 3 dB.
    """
    level = level_db(clip.samples, clip.sample_rate)
    level = np.convolve(level, np.ones(3) / 3, "valid") if len(level) > 3 else level
    times, start = [], 0
    for i in range(1, len(level) + 1):
        if i == len(level) or level[i] > level[i - 1] + 0.1 or level[i] < level.max() - 50:
            fall = level[start] - level[i - 1]
            if i - start >= 13 and fall >= 3:
                slope = np.polyfit(np.arange(i - start) * 0.02, level[start:i], 1)[0]
                times.append(-60 / slope)
            start = i
    return float(np.median(times)) if times else float("nan")


def note_levels(clip: AudioClip, performance: Performance) -> NDArray[np.float64]:
    """(n,) level of each note's first partials just after its onset, dB; nan after the sound's end.

    The level of the first four partials (half a semitone around each) in the 120 ms from 10 ms after the onset on.
    """
    sound, rate = resample(clip.samples, clip.sample_rate, RATE), RATE
    size, window = 8192, int(0.12 * RATE)
    shape, hz = np.hanning(window), np.fft.rfftfreq(size, 1 / rate)
    levels = np.full(len(performance), np.nan)
    for i, (onset, pitch) in enumerate(zip(performance.onset_sec, performance.pitch, strict=True)):
        start = round((onset + 0.01) * rate)
        part = sound[max(start, 0) : start + window]
        if start < 0 or len(part) < window:
            continue
        power = np.abs(np.fft.rfft(part * shape, size)) ** 2
        partials = 440 * 2 ** ((pitch - 69) / 12) * np.arange(1, 5)
        reach = np.maximum(
            partials * 0.0293, 1.5 * rate / window
        )  # a bass semitone is narrower than the window's resolution
        near = (np.abs(hz[:, None] - partials) < reach).any(1)
        levels[i] = 10 * np.log10(power[near].sum() + 1e-12)
    return levels


def loudness_follows_velocity(clip: AudioClip, performance: Performance) -> float:
    """Partial Spearman correlation of each note's loudness with its velocity, controlled for pitch. Loudness is
    `note_levels`; a quadratic in pitch is subtracted from it and from the velocities, and the residuals are ranked. nan
    under eight notes or for a constant velocity. Single notes on a sampled piano give 0.95 and more, music 0.5 to 0.8,
    because sounding notes mask new ones. Compare with a sampler's figure for the same performance, or with
    `velocity_scale`.
    """
    level = note_levels(clip, performance)
    heard = np.isfinite(level)
    if heard.sum() < 8 or performance.velocity[heard].std() == 0:
        return float("nan")
    pitch = (performance.pitch[heard] - 64.0) / 24
    basis = np.stack([np.ones_like(pitch), pitch, pitch**2], 1)

    def rest(values: NDArray) -> NDArray:
        return values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]

    return float(spearmanr(rest(level[heard]), rest(performance.velocity[heard].astype(float)))[0])


def velocity_scale(notes: int = 24, step_sec: float = 0.7) -> Performance:
    """Single notes from C2 to C7 with velocities, 20 to 120, independent of pitch: the control test of
    `loudness_follows_velocity`."""
    order = np.random.default_rng(0).permutation(notes)
    velocity = np.round(np.linspace(20, 120, notes))[order]
    pitch = np.round(np.linspace(36, 96, notes))
    return Performance(0.2 + step_sec * np.arange(notes), np.full(notes, 0.75 * step_sec), pitch, velocity)


def notes_with_offset_and_velocity(reference: Performance, estimate: Performance) -> tuple[float, float]:
    """F1 of transcribed notes with matching offset (20 % of the note, at least 50 ms), and with matching velocity
    (within 0.1 after the best line, mir_eval's rule); onsets within 50 ms."""
    from mir_eval import transcription, transcription_velocity

    if not len(reference) or not len(estimate):
        return 0.0, 0.0
    tables = []
    for p in (reference, estimate):
        onset = np.maximum(p.onset_sec, 0)
        span = np.stack([onset, onset + np.maximum(p.duration_sec, 1e-3)], 1)
        tables += [span, 440 * 2 ** ((p.pitch.astype(float) - 69) / 12)]
    with_offset = transcription.precision_recall_f1_overlap(*tables)[2]
    spans = tables[0], tables[1], reference.velocity, tables[2], tables[3], estimate.velocity
    with_velocity = transcription_velocity.precision_recall_f1_overlap(*spans, offset_ratio=None)[2]
    return float(with_offset), float(with_velocity)
