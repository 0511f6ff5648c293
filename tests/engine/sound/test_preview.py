"""The preview: timing, loudness and length of notes; round trips of sound files."""

from __future__ import annotations

import io
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from engine.music.types import AudioClip, BadInput, Performance
from engine.sound import preview as preview_module
from engine.sound.clip import encode_audio, read_audio, to_int16
from engine.sound.preview import SAMPLE_RATE, TAIL_SEC, Preview
from engine.sound.room import Room, room_response

SAMPLED = ("grand", "upright", "player")


@pytest.fixture(scope="module")
def piano() -> Preview:
    return Preview()


def notes(*rows: tuple[float, float, int, int], pedal: tuple[tuple[float, int], ...] = ()) -> Performance:
    """(onset_sec, duration_sec, pitch, velocity) rows and (sec, value) pedal events."""
    onset, duration, pitch, velocity = zip(*rows, strict=True)
    sec, value = zip(*pedal, strict=True) if pedal else ((), ())
    return Performance(
        np.array(onset), np.array(duration), np.array(pitch), np.array(velocity), np.array(sec), np.array(value)
    )


def level_db(clip: AudioClip, start_sec: float, end_sec: float) -> float:
    part = clip.samples[int(start_sec * clip.sample_rate) : int(end_sec * clip.sample_rate)]
    return float(10 * np.log10((part.astype(np.float64) ** 2).mean() + 1e-15))


def pitch_level_db(clip: AudioClip, pitch: int, start_sec: float, length_sec: float = 0.08) -> float:
    """Level of the partials of one pitch, in a window: the first four, within half a semitone."""
    start = int(start_sec * clip.sample_rate)
    part = clip.samples[start : start + int(length_sec * clip.sample_rate)]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 15)) ** 2
    hz = np.fft.rfftfreq(1 << 15, 1 / clip.sample_rate)
    partials = 440 * 2 ** ((pitch - 69) / 12) * np.arange(1, 5)
    near = (np.abs(12 * np.log2(np.maximum(hz, 1)[:, None] / partials)) < 0.5).any(1)
    return float(10 * np.log10(spectrum[near].sum() + 1e-15))


def random_performance(n: int, seconds: float, seed: int = 0) -> Performance:
    rng = np.random.default_rng(seed)
    onset = np.sort(rng.uniform(0, seconds, n))
    pedal_sec = np.arange(0, seconds, 0.7)
    return Performance(
        onset, rng.uniform(0.05, 1, n), rng.integers(21, 109, n), rng.integers(20, 110, n),
        pedal_sec, rng.integers(0, 128, len(pedal_sec)),
    )  # fmt: skip


@pytest.mark.parametrize("name", SAMPLED)
def test_every_onset_is_heard_at_its_time(piano: Preview, name: str) -> None:
    rng = np.random.default_rng(3)
    onset = np.cumsum(rng.uniform(0.6, 0.9, 16))
    pitch = rng.permutation(np.arange(28, 108, 5))
    velocity = rng.integers(25, 120, 16)
    clip = piano.preview(
        notes(*[(t, 0.15, int(p), int(v)) for t, p, v in zip(onset, pitch, velocity, strict=True)]), name
    )
    for t in onset:
        # First moment at which the sound passes a quarter of the note's peak, seen through 1 ms.
        start = int((t - 0.05) * SAMPLE_RATE)
        part = np.abs(clip.samples[start : start + int(0.2 * SAMPLE_RATE)])
        smooth = np.sqrt(np.convolve(part**2, np.ones(32) / 32, "same"))
        heard = (start + np.argmax(smooth > 0.25 * smooth[: int(0.15 * SAMPLE_RATE)].max())) / SAMPLE_RATE
        assert -0.002 <= heard - t <= 0.025


def test_every_note_of_a_chord_and_a_repetition_is_heard(piano: Preview) -> None:
    chord = [48, 55, 64, 71]
    clip = piano.preview(notes(*[(0.5, 1.0, p, 64) for p in chord]))
    for pitch in chord:
        assert pitch_level_db(clip, pitch, 0.52, 0.3) > pitch_level_db(clip, pitch, 0.15, 0.3) + 40
    held = piano.preview(
        notes((0.2, 1.5, 60, 80), (1.0, 0.6, 60, 80))
    )  # the first key is still down: no release between
    assert level_db(held, 1.0, 1.05) > level_db(held, 0.93, 0.98) + 3
    assert level_db(held, 1.5, 1.6) > level_db(held, 1.9, 2.0) + 10


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("pitch", [30, 48, 60, 71, 85])
def test_louder_velocity_is_a_louder_sound(piano: Preview, name: str, pitch: int) -> None:
    velocities = np.arange(12, 128, 4)
    levels = []
    for velocity in velocities:
        clip = piano.preview(notes((0.0, 0.6, pitch, int(velocity))), name)
        weight = np.abs(np.fft.rfft(clip.samples[:16000]))
        hz = np.fft.rfftfreq(16000, 1 / SAMPLE_RATE)
        levels.append(10 * np.log10((weight[hz > 20] ** 2).sum()))
    rise = np.diff(levels)
    assert rise.min() > -1.5  # plain energy, not loudness: a brighter layer is as loud with a little less
    assert (np.array(levels[3:]) > np.array(levels[:-3])).all()
    assert levels[-1] - levels[0] == pytest.approx(40 * np.log10(velocities[-1] / velocities[0]), abs=4)


