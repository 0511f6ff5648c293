"""The tables of `make eval-audio`, with tiny untrained models on a tiny data pack that the test makes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from engine.measures.frechet import frechet, log_mel_statistics
from engine.models.codec.piano_codec import CodecConfig, PianoCodec
from engine.models.renderer.masked_renderer import MaskedRenderer, RendererConfig
from engine.music.io.midi import write_midi
from engine.music.types import AudioClip, BadInput, Performance
from engine.render.rendering import Renderer
from engine.sound.players import levelled
from engine.sound.preview import Preview
from engine.sound.prompts import prepare_prompt
from training.sound.eval.audio import measure
from training.sound.eval.codec import code_use, through
from training.sound.eval.goals import goals
from training.sound.eval.likeness import OCTAVES, attack_differences, decays
from training.sound.eval.material import CALM, DENSE, RATE, Material, ReportTable, lyra, opus, part
from training.sound.eval.picture import side_by_side, spectrogram_image
from training.sound.eval.recordings import (
    ITSELF,
    MEASURES,
    HeldOutRecording,
    Measured,
    bootstrap,
    decay_rows,
    each_rows,
    frechet_rows,
    measured,
    measures_rows,
    prompt_rows,
)
from training.sound.eval.render import frechet_table, wanted_samples


def little_piece(seconds: float, seed: int) -> Performance:
    """Six notes a second, louder and softer, with some pedal."""
    g, n = np.random.default_rng(seed), int(6 * seconds)
    onset = np.sort(g.uniform(0, seconds - 0.5, n))
    pedal = np.arange(0, seconds, 1.0)
    return Performance(onset, g.uniform(0.1, 0.6, n), g.integers(40, 84, n), g.integers(30, 110, n),
                       pedal, np.where(np.arange(len(pedal)) % 2, 0, 127))  # fmt: skip


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Four recordings of 20 s, played by the previews, and three performances in MAESTRO's layout."""
    data = tmp_path_factory.mktemp("pack")
    for folder in ("audio/real", "audio/real_midi", "symbolic/performance", "banks"):
        (data / folder).mkdir(parents=True)
    for i, name in enumerate((*CALM, *DENSE)):
        piece = little_piece(110.0 if i in (0, 2) else 20.0, i)
        sound = Preview().preview(piece, ("grand", "upright")[i % 2])
        path = data / "audio" / "real" / f"{name}.ogg"  # readers go by what is inside
        soundfile.write(path, sound.samples, sound.sample_rate, format="FLAC")
        (data / "audio" / "real_midi" / f"{name}.mid").write_bytes(write_midi(piece))
    pieces = [little_piece(40.0, 10 + i) for i in range(3)]
    ptr = np.cumsum([0, *map(len, pieces)])
    pedals = np.cumsum([0, *(len(p.pedal_sec) for p in pieces)])
    steps = [np.diff(np.round(p.onset_sec * 1000), prepend=0) for p in pieces]
    np.savez(
        data / "symbolic" / "performance" / "maestro-compact.npz",
        pitch=np.concatenate([p.pitch for p in pieces]).astype(np.uint8),
        velocity=np.concatenate([p.velocity for p in pieces]).astype(np.uint8),
        duration=np.concatenate([np.round(p.duration_sec * 1000) for p in pieces]).astype(np.int32),
        onset_diff=np.concatenate(steps).astype(np.int32),
        pedal_number=np.full(pedals[-1], 64, np.uint8),
        pedal_value=np.concatenate([p.pedal_value for p in pieces]).astype(np.uint8),
        pedal_time_diff=np.concatenate([np.diff(p.pedal_sec * 1000, prepend=0) for p in pieces]).astype(np.int32),
        note_ptr=ptr, pedal_ptr=pedals, ticks_per_second=np.full(3, 1000.0), id=np.array(["a", "b", "c"]),
        split=np.array(["validation"] * 3),
    )  # fmt: skip
    bank = data / "banks" / "salamander"
    bank.mkdir()
    t = np.arange(32000) / 32000
    soundfile.write(bank / "60.flac", 0.3 * np.sin(2 * np.pi * 261.6 * t) * np.exp(-2 * t), 32000)
    row = {"file": "60.flac", "key": 60, "lovel": 1, "hivel": 127, "gain_db": 0.0}
    (bank / "index.json").write_text(json.dumps([row]))
    return Material(data, data / "banks")


@pytest.fixture(scope="module")
def codec() -> PianoCodec:
    torch.manual_seed(0)
    return PianoCodec(CodecConfig(32, 1, 3, 32, 2, 3, 16, 4, 64)).eval()


@pytest.fixture(scope="module")
def renderer(codec: PianoCodec) -> Renderer:
    codebooks = torch.stack([b.codebook for b in codec.quantiser.codebooks])
    return Renderer(codec, MaskedRenderer(RendererConfig(32, 2, 2, 64, 32, 16, 4, 64), codebooks))


