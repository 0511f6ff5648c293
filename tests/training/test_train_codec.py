"""Training of the SEANet codec: losses by hand and against slow versions, the balancer, and a short run."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.checkpoints.importing import open_encodec
from engine.models.codec import encodec as sizes
from engine.models.codec.seanet import SEANetConfig
from training.midi_valle import train_codec
from training.midi_valle.train_codec import SplitSound
from training.sound.codec_losses import (
    DISCRIMINATOR_SIZES,
    WEIGHTS,
    Balancer,
    Discriminator,
    MelSpectrum,
    MultiScaleMel,
    discriminator_loss,
    generator_losses,
    mel_filters,
    si_snr_loss,
)


def noise(batch: int, count: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(batch, count, generator=torch.Generator().manual_seed(seed))


def test_mel_filters_by_hand() -> None:
    """Three triangles over 0 to 4 kHz in mel: each is 1 at its centre, 0 at its neighbours' centres."""
    filters = mel_filters(3, 8192, 8000, 0.0, 4000.0)
    top = 2595 * math.log10(1 + 4000 / 700)
    centres = [700 * (10 ** (top * i / 4 / 2595) - 1) for i in (1, 2, 3)]
    bins = [round(c / 4000 * 4096) for c in centres]
    assert filters.shape == (4097, 3)
    assert torch.allclose(filters[bins], torch.eye(3), atol=5e-3)


