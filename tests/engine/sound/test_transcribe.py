"""Transcription of known notes, and the comparison of notes as in mir_eval."""

from __future__ import annotations

from pathlib import Path

import mir_eval
import numpy as np
import pytest

from engine.cli.etude import main
from engine.models.transcriber.transcribing import Event
from engine.music.io.midi import read_midi_performance
from engine.music.types import AudioClip, BadInput, BundleError, Performance
from engine.sound import transcribe as module
from engine.sound.clip import encode_audio
from engine.sound.preview import Preview
from engine.sound.recording import read_recording, resample
from engine.sound.transcribe import match_notes, note_f1, transcribe, transcription_score


def melody() -> Performance:
    """Ten notes and two chords, louder and louder, the last under the pedal: 3.5 s."""
    onset = np.array([*np.arange(10) * 0.25 + 0.2, 2.7, 2.7, 2.7])
    pitch = np.array([60, 62, 64, 65, 67, 69, 71, 72, 48, 43, 60, 64, 67])
    velocity = np.array([*np.linspace(35, 105, 10), 80, 80, 80])
    return Performance(onset, np.full(13, 0.22), pitch, velocity, np.array([2.65, 3.4]), np.array([127, 0]))


@pytest.fixture(scope="module")
def played() -> AudioClip:
    """Short enough for one window of the transcriber."""
    clip = Preview().preview(melody())
    return AudioClip(clip.samples[: int(3.9 * clip.sample_rate)], clip.sample_rate)


def test_a_preview_is_transcribed_note_for_note(played: AudioClip) -> None:
    told: list[float] = []
    heard = transcribe(played, told.append)
    found = transcription_score(melody(), heard)
    assert found.f1 == 1.0
    assert found.onset_error_ms < 10
    assert found.velocity_correlation > 0.9
    assert told[0] == 0.0
    assert told == sorted(told)
    assert ((heard.velocity >= 1) & (heard.velocity <= 127)).all()


def test_pedals_become_events() -> None:
    """Two notes, a sustain pedal and a soft pedal."""
    events = [(64, 1.0, 1.5, 70), (60, 0.5, 1.0, 0), (-64, 0.4, 1.2, 127), (-67, 0.0, 2.0, 127)]
    heard = module._performance([Event(*event) for event in events])
    assert heard.pitch.tolist() == [60, 64]
    assert heard.velocity.tolist() == [1, 70]
    assert heard.duration_sec.tolist() == [0.5, 0.5]
    assert (heard.pedal_sec.tolist(), heard.pedal_value.tolist()) == ([0.4, 1.2], [127, 0])


def test_an_exception_of_the_callback_ends_the_work(played: AudioClip) -> None:
    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transcribe(played, stop)


def test_a_missing_checkpoint_is_reported_in_one_sentence(tmp_path: Path) -> None:
    silence = AudioClip(np.zeros(32000, np.float32), 32000)
    with pytest.raises(BundleError, match=r"transcriber-v1 lacks config\.json"):
        transcribe(silence, checkpoints=tmp_path)


def test_over_an_hour_is_refused() -> None:
    with pytest.raises(BadInput, match="61 minutes"):
        transcribe(AudioClip(np.zeros(61 * 60 * 100, np.float32), 100))


def test_agreement_of_four_notes() -> None:
    """Played: C, E, G, C again. Transcribed: C 20 ms late, E 60 ms late, the second C 40 ms early, a B too many."""
    played = Performance([0.0, 1.0, 2.0, 3.0], np.full(4, 0.5), [60, 64, 67, 60], [20, 40, 60, 80])
    heard = Performance([0.02, 1.06, 2.5, 2.96], np.full(4, 0.5), [60, 64, 71, 60], [30, 40, 60, 90])
    found = transcription_score(played, heard)
    assert (found.played, found.heard, found.matched) == (4, 4, 2)
    assert found.f1 == 0.5
    assert found.onset_error_ms == pytest.approx(30)
    assert found.onset_bias_ms == pytest.approx(-10)
    assert np.isnan(found.velocity_correlation)  # two notes make no correlation
    assert transcription_score(played, heard, 0.1).f1 == 0.75
    assert note_f1(Performance([], [], [], []), Performance([], [], [], [])) == (1.0, 1.0, 1.0)
    assert note_f1(played, Performance([], [], [], [])) == (0.0, 0.0, 0.0)


def test_matching_is_as_good_as_a_graph_matching() -> None:
    """Repeated notes 30 ms apart, shaken: as many pairs as mir_eval finds, each note once, all within reach."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        n = 60
        mine = Performance(np.sort(rng.uniform(0, 3, n)), np.full(n, 0.1), rng.integers(60, 63, n), np.full(n, 64))
        kept = rng.random(n) < 0.8
        moved = np.maximum(mine.onset_sec + rng.normal(0, 0.03, n), 0)
        theirs = Performance(moved[kept], np.full(kept.sum(), 0.1), mine.pitch[kept], np.full(kept.sum(), 64))
        i, j = match_notes(mine, theirs)
        hz, spans = zip(*((440 * 2 ** ((p.pitch - 69) / 12), np.stack([p.onset_sec, p.onset_sec + 0.1], 1))
                          for p in (mine, theirs)))  # fmt: skip
        wanted = mir_eval.transcription.match_notes(spans[0], hz[0], spans[1], hz[1], offset_ratio=None)
        assert len(i) == len(set(i)) == len(set(j)) == len(wanted)
        assert (mine.pitch[i] == theirs.pitch[j]).all()
        assert (np.abs(mine.onset_sec[i] - theirs.onset_sec[j]) < 0.0501).all()


def test_command_writes_midi(tmp_path: Path, played: AudioClip, capsys: pytest.CaptureFixture) -> None:
    sound, out = tmp_path / "in.flac", tmp_path / "out.mid"
    sound.write_bytes(encode_audio(played, "flac"))
    assert main(["transcribe", str(sound), "-o", str(out)]) == 0
    assert "13 notes" in capsys.readouterr().out
    assert note_f1(melody(), read_midi_performance(out.read_bytes()))[2] == 1.0
    for words, complaint in (
        ([str(sound), "-o", str(tmp_path / "out.txt")], "end it with .mid"),
        ([str(tmp_path / "none.wav"), "-o", str(out)], "no file"),
        ([str(tmp_path), "-o", str(out)], "folder"),
        ([str(out), "-o", str(tmp_path / "b.mid")], "cannot be read"),
    ):
        assert main(["transcribe", *words]) == 2
        assert complaint in capsys.readouterr().err


def test_recordings_are_read_in_part_and_at_a_rate(tmp_path: Path, played: AudioClip) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encode_audio(played))
    part = read_recording(path, 16000, 1.0, 2.0)
    assert (part.sample_rate, len(part.samples)) == (16000, 32000)
    whole = resample(played.samples, 32000, 16000)
    assert np.abs(part.samples[1000:-1000] - whole[17000:47000]).max() < 0.01
    with pytest.raises(BadInput, match="are needed"):
        read_recording(path, start_sec=played.duration_sec - 0.2)
