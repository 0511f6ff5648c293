"""Measures of sound on sounds with known answers, Fréchet distances of known Gaussians, the modal piano's physics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.cli.etude import main
from engine.measures.frechet import codec_latent, frechet, frechet_at_infinity, log_mel_statistics
from engine.measures.musicnn import Musicnn, log_mel
from engine.measures.seams import auc, seam_test
from engine.measures.sound_evaluation import pairs, sound_files
from engine.measures.sound_metrics import (
    chroma_mae,
    decay_time,
    distances,
    long_term_spectrum,
    loudness_follows_velocity,
    mel_distance,
    notes_with_offset_and_velocity,
    nrmse,
    si_sdr,
    spectrogram,
    spectrum_distance,
    velocity_scale,
)
from engine.models.codec.piano_codec import CodecConfig, PianoCodec
from engine.music.types import AudioClip, BadInput, Performance
from engine.sound.chroma import chroma, tuning
from engine.sound.clip import encode_audio
from engine.sound.modal import play_strings, strings
from engine.sound.players import levelled, players
from engine.sound.spectra import level_db, semitone_bank
from engine.sound.spectra import log_mel as mel_levels

# librosa 0.11.0, feature.chroma_cqt at 24 kHz, frame 20 of the sound that `chord` makes
LIBROSA_FRAME = (1.0, 0.0484, 0.0226, 0.0264, 0.4582, 0.0215, 0.0136, 0.2316, 0.0091, 0.0025, 0.0015, 0.0178)
LIBROSA_TUNING = 0.12


def chord() -> NDArray[np.float32]:
    """One second at 24 kHz: C3 E3 G3 C4 E5, each weaker than the one before, 5 cents sharp, dying away."""
    t = np.arange(24000) / 24000
    tones = [
        np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * t * 1.003) / k for k, p in enumerate((48, 52, 55, 60, 76), 1)
    ]
    return (0.2 * sum(tones) * np.exp(-3 * t)).astype(np.float32)


def noise(seconds: float, seed: int = 0, rate: int = 32000) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate)).astype(np.float32)


def test_chroma_is_that_of_librosa() -> None:
    assert chroma(chord(), 24000)[:, 20] == pytest.approx(LIBROSA_FRAME, abs=0.01)
    assert tuning(chord(), 24000) == pytest.approx(LIBROSA_TUNING, abs=0.011)
    assert tuning(np.zeros(24000, np.float32), 24000) == 0.0


def test_published_errors_by_their_formulas() -> None:
    a, b = chord(), 0.5 * chord()
    assert nrmse(a, a) == (0.0, 0.0)
    t, g = spectrogram(a), spectrogram(b)
    assert t.shape == (24000 // 288 + 1, 128)
    loud = t > -80
    assert (t - g)[loud] == pytest.approx(np.full(loud.sum(), 6.02), abs=0.05)  # half as loud, in dB
    assert nrmse(a, b)[0] == pytest.approx(np.sqrt(((t - g) ** 2).sum() / (t**2).sum()), rel=1e-4)
    assert chroma_mae(a, a)[0] == pytest.approx(0, abs=1e-4)
    assert chroma_mae(a, b)[1] < 0.01  # chroma has no loudness
    short = a[:12000]  # stopping early looks better as published, not corrected
    published, corrected = chroma_mae(a, short)
    assert published < corrected


def test_semitone_bank_has_the_published_shape() -> None:
    bank = semitone_bank(24000, 32768)
    assert bank.shape == (16385, 128)
    hz = np.arange(16385) * 24000 / 32768
    for number in (60, 69, 100):
        centre, low, high = (440 * 2 ** ((n - 69) / 12) for n in (number, number - 1, number + 1))
        assert hz[bank[:, number].argmax()] == pytest.approx(centre, abs=0.5)
        assert bank[:, number].max() == pytest.approx(1 / (high - low), rel=0.1)
        assert not bank[(hz < low) | (hz > high), number].any()
    assert np.allclose(bank[:, 127], 1 / 16385)


def test_distances_of_noise_and_silence() -> None:
    a = noise(1.0)
    assert si_sdr(a, 0.3 * a) > 80  # scale does not count
    assert si_sdr(a, a + noise(1.0, 1)) == pytest.approx(0, abs=0.3)  # as much distortion as signal
    assert mel_distance(a, 0.1 * a) == pytest.approx(20, abs=0.1)
    half = AudioClip(a[:24000], 32000)
    found = distances(AudioClip(a, 32000), half)
    assert found.longer_sec == pytest.approx(-0.25)
    with pytest.raises(BadInput, match=r"at least 0\.5 s"):
        distances(half, AudioClip(a[:3000], 32000))


def test_blocks_of_long_sounds_join() -> None:
    """Spectra are made in blocks: the same frames as of a sound that fits in one."""
    sound = noise(45.0, rate=16000)
    whole = mel_levels(sound, 16000, 400, 160, 20)
    assert len(whole) == 45 * 100 + 1
    late = mel_levels(sound[160 * 3000 :], 16000, 400, 160, 20)
    assert whole[3010:4400] == pytest.approx(late[10:1400], abs=1e-3)


def test_decay_and_spectrum() -> None:
    t = np.arange(4 * 32000) / 32000
    ring = AudioClip((0.5 * np.sin(2 * np.pi * 440 * t) * 10 ** (-3 * (t % 2) / 2.5)).astype(np.float32), 32000)
    assert decay_time(ring) == pytest.approx(2.5, rel=0.05)
    assert np.isnan(decay_time(AudioClip(noise(1.0), 32000)))
    a, dull = noise(2.0), np.convolve(noise(2.0, 1), np.ones(8) / 8).astype(np.float32)
    white, other, low = (long_term_spectrum(AudioClip(x, 32000)) for x in (a, 0.2 * noise(2.0, 2), dull))
    assert spectrum_distance(white, other) < 1 < 5 < spectrum_distance(white, low)


def test_frechet_of_known_gaussians() -> None:
    """Two Gaussians of equal shape are apart by their means; of deviation 1 and 2, by 1 a dimension."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (6000, 4)), rng.normal((3, 0, 0, 0), 1, (6000, 4))
    assert frechet(a, b) == pytest.approx(9, rel=0.05)
    assert frechet(a, 2 * a) == pytest.approx(4, rel=0.05)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    with pytest.raises(BadInput, match="at least 16"):
        frechet(a[:10], b)