def ref_mel(x: np.ndarray, n_fft: int, hop: int, filters: np.ndarray) -> np.ndarray:
    """Frame by frame, with the discrete Fourier transform of numpy."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    window /= np.sqrt((window**2).sum())
    side = (n_fft - hop) // 2
    x = np.pad(x, (side, side), "reflect")
    x = np.pad(x, (0, -(len(x) - n_fft) % hop))
    frames = [x[i : i + n_fft] * window for i in range(0, len(x) - n_fft + 1, hop)]
    return np.stack([(np.abs(np.fft.rfft(f)) ** 2) @ filters for f in frames], 1)


@pytest.mark.parametrize("n_fft", [64, 256])
def test_mel_spectrum_is_the_slow_one(n_fft: int) -> None:
    x = noise(2, 1000)
    spectrum = MelSpectrum(32000, n_fft, 20, n_fft // 4, True)
    wanted = np.stack(
        [ref_mel(row.double().numpy(), n_fft, n_fft // 4, spectrum.filters.double().numpy()) for row in x]
    )
    got = spectrum(x).double().numpy()
    assert got.shape == wanted.shape == (2, 20, math.ceil(1000 / (n_fft // 4)))
    assert np.abs(got - wanted).max() < 1e-4 * wanted.max()


def test_distances_are_zero_for_the_same_and_grow() -> None:
    multi, x = MultiScaleMel(32000), noise(2, 8192)
    assert float(multi(x, x)) == 0
    small, large = (float(multi(x + a * noise(2, 8192, 5), x)) for a in (0.1, 1.0))
    assert 0 < small < large


def test_si_snr_by_hand() -> None:
    """Orthogonal error of a tenth of the amplitude is 20 dB, at any gain."""
    t = torch.arange(6400) / 6400
    signal, error = torch.sin(2 * torch.pi * 50 * t), torch.cos(2 * torch.pi * 50 * t)
    assert float(si_snr_loss((signal + 0.1 * error)[None], signal[None])) == pytest.approx(-20, abs=0.01)
    assert float(si_snr_loss((3 * (signal + 0.1 * error))[None], signal[None])) == pytest.approx(-20, abs=0.01)


def test_the_balancer_gives_every_loss_its_share() -> None:
    """Two losses of wildly different scale: with weights 3 and 1, 3/4 and 1/4 of a gradient of norm 1."""
    sound = torch.zeros(2, 4, requires_grad=True)
    a, b = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0, 0.0])
    losses = {"a": 1000 * (sound * a).sum(), "b": 0.001 * (sound * b).sum(), "unused": sound.sum()}
    balancer = Balancer({"a": 3.0, "b": 1.0, "unused": 0.0})
    for _ in range(3):
        gradient = balancer.gradient(losses, sound)
    assert torch.allclose(gradient, torch.tensor([[0.75, 0.25, 0.0, 0.0]] * 2))


def test_the_balancer_averages_norms() -> None:
    sound = torch.zeros(1, 1, requires_grad=True)
    balancer = Balancer({"a": 1.0}, decay=0.5)
    balancer.gradient({"a": 1.0 * sound.sum()}, sound)
    gradient = balancer.gradient({"a": 4.0 * sound.sum()}, sound)
    mean = (0.5 * 1 + 4) / 1.5  # decayed mean of the norms 1 and 4
    assert float(gradient) == pytest.approx(4 / mean)


def test_a_discriminator_learns_and_its_gradient_reaches_the_codec() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(4, (128,))
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
    t = torch.arange(2000) / 32000
    real = 0.3 * torch.sin(2 * torch.pi * 440 * t).repeat(2, 1)
    fake = noise(2, 2000).requires_grad_()
    first = float(discriminator_loss(discriminator, fake, real).detach())
    for _ in range(20):
        loss = discriminator_loss(discriminator, fake, real)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert fake.grad is None  # the discriminator's loss does not reach the codec
    assert float(loss.detach()) < 0.5 * first
    adversarial, feature = generator_losses(discriminator, fake, real)
    assert float(adversarial.detach()) > float(generator_losses(discriminator, real, real)[0].detach())
    assert float(generator_losses(discriminator, real, real)[1].detach()) == 0
    (gradient,) = torch.autograd.grad(adversarial + feature, fake)
    assert gradient.abs().max() > 0


def test_the_published_discriminator() -> None:
    discriminator = Discriminator()
    assert len(discriminator.scales) == len(DISCRIMINATOR_SIZES) == 5
    one = 2 * 32 * 27 + 3 * 32 * 32 * 27 + 32 * 32 * 9 + 32 * 9  # weights of a scale: 3 x 9, three more, 3 x 3, 3 x 3
    lengths_and_biases = 5 * 2 * 32 + 2
    assert sum(p.numel() for p in discriminator.parameters()) == 5 * (one + lengths_and_biases)


# --- the pack and a run ---


def write_pack(folder: Path, clips: int = 4, seconds: float = 1.0) -> Path:
    rng, count = np.random.default_rng(0), int(32000 * seconds)
    t = np.arange(count) / 32000
    tones = [sum(np.sin(2 * np.pi * f * t) * np.exp(-3 * t) for f in rng.uniform(80, 2000, 3)) for _ in range(clips)]
    folder.mkdir()
    np.concatenate([np.round(3000 * x) for x in tones]).astype(np.int16).tofile(folder / "audio.i16")
    split = np.array(["train"] * (clips - 1) + ["validation"])
    np.savez(folder / "index.npz", clip_ptr=np.arange(clips + 1) * count, session=np.arange(clips), split=split)
    return folder


def test_crops_come_from_one_clip_of_the_split(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    folder.mkdir()
    np.repeat(np.arange(1, 5), 1000).astype(np.int16).tofile(folder / "audio.i16")
    np.savez(folder / "index.npz", clip_ptr=np.arange(5) * 1000, split=np.array(["train", "validation"] * 2))
    pack, rng, seen = SplitSound(folder, "train"), np.random.default_rng(0), set()
    for _ in range(50):
        values = set(np.round(pack.crop(rng, 900) * 32768).astype(int))
        assert len(values) == 1
        seen |= values
    assert seen == {1, 3}
    long = pack.crop(rng, 1500)
    assert (long[1000:] == 0).all()
    with pytest.raises(ValueError, match="has no test clips"):
        SplitSound(folder, "test")


def run(pack: Path, out: Path, *more: str) -> list[dict]:
    before = sys.argv
    sys.argv = ["train_codec", "--pack", str(pack), "--out", str(out), "--batch", "2", "--crop", "0.2", *more]
    try:
        train_codec.main()
    finally:
        sys.argv = before
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_run_learns_resumes_and_leaves_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sizes.SIZES, "compact", SEANetConfig(2, dimension=8, lstm_layers=0))
    pack, out = write_pack(tmp_path / "pack"), tmp_path / "run"
    settings = [
        "--filters",
        "2",
        "--rate",
        "0.003",
        "--ema",
        "0.8",
        "--quantise-from",
        "0.5",
        "--adversarial-from",
        "0.8",
    ]
    first = run(pack, out, "--steps", "3", *settings)
    logs = run(pack, out, "--steps", "120", *settings)
    assert [line["step"] for line in logs] == [3, 120]
    assert set(logs[1]["train"]) == {"discriminator", "adversarial", "feature", "waveform", "multi_mel", "commitment"}
    assert logs[1]["train"]["multi_mel"] < first[0]["train"]["multi_mel"]
    codec = open_encodec(out / "bundle").model
    assert codec.quantizer.codebooks[0].inited.item() == 1
    state = torch.load(out / "last.pt", weights_only=True)
    assert torch.equal(state["average"]["decoder.model.0.conv.conv.bias"], codec.decoder.model[0].conv["conv"].bias)
    tuned = run(pack, tmp_path / "tuned", "--steps", "1", "--start", str(out / "bundle"), *settings)
    assert tuned[0]["validation"]["mel_db"] < logs[1]["validation"]["mel_db"] + 3, "it begins where the other ended"


def test_the_published_weights_of_the_losses() -> None:
    kept = {name: weight for name, weight in WEIGHTS.items() if weight}
    assert kept == {"adversarial": 4.0, "feature": 4.0, "waveform": 0.1, "multi_mel": 2.0}
    assert len(WEIGHTS) == 6