def test_parts_of_a_performance() -> None:
    whole = Performance([0.0, 1.0, 2.5], [1.5, 3.0, 0.5], [60, 62, 64], [50, 60, 70], [0.5, 2.2], [127, 0])
    cut = part(whole, 1.0, 1.0)
    assert (cut.onset_sec.tolist(), cut.duration_sec.tolist(), cut.pitch.tolist()) == ([0.0], [1.0], [62])
    assert (cut.pedal_sec.tolist(), cut.pedal_value.tolist()) == (
        [0.0, 1.0],
        [127, 0],
    )  # it was down when the part began


def test_a_table_is_markdown() -> None:
    text = ReportTable("T", ("a", "b"), [["x", 0.12345], ["y", 12.0]], ["why"]).markdown()
    assert "### T" in text
    assert "| x | 0.123 |" in text
    assert text.splitlines()[3] == "|---|-------|"


def test_material_gives_what_is_held_out(material: Material) -> None:
    pieces = material.performances(2, 5.0)
    assert all(10 < len(p) < 90 and p.end_sec <= 5.0 for p in pieces)
    assert 24 < material.long_performance(25.0).end_sec <= 25.0
    prompts = material.prompts(3.0)
    assert len(prompts) >= 4
    assert all(p.notes is not None and len(p.notes) for p in prompts.values())
    with pytest.raises(BadInput, match="ask for fewer"):
        material.performances(9, 5.0)
    with pytest.raises(BadInput, match="--data"):
        Material(material.data / "banks").performances(1, 5.0)


def test_codecs_keep_length(material: Material, codec: PianoCodec) -> None:
    clip, notes = material.real(CALM[1], 2.0, 4.0)
    assert len(notes) > 10
    for made in (through(codec, clip), through(codec, clip, 1), through(codec, clip, None, notes), opus(clip)[0]):
        assert (len(made.samples), made.sample_rate) == (len(clip.samples), 32000)
    coded, kbits = opus(clip)
    assert 3 < kbits < 16
    assert (
        np.corrcoef(np.abs(coded.samples).reshape(-1, 640).mean(1), np.abs(clip.samples).reshape(-1, 640).mean(1))[0, 1]
        > 0.8
    )
    use = code_use(codec, [clip])
    assert len(use) == 4
    assert all(0 < share <= 1 and 0 < spread <= 1 for share, spread in use)
    with pytest.raises(BadInput, match="Lyra"):
        lyra(clip, material.data)