def test_key_release_and_pedals(piano: Preview) -> None:
    def late(pedal: tuple[tuple[float, int], ...]) -> float:
        return level_db(piano.preview(notes((0.0, 0.3, 55, 80), pedal=pedal)), 0.8, 1.0)

    dry, light, half, full = (late(((0.0, value),)) for value in (0, 20, 55, 127))
    assert dry < light < half - 3 < full - 6  # the damper touches less and less
    assert full > dry + 20
    assert late(((0.2, 127), (0.5, 0))) < full - 10  # lifted: the string is damped
    assert late(((0.3, 127),)) == pytest.approx(full, abs=1.5)  # at the very moment of release it still catches
    short = piano.preview(notes((0.0, 0.3, 55, 80)))
    top = piano.preview(notes((0.0, 0.3, 96, 80)))  # no damper there
    assert level_db(short, 0.0, 0.2) - level_db(short, 0.7, 0.8) > level_db(top, 0.0, 0.2) - level_db(top, 0.7, 0.8) + 5


@pytest.mark.parametrize("chunk_sec", [0.1, 1.0, 7.0])
def test_stream_equals_whole(piano: Preview, chunk_sec: float) -> None:
    performance = random_performance(120, 12.0)
    whole = piano.preview(performance)
    parts = list(piano.stream(performance, chunk_sec=chunk_sec))
    assert all(abs(p.duration_sec - chunk_sec) < 0.002 for p in parts[:-1])
    np.testing.assert_allclose(np.concatenate([p.samples for p in parts]), whole.samples, atol=1e-5)


