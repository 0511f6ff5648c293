"""The spectrogram discriminator: learning, balanced gradient of the decoder, resumption."""

from pathlib import Path

import torch

from engine.models.codec.piano_codec import FLOOR, CodecConfig, PianoCodec
from training.sound.discriminator import ALONE, SHARES, AdversarialTraining
from training.sound.train_codec_adversarial import TRAINED, coded


def spectra(seed: int, count: int = 24) -> torch.Tensor:
    """Log magnitudes (2, count, 1025) with the grain of noise."""
    return torch.randn(2, count, 1025, generator=torch.Generator().manual_seed(seed)) - 2


def test_the_discriminator_learns_to_separate_blurred_spectra_from_real_ones():
    """The mean of all possible spectra has the smallest distance; a discriminator learns to reject it."""
    torch.manual_seed(0)
    adversarial = AdversarialTraining(2e-3, "cpu", -5.3)
    told = []
    for step in range(18):
        blurred = torch.full((2, 24, 1025), -2.0, requires_grad=True)
        told.append(float(adversarial.weigh(blurred, spectra(1000 + step), spectra(step))["told"]))
    assert told[-1] > told[0] + 0.5


def test_the_first_steps_use_only_the_distance():
    torch.manual_seed(0)
    adversarial, true = AdversarialTraining(1e-4, "cpu", -5.3), spectra(1)
    log = spectra(2).requires_grad_()
    parts = adversarial.weigh(log, spectra(3), true)
    assert "adversarial" not in parts
    (alone,) = torch.autograd.grad(parts["error"].new_zeros(()) + parts["loss"], log)
    adversarial.step = ALONE
    log = spectra(2).requires_grad_()
    parts = adversarial.weigh(log, spectra(3), true)
    assert {"adversarial", "feature"} <= parts.keys()
    (weighed,) = torch.autograd.grad(parts["loss"], log)
    size = [float(g.flatten(1).norm(dim=1).mean()) for g in (alone, weighed)]
    share = SHARES["distance"] / sum(SHARES.values())
    assert share * 0.5 < size[1] / size[0] < 1.2  # the terms share the gradient, none takes it over
    assert not torch.allclose(weighed, share * alone, atol=1e-7)


def test_the_state_is_resumed(tmp_path: Path):
    torch.manual_seed(0)
    first = AdversarialTraining(1e-3, "cpu", -5.3)
    for step in range(3):
        first.weigh(spectra(step).requires_grad_(), spectra(5), spectra(6))
    first.save(tmp_path / "discriminator.pt")
    again = AdversarialTraining(1e-3, "cpu", -5.3)
    again.resume(tmp_path / "nothing.pt")
    assert again.step == 0
    again.resume(tmp_path / "discriminator.pt")
    parts = [j.weigh(spectra(8).requires_grad_(), spectra(5), spectra(6)) for j in (first, again)]
    assert again.step == 4
    torch.testing.assert_close(parts[0]["told"], parts[1]["told"])
    torch.testing.assert_close(parts[0]["loss"], parts[1]["loss"])


def test_adversarial_training_keeps_the_codes():
    torch.manual_seed(0)
    codec, samples = PianoCodec(CodecConfig(16, 1, 3, 16, 1, 3, 8, 3, 32)).eval(), 0.1 * torch.randn(8, 12 * 640)
    latent, true = coded(codec, samples, 4, 0.0)
    codes = codec.encode(samples, 4).transpose(1, 2)
    torch.testing.assert_close(latent, codec.quantiser.decode(codes))
    torch.testing.assert_close(true, codec.magnitudes(samples).clamp(min=FLOOR).log())
    fewer, _ = coded(codec, samples, 4, 1.0)
    first, second = (codec.quantiser.decode(codes[..., :k]) for k in (1, 2))
    for item in range(8):  # every item has one or two of its three codebooks
        assert any(torch.allclose(fewer[item], some[item]) for some in (first, second))
    trained = {id(p) for name in TRAINED for p in parameters(getattr(codec, name))}
    rest = [name for name, p in codec.named_parameters() if id(p) not in trained]
    assert rest
    assert all(name.startswith(("input_proj", "encoder", "to_latent")) for name in rest)


def parameters(part: torch.nn.Module | torch.nn.Parameter) -> list[torch.nn.Parameter]:
    return [part] if isinstance(part, torch.nn.Parameter) else list(part.parameters())