def test_tables_without_a_transcriber(
    material: Material, codec: PianoCodec, renderer: Renderer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tables = measure(
        material, codec, {}, {"product": renderer}, ("fidelity", "picture"), True, tmp_path, lambda sentence: None
    )
    assert [t.title[:7] for t in tables] == ["Prompt ", "Figures"]
    assert [row[0] for row in tables[0].rows][-2:] == ["all", "the pianos themselves"]
    assert all(0 <= float(v) <= 1 for v in tables[0].rows[-2][1:4])
    assert tables[0].value("the pianos themselves", "dB to own") < tables[0].value("all", "dB to own")
    assert "Prompt fidelity" in capsys.readouterr().out
    assert "Prompt fidelity" in (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "tables.json").read_text())[0]["rows"]
    assert (tmp_path / "spectrograms.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.glob("*.flac"))) == 3


def test_frechet_rows(material: Material, codec: PianoCodec, renderer: Renderer) -> None:
    table = frechet_table(material, {"product": renderer}, codec, 10.0, lambda sentence: None)
    assert table.rows[0][0] == "real vs real"
    assert "product" in [row[0] for row in table.rows]
    assert table.columns[1:] == ("log-mel", "codec latent")
    plain = [float(str(row[1]).split("(")[-1].rstrip(")")) for row in table.rows if "(" in str(row[1])]
    assert len(plain) == len(table.rows)
    assert any("musicnn_mtt.npz" in remark for remark in table.remarks)


def test_goals_are_looked_up() -> None:
    columns = ("system", "F1", "onset error, ms", "loudness ρ, scale", "length error, s")
    renderer = ReportTable("", columns, [["sampler (x)", 0.99, 2.0, 0.9, "-"], ["product", 0.91, 20.0, 0.85, 0.0]])
    found = goals({"renderer": [renderer]})
    assert [row[3] for row in found.rows] == ["yes", "no", "no", "yes", "yes"]
    assert found.rows[1][2] == "≥ 0.92"
    assert found.remarks == ["3 of 5 reached."]
    assert np.isnan(renderer.value("paper", "F1"))


def test_goals_of_recordings_are_looked_up() -> None:
    far = ReportTable("", ("sound", "MTT", "MTT / preview", "MSD", "MSD / preview"), [
        ["sampler (x)", "9.0 (10.0) [8.0, 12.0]", "", "7.0 (8.0) [1.0, 9.0]", ""],
        ["preview", "11.0 (12.0) [8.0, 12.0]", "-", "7.0 (7.0) [1.0, 9.0]", "-"],
        ["fitted", "4.0 (5.0) [3.0, 6.0]", "0.42 [0.3, 0.5]", "5.0 (6.0) [4.0, 7.0]", ""],
    ])  # fmt: skip
    measures = ReportTable("", ("sound", "F1", "mel, dB", "pre-echo, dB"), [["fitted", 0.98, 3.9, -0.2]])
    prompts = ReportTable("", ("sound", "nearer own than another", "nearest own"),
                    [["the recording", 0.7, 0.4], ["fitted", 0.8, 0.2]])  # fmt: skip
    across = ("r across performances", "off across performances, dB")
    own = ReportTable(
        "", ("player", "fit, s", "real-time factor", "loudness r", *across), [["mean", 1.2, 0.02, 0.95, 0.97, 1.4]]
    )
    none = ReportTable("", ("sound",), [])
    found = goals({"report": [far, measures, none, prompts, none, own]})
    reached = [row[3] for row in found.rows]
    assert reached == ["yes", "yes", "no", "no", "yes", "no", "yes", *["yes"] * 2, "no", "yes", "yes", "yes", "no"]
    assert found.rows[0][1] == pytest.approx(5 / 12)


@pytest.fixture(scope="module")
def recorded(material: Material) -> list[HeldOutRecording]:
    """Two recordings of twenty seconds with their prompts."""
    found = []
    for name in (CALM[0], DENSE[0]):
        clip, notes = material.real(name, 10.0, 20.0)
        before, heard = material.real(name, 0.0, 7.0)
        found.append(HeldOutRecording(name, prepare_prompt(before, 0.0, 6.0, heard), levelled(clip), notes))
    return found


def test_a_row_of_recordings_is_kept_and_taken_again(recorded: list[HeldOutRecording], tmp_path: Path) -> None:
    embeddings = {"log-mel": log_mel_statistics}
    preview = Preview()
    same = measured(recorded, [r.sound for r in recorded], embeddings, ("notes", "visqol"))
    other = [levelled(AudioClip(preview.preview(r.notes, "player").samples[: 20 * RATE], RATE)) for r in recorded]
    other = [AudioClip(np.pad(c.samples, (0, 20 * RATE - len(c.samples))), RATE) for c in other]
    away = measured(recorded, other, embeddings, ("notes", "visqol"))
    away.save(tmp_path / "split" / "player.npz")
    again = Measured.load(tmp_path / "split" / "player.npz")
    np.testing.assert_array_equal(again.measures, away.measures)
    assert again.when == away.when
    mel, loud = MEASURES.index("mel, dB"), MEASURES.index("loudness r")
    assert np.abs(same.measures[:, mel]).max() < 1e-6
    np.testing.assert_allclose(same.measures[:, loud], 1)
    assert (away.measures[:, mel] > 1).all()
    assert np.isnan(away.measures[:, 0]).all()
    rows = {ITSELF: same, "preview": away, "fitted": away}
    far = frechet_rows("report", recorded, rows, embeddings, lambda sentence: None)
    assert far.columns == ("sound", "log-mel", "log-mel / preview")
    assert str(far.rows[2][2]).startswith("1.00 [1.00, 1.00]")
    others = measures_rows("x", rows), decay_rows("x", rows), prompt_rows("x", recorded, rows)
    assert [len(t.rows) for t in others] == [3, 2, 3]
    assert len(each_rows("x", recorded, rows).rows) == 6


def test_moments_give_the_distance_of_all_features() -> None:
    rng = np.random.default_rng(0)
    left, right = ([rng.normal(i, 1 + j, (40, 5)) for i in range(3)] for j in (0, 1))
    draws = bootstrap(left, right)
    assert draws[0] == pytest.approx(frechet(np.concatenate(left), np.concatenate(right)))
    assert draws[1:].min() < draws[0] < draws[1:].max()


def test_what_a_rendering_does_at_attacks_and_in_decays() -> None:
    t = np.arange(3 * RATE) / RATE
    onset = np.array([0.5, 1.2, 1.9])
    sound = sum((t >= at) * np.sin(2 * np.pi * 3000 * (t - at)) * 10 ** (-3 * (t - at).clip(0) / 1.5) for at in onset)
    real = AudioClip((0.2 * sound).astype(np.float32), RATE)
    early = AudioClip((real.samples + 0.3 * np.roll(real.samples, -RATE // 50)).astype(np.float32), RATE)
    notes = Performance(onset, [0.3] * 3, [60, 62, 64], [60, 60, 60])
    rise, before = attack_differences(real, early, notes)
    assert attack_differences(real, real, notes) == (0, 0)
    assert rise < 0
    assert before > 3
    found = decays(real)
    assert found[OCTAVES.searchsorted(3000)] == pytest.approx(1.5, rel=0.1)


def test_wanted_length() -> None:
    assert wanted_samples(Performance([0.0], [1.0], [60], [60])) == 150 * 640


def test_picture_shows_pitch_as_height() -> None:
    t = np.arange(64000) / 32000
    low, high = (
        spectrogram_image(AudioClip(np.sin(2 * np.pi * f * t).astype(np.float32), 32000), 50, 2.0) for f in (200, 4000)
    )
    assert low.shape == (256, 50, 3)
    assert low.sum((1, 2)).argmax() > high.sum((1, 2)).argmax()  # the first row is the top
    assert side_by_side({"a": AudioClip(np.zeros(32000, np.float32), 32000)}, 40).startswith(b"\x89PNG")