def test_renderings_do_not_mix(piano: Preview) -> None:
    """The same notes sound the same after other notes, in an abandoned stream, and in four threads at once."""
    performances = [random_performance(60, 5.0, seed) for seed in range(4)]
    expected = [Preview().preview(p).samples for p in performances]
    abandoned = piano.stream(performances[0], chunk_sec=0.5)
    next(abandoned)
    heard: dict[int, np.ndarray] = {}

    def listen(i: int) -> None:
        heard[i] = np.concatenate([c.samples for c in piano.stream(performances[i], chunk_sec=0.3)])

    threads = [threading.Thread(target=listen, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    abandoned.close()
    for i in range(4):
        np.testing.assert_allclose(heard[i], expected[i], atol=1e-5)
        np.testing.assert_allclose(piano.preview(performances[i]).samples, expected[i], atol=1e-5)


def test_loudness_is_not_normalised_and_never_clips(piano: Preview) -> None:
    soft, loud = (piano.preview(notes((0.0, 0.5, 60, v))) for v in (30, 90))
    assert np.abs(loud.samples).max() > 4 * np.abs(soft.samples).max()
    crash = piano.preview(notes(*[(0.1, 2.0, p, 127) for p in range(21, 109)]))
    assert np.abs(crash.samples).max() <= 1.0
    assert level_db(crash, 0.1, 0.5) > -12


def test_empty_and_odd_performances(piano: Preview) -> None:
    silence = piano.preview(Performance(*[np.zeros(0)] * 4))
    assert 0.1 <= silence.duration_sec <= 2.5
    assert not silence.samples.any()
    odd = piano.preview(
        notes((-0.01, 0.0, 60, 64), (0.5, 0.0, 60, 64), (0.5, 0.3, 60, 64), pedal=((-1.0, 0), (0.9, 127)))
    )
    assert np.isfinite(odd.samples).all()
    assert level_db(odd, 0.5, 0.7) > -50
    one = notes((0.0, 1.0, 60, 64))
    assert piano.preview(one).duration_sec == pytest.approx(1.0 + TAIL_SEC, abs=0.003)
    assert np.abs(piano.preview(replace(one, pedal_sec=[0.0], pedal_value=[127])).samples[-5:]).max() < 1e-4  # no click


def test_sentences(piano: Preview, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    one = notes((0.0, 1.0, 60, 64))
    with pytest.raises(BadInput, match='no piano "harp"; choose one of grand'):
        piano.preview(one, "harp")
    with pytest.raises(BadInput, match="lasts 61 minutes"):
        piano.preview(notes((3650.0, 1.0, 60, 64)))
    with pytest.raises(BadInput, match="more than 0 seconds"):
        next(piano.stream(one, chunk_sec=0))
    gone = replace(Preview.PIANOS["grand"], files=(tmp_path / "gone.sf3",))
    monkeypatch.setitem(preview_module.PIANOS, "grand", gone)
    assert "grand" not in Preview().available()
    assert set(SAMPLED[1:]) <= set(Preview().available())
    with pytest.raises(BadInput, match=r"gone\.sf3, is not on this computer; choose another piano"):
        Preview().preview(one)
    (tmp_path / "gone.sf3").write_bytes(b"RIFF damaged")
    with pytest.raises(BadInput, match="could not be read"):
        Preview().preview(one)
    monkeypatch.setitem(sys.modules, "fluidsynth", None)  # Python's own way to say that it cannot be imported
    with pytest.raises(BadInput, match="needs the fluidsynth library"):
        Preview().preview(one, "upright")


def test_credits_are_shown() -> None:
    assert "Bengt Nilsson" in Preview.PIANOS["grand"].credit
    assert "CC BY 4.0" in Preview.PIANOS["grand"].credit
    assert sum(f.stat().st_size for f in preview_module.PIANO_FOLDER.iterdir()) < 30e6


def test_room_in_parts_equals_direct_convolution() -> None:
    sound = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    response = room_response(8000)
    ref = sound + np.convolve(sound, response)[: len(sound)]
    room = Room(8000)
    parts = [room.add(part) for part in np.split(sound, [7, 1300, 1301, 4000])]
    np.testing.assert_allclose(np.concatenate(parts), ref, atol=1e-4)


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_files_round_trip(format: str) -> None:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, 32000)
    samples -= samples.mean()
    clip = AudioClip(samples, 32000)
    data = encode_audio(clip, format, comment="seed 7, style WangA")
    back = read_audio(data)
    assert back.sample_rate == 32000
    np.testing.assert_allclose(back.samples, clip.samples, atol=5e-5)
    assert soundfile.SoundFile(io.BytesIO(data)).comment == "seed 7, style WangA"
    assert (to_int16(AudioClip([-1.5, -1, 0, 0.5, 1], 8000)) == [-32767, -32767, 0, 16384, 32767]).all()
    with pytest.raises(BadInput, match='not "mp3"'):
        encode_audio(clip, "mp3")


def wav(samples: np.ndarray, rate: int = 16000, subtype: str = "PCM_16") -> bytes:
    data = io.BytesIO()
    soundfile.write(data, samples, rate, subtype=subtype, format="WAV")
    return data.getvalue()


NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "cannot be read"),
        (b"\xff\xd8\xff\xe0 a photograph", "cannot be read"),
        (b"RIFF" + bytes(range(200)), "damaged"),
        (wav(NOISE)[:30], "damaged"),
        (b"RIFF" + bytes(21_000_000), "21 MB"),
        (wav(NOISE[:7999]), "at least 0.5 s"),
        (wav(NOISE, 7999), "7999 Hz"),
        (wav(NOISE, 768000), "768000 Hz"),
        (wav(np.tile(NOISE[:, None], 9)), "9 channels"),
        (wav(NOISE * 1e-4, subtype="FLOAT"), "silent"),
        (wav(np.full(16000, 0.3)), "silent"),
        (wav(np.where(np.arange(16000) == 5, np.nan, NOISE), subtype="FLOAT"), "NaN or infinite"),
    ],
)
def test_recordings_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read_audio(data)


def test_recordings_accepted() -> None:
    stereo = read_audio(wav(np.stack([NOISE + 0.2, NOISE - 0.1], 1)))
    assert stereo.samples.shape == (16000,)
    assert abs(float(stereo.samples.mean())) < 1e-6
    assert read_audio(wav(np.tile(NOISE, 70), 8000)).duration_sec == 60.0  # the first minute of longer ones
    assert len(read_audio(wav(NOISE)[:20000]).samples) > 8000  # cut off in transfer: what is there


def test_mutated_recordings_are_read_or_refused() -> None:
    rng = np.random.default_rng(1)
    for original in (wav(NOISE), encode_audio(AudioClip(NOISE, 16000), "flac")):
        for _ in range(100):
            data = bytearray(original)
            for position in rng.integers(0, min(len(data), 400), rng.integers(1, 8)):
                data[position] = rng.integers(256)
            try:
                clip = read_audio(bytes(data))
            except BadInput:
                continue
            assert np.isfinite(clip.samples).all()
            assert clip.samples.ndim == 1