def test_extrapolation_takes_the_bias_out() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (200, 30)), rng.normal(0, 1, (200, 30))
    assert abs(frechet_at_infinity(a, b)) < 0.35 * frechet(a, b)


def test_musicnn_is_a_function_of_its_weights(tmp_path: Path) -> None:
    """With random weights of the right shapes: features come, and differ between sounds; a wrong file is refused."""
    rng = np.random.default_rng(0)
    values: dict[str, NDArray] = {}

    def norm(i: int, size: int) -> None:
        name = "batch_normalization" + (f"_{i}" if i else "")
        for key, value in (("moving_mean", 0.0), ("moving_variance", 1.0), ("gamma", 1.0), ("beta", 0.0)):
            values[f"{name}|{key}"] = np.full(size, value, np.float32)

    def conv(i: int, shape: tuple[int, ...]) -> None:
        name = "conv2d" + (f"_{i}" if i else "")
        values[f"{name}|kernel"] = rng.normal(0, 0.1, shape).astype(np.float32)
        values[f"{name}|bias"] = np.zeros(shape[-1], np.float32)

    norm(0, 1)
    shapes = ((7, 86, 1, 204), (7, 38, 1, 204), (128, 1, 1, 51), (64, 1, 1, 51), (32, 1, 1, 51),
              (7, 561, 1, 64), (7, 64, 1, 64), (7, 64, 1, 64))  # fmt: skip
    for i, shape in enumerate(shapes):
        conv(i, shape)
        norm(i + 1, shape[-1])
    norm(9, 2 * 753)
    norm(10, 200)
    for name, shape in (("dense", (1506, 200)), ("dense_1", (200, 50))):
        values[f"{name}|kernel"] = rng.normal(0, 0.03, shape).astype(np.float32)
        values[f"{name}|bias"] = np.zeros(shape[1], np.float32)
    path = tmp_path / "musicnn.npz"
    np.savez(path, **values)
    found = Musicnn(path).features(np.concatenate([noise(3.0, rate=16000), np.zeros(48000, np.float32)]))
    assert found.shape == (5, 200)
    assert np.abs(found[0] - found[-1]).max() > 0.01
    assert log_mel(np.zeros(16000, np.float32)).abs().max() == 0
    (tmp_path / "other.npz").write_bytes(b"not weights")
    with pytest.raises(BadInput, match="musicnn"):
        Musicnn(tmp_path / "other.npz")


def test_embeddings_have_one_row_a_patch() -> None:
    clip = AudioClip(noise(4.0), 32000)
    assert log_mel_statistics(clip).shape == (7, 128)
    codec = PianoCodec(CodecConfig(32, 1, 3, 32, 1, 3, 16, 4, 64)).eval()
    assert codec_latent(codec)(clip).shape == (200, 16)


