"""Passages by the systems of the XMVAE paper, with tiny untrained weights: what they write opens as any score does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints.paper_models import open_baseline, open_xmvae
from engine.compose.engraved_passage import metre_of, signature_of, tempo_of
from engine.compose.passages import PaperModels, segment_of
from engine.engine import Engine
from engine.models.xmvae.xmvae import codes_of, mixed_codes, varied_codes
from engine.music.io.midi import read_midi_performance
from engine.music.io.read_musicxml import read_musicxml
from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import BadInput, BundleError
from engine.requests import PassageRequest
from tests.helpers.command_line import run
from tests.helpers.paper_checkpoints import write_paper_checkpoints

NOTES = 16


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("checkpoints")
    write_paper_checkpoints(out, tmp_path_factory.mktemp("runs"))
    return out


@pytest.mark.parametrize("model", ["xmvae", "ecpt", "mt"])
def test_a_passage_is_a_score_with_its_own_performance(model: str, checkpoints: Path):
    engine, shares = Engine.load(checkpoints), []
    request = PassageRequest(model, NOTES, takes=2, seed=3)
    passages = engine.compose_passages(request, shares.append)
    assert len(passages) == 2
    assert all(0 <= share <= 1 for share in shares)
    assert shares == sorted(shares)
    for passage in passages:
        score, m = passage.score, passage.score.measures
        assert 0 < len(score) <= NOTES
        assert score.onset_quarter.min() >= m.onset_quarter[0] - 1e-9
        assert score.onset_quarter.max() < m.end_quarter
        assert set(np.unique(score.staff)) <= {1, 2}
        assert score.remarks
        assert len(read_musicxml(write_musicxml(score))) == len(score)
        if passage.performance is not None:
            assert passage.performance.pitch.tolist() == score.pitch.tolist()
    again = engine.compose_passages(request)
    assert [p.score.digest for p in again] == [p.score.digest for p in passages]


def test_a_share_of_the_codes_is_drawn_again(checkpoints: Path):
    bundle = open_xmvae(checkpoints / "xmvae-v1")
    source = PaperModels(checkpoints).compose(PassageRequest(notes=NOTES, seed=1))[0].score
    codes = codes_of(bundle.model, segment_of(source))
    changed = [
        float((varied_codes(bundle.prior, codes, share, torch.Generator().manual_seed(0)) != codes).float().mean())
        for share in (0.05, 0.5, 1.0)
    ]
    assert 0 <= changed[0] <= 0.05 + 1 / len(codes)
    assert changed[0] < changed[1] < changed[2]
    assert 0.3 < changed[1] <= 0.5 + 1 / len(codes)
    varied = Engine.load(checkpoints).compose_passages(PassageRequest(source=source, share=0.5, takes=2))
    assert len({p.score.digest for p in varied}) == 2


def test_codes_between_two_passages_go_from_the_first_to_the_second(checkpoints: Path):
    model = open_xmvae(checkpoints / "xmvae-v1").model
    a, b = torch.arange(8), torch.arange(8).flip(0)
    assert mixed_codes(model, a, b, 0.0).tolist() == a.tolist()
    assert mixed_codes(model, a, b, 1.0).tolist() == b.tolist()
    between = mixed_codes(model, a, b, 0.5)
    book = model.quantiser.codebook
    middle = (book[a] + book[b]) / 2
    assert torch.allclose(torch.cdist(middle, book).amin(1), (middle - book[between]).norm(dim=1), atol=1e-4)


def test_a_passage_is_played_again_with_another_z_p(checkpoints: Path):
    """The notes stay, the performance changes, and a direction has its name from the config."""
    engine = Engine.load(checkpoints)
    assert engine.xmvae_directions == ("Tempo",)
    (passage,) = engine.compose_passages(PassageRequest(notes=NOTES, seed=1))
    again, moved = (
        engine.compose_passages(PassageRequest(source=passage.score, share=0.0, z_p=z_p))[0]
        for z_p in ((), (("Tempo", 3.0),))
    )
    for played in (again, moved):
        assert played.score.digest == passage.score.digest
        assert played.performance is not None
        assert played.performance.pitch.tolist() == passage.score.pitch.tolist()
    assert again.performance.onset_sec.tolist() != moved.performance.onset_sec.tolist()
    with pytest.raises(BadInput, match='no direction "Swing"; it has: Tempo'):
        engine.compose_passages(PassageRequest(notes=NOTES, z_p=(("Swing", 1.0),)))


def test_what_is_missing_or_not_accepted_is_refused_in_a_sentence(checkpoints: Path, tmp_path: Path):
    assert Engine.load(checkpoints).paper_models == ("xmvae", "ecpt", "mt")
    assert Engine.load(tmp_path).paper_models == ()
    with pytest.raises(BundleError, match=r"xmvae-v1 lacks config\.json"):
        Engine.load(tmp_path).compose_passages(PassageRequest())
    with pytest.raises(BundleError):
        open_baseline(checkpoints / "xmvae-v1")
    score = PaperModels(checkpoints).compose(PassageRequest(notes=NOTES))[0].score
    for request in (
        PassageRequest("composer"), PassageRequest(notes=257), PassageRequest(takes=0), PassageRequest(share=0.0),
        PassageRequest("mt", source=score), PassageRequest(towards=score), PassageRequest(temperature=9),
        PassageRequest("ecpt", z_p=(("Tempo", 1.0),)), PassageRequest(z_p=(("Tempo", 4.0),)),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=r"\.$"):
            request.check()


def test_metre_key_and_tempo_of_a_waltz_with_a_pickup():
    """An upbeat, then bars of a low note and two chords in G major at 120 quarters a minute."""
    onset, pitch, duration = [0.0], [74], [1.0]
    for bar in range(8):
        first = 1 + 3 * bar
        for beat, chord in ((0, (43, 71)), (1, (59, 62, 67)), (2, (59, 62, 67))):
            for p in chord:
                onset.append(float(first + beat))
                pitch.append(p)
                duration.append(1.0)
    o, d, p = np.array(onset), np.array(duration), np.array(pitch)
    assert metre_of(o, d, p) == (3, 1)
    assert signature_of(p, d) == 1
    assert tempo_of(o, o / 2) == pytest.approx(120)
    four = np.where((o - 1) % 3 == 0, 4 * ((o - 1) // 3), 4 * ((o - 1) // 3) + (o - 1) % 3)
    assert metre_of(four[1:], d[1:], p[1:])[0] == 4


def test_the_command_line_composes_and_varies(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(tmp_path)
    common = f"--checkpoints {checkpoints} --notes {NOTES} --json"
    status, out, err = run(f"compose --model xmvae -o a.mid --musicxml a.musicxml --takes 2 {common}", capsys)
    assert status == 0, err
    takes = json.loads(out)["takes"]
    assert [t["output"] for t in takes] == ["a-1.mid", "a-2.mid"]
    assert len(read_midi_performance(Path("a-1.mid").read_bytes())) == takes[0]["notes"]
    status, _, err = run(f"compose --model xmvae --vary a-1.musicxml --share 0.5 -o b.mid {common}", capsys)
    assert status == 0, err
    between = "compose --model xmvae --vary a-1.musicxml --towards a-2.musicxml --share 0.5 -o between.mid"
    status, _, err = run(f"{between} {common}", capsys)
    assert status == 0, err
    for wrong, sentence in (
        ("--model ecpt --key D", "ECPT composes without conditions; leave --key out"),
        ("--model mt --vary a-1.musicxml", "MT has no codes"),
        ("--model xmvae --vary a-1.musicxml --share 2", "The share is 2"),
        ("--model xmvae --z-p Tempo", "write a direction and its deviations"),
        ("--model xmvae --z-p Swing=1", "XMVAE has no direction"),
    ):
        status, _, err = run(f"compose -o c.mid {wrong} {common}", capsys)
        assert status == 2
        assert sentence in err + capsys.readouterr().out
    assert not Path("c.mid").exists()