def test_clicks_and_steps_at_seams_are_detected() -> None:
    """Noise with a jump at every seam is distinguished from noise without."""
    sound, at = noise(60.0), np.arange(1, 58) * 1.0
    plain = seam_test(AudioClip(sound, 32000), at)
    assert 0.35 < plain.together < 0.65
    assert plain.rare < 0.15
    for sec in at:
        sound[int(sec * 32000)] += 2.0
        sound[int(sec * 32000) : int((sec + 0.15) * 32000)] *= 3
    marred = seam_test(AudioClip(sound, 32000), at)
    assert marred.auc["click"] > 0.95
    assert marred.rare > 0.7
    assert marred.auc["loudness step"] > 0.95
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == 0.875
    with pytest.raises(BadInput, match="at least 5"):
        seam_test(AudioClip(sound, 32000), at[:3])


def test_the_modal_piano_follows_onsets_and_velocities() -> None:
    scale = velocity_scale()
    assert loudness_follows_velocity(play_strings(scale), scale) > 0.8
    levels = []
    for velocity in (20, 60, 100, 127):  # louder and brighter with every blow
        clip = play_strings(Performance([0.1], [0.5], [60], [velocity]))
        spectrum = np.abs(np.fft.rfft(clip.samples[3200:19200]))
        hz = np.arange(len(spectrum)) * 2
        levels.append((level_db(clip.samples, 32000).max(), (spectrum * hz[: len(spectrum)]).sum() / spectrum.sum()))
        partial = hz[spectrum.argmax()] / 261.63
        assert partial == pytest.approx(round(partial), abs=0.03)
    assert levels == sorted(levels)
    assert [b for _, b in levels] == sorted(b for _, b in levels)


def test_the_modal_piano_has_pedal_tuning_and_dampers() -> None:
    def late(pedal: Performance) -> float:
        return level_db(play_strings(pedal, 3.0).samples, 32000)[75:100].mean()  # 1.5 to 2 s

    plain = Performance([0.1], [0.3], [48], [80])
    held = Performance([0.1], [0.3], [48], [80], [0.0, 2.5], [127, 0])
    assert late(held) > late(plain) + 25
    assert late(Performance([0.1], [0.3], [100], [80])) > late(Performance([0.1], [0.3], [84], [80]))  # no damper
    hz = strings(69)[0]
    assert pytest.approx(hz[np.abs(hz - 440).argmin()], rel=1e-3) == 440
    assert len(play_strings(Performance([], [], [], [])).samples) == 2 * 32000 + 1


def test_players_share_one_interface(tmp_path: Path) -> None:
    piece = Performance([0.0, 0.5], [0.4, 0.4], [60, 64], [80, 60])
    for name in ("fluidsynth grand", "modal strings"):
        clip = players()[name](piece)
        assert clip.sample_rate == 32000
        assert clip.duration_sec == pytest.approx(2.9, abs=0.1)
        loud = level_db(levelled(clip).samples, 32000, 0.05)
        assert 10 * np.log10((10 ** (loud[loud > loud.max() - 25] / 10)).mean()) == pytest.approx(-23, abs=0.3)
    with pytest.raises(BadInput, match="no note bank"):
        players(tmp_path)


def test_offsets_and_velocities_count() -> None:
    played = Performance([0.0, 1.0, 2.0], [0.5, 0.5, 0.5], [60, 62, 64], [30, 60, 90])
    assert notes_with_offset_and_velocity(played, played) == (1.0, 1.0)
    longer = Performance([0.0, 1.0, 2.0], [0.5, 0.5, 0.9], [60, 62, 64], [30, 60, 90])
    assert notes_with_offset_and_velocity(played, longer)[0] == pytest.approx(2 / 3)
    assert notes_with_offset_and_velocity(played, Performance([], [], [], [])) == (0.0, 0.0)


def test_evaluate_audio_reports_the_differences(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made, real = tmp_path / "made", tmp_path / "real"
    for folder in (made, real):
        folder.mkdir()
        for name, seed in (("a", 0), ("b", 1)):
            sound = noise(2.0, seed) * (1.0 if folder is real else 0.5)
            (folder / f"{name}.wav").write_bytes(encode_audio(AudioClip(sound, 32000)))
    assert main(["evaluate-audio", str(made), str(real)]) == 0
    said = capsys.readouterr().out
    assert "mean" in said
    assert "NRMSE" in said
    assert "at least 32" in said  # two seconds are too little for a Fréchet distance
    assert [name for name, _, _ in pairs(made, real)] == ["a", "b"]
    for words, complaint in (
        ([str(made), str(tmp_path / "none")], "give two folders"),
        ([str(made / "a.wav"), str(real)], "give two folders"),
        ([str(made), str(real), "--midi", str(made)], "no MIDI file for a"),
        ([str(made), str(real), "--embeddings", str(made)], "musicnn_mtt"),
    ):
        assert main(["evaluate-audio", *words]) == 2
        assert complaint in capsys.readouterr().err
    with pytest.raises(BadInput, match="no sound files"):
        sound_files(tmp_path)
