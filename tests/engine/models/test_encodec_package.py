"""Piano-Encodec against the modules of Meta's own package `encodec`: same weights, same latents, codes and sound.

The package is installed without its dependencies (`.ci/environment`). It imports torchaudio for reading files only, so
an empty module stands in for it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.models.codec.encodec import PUBLISHED, PianoEncodec
from engine.models.codec.seanet import SEANetConfig

RATIOS = (8, 5, 4, 4)


@pytest.fixture(scope="module")
def package() -> Any:
    """The modules `encodec.modules` and `encodec.quantization`."""
    before = sys.modules.get("torchaudio")
    sys.modules["torchaudio"] = ModuleType("torchaudio")
    try:
        import encodec
    finally:
        del sys.modules["torchaudio"]
        if before is not None:
            sys.modules["torchaudio"] = before
    return encodec


def ours(filters: int, dimension: int, lstm: int, padding: str) -> PianoEncodec:
    torch.manual_seed(3)
    codec = PianoEncodec(SEANetConfig(filters, RATIOS, dimension, lstm, padding), 4, 64)
    for p in codec.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    for i, codebook in enumerate(codec.quantizer.codebooks):
        codebook.embed.normal_(std=0.3 / (i + 1))
        codebook.inited.fill_(1)
    return codec.eval()


def theirs(package: Any, codec: PianoEncodec) -> tuple[Any, Any, Any]:
    """Encoder, decoder and quantiser of the package with our weights, every name and shape taken."""
    c = codec.config
    shape = {
        "channels": 1, "dimension": c.dimension, "n_filters": c.filters, "ratios": list(c.ratios), "causal": False,
        "norm": "weight_norm", "pad_mode": c.padding, "true_skip": True, "lstm": c.lstm_layers,
    }  # fmt: skip
    encoder = package.modules.SEANetEncoder(**shape)
    decoder = package.modules.SEANetDecoder(**shape)
    quantiser = package.quantization.ResidualVectorQuantizer(c.dimension, codec.num_codebooks, codec.codebook_size)
    for mine, other in ((codec.encoder, encoder), (codec.decoder, decoder), (codec.quantizer, quantiser)):
        other.load_state_dict(mine.state_dict(), strict=True)
    return encoder.eval(), decoder.eval(), quantiser.eval()


def sound(samples: int) -> Tensor:
    g = torch.Generator().manual_seed(5)
    t = torch.arange(samples) / 32000
    tone = 0.3 * torch.sin(2 * torch.pi * 220 * t) * torch.exp(-t)
    return (tone + 0.05 * torch.randn(samples, generator=g))[None, None].repeat(2, 1, 1)


@pytest.mark.parametrize("lstm", [0, 2])
@pytest.mark.parametrize("padding", ["constant", "reflect"])
@pytest.mark.parametrize("samples", [640 * 12, 640 * 12 + 333])
@torch.no_grad()
def test_latents_codes_and_sound_are_the_packages(package: Any, lstm: int, padding: str, samples: int) -> None:
    codec = ours(4, 16, lstm, padding)
    encoder, decoder, quantiser = theirs(package, codec)
    x = sound(samples)
    latent = codec.encoder(x)
    assert latent.shape == (2, 16, -(-samples // 640))
    assert latent.std() > 0.01
    torch.testing.assert_close(latent, encoder(x), atol=1e-4, rtol=1e-4)

    codes = codec.quantizer.encode(latent)
    assert torch.equal(codes, quantiser.encode(latent, 50).transpose(0, 1)), "theirs has the codebooks first"
    assert len(codes.unique()) > 10
    quantised = codec.quantizer.decode(codes)
    torch.testing.assert_close(quantised, quantiser.decode(codes.transpose(0, 1)), atol=1e-4, rtol=1e-4)

    made = codec.decoder(quantised)
    assert made.std() > 1e-4
    torch.testing.assert_close(made, decoder(quantised), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_coding_in_chunks_is_the_packages_coding_in_one_piece(package: Any) -> None:
    codec = ours(4, 16, 2, "constant")
    encoder, decoder, quantiser = theirs(package, codec)
    x = sound(640 * 25)
    whole = quantiser.encode(encoder(x), 50).transpose(0, 1)
    codes = codec.encode(x[:, 0], chunk=7)
    assert torch.equal(codes, whole)
    wanted = decoder(quantiser.decode(whole.transpose(0, 1)))[:, 0]
    torch.testing.assert_close(codec.decode(codes, chunk=6), wanted, atol=1e-4, rtol=1e-4)


def test_the_published_size_has_every_name_and_shape(package: Any) -> None:
    with torch.device("meta"):
        codec = PianoEncodec(PUBLISHED)
        shape = {"n_filters": 64, "dimension": 128, "ratios": list(RATIOS), "lstm": 2, "true_skip": True}
        both = (
            (codec.encoder, package.modules.SEANetEncoder(**shape)),
            (codec.decoder, package.modules.SEANetDecoder(**shape)),
        )
    for mine, other in both:
        found, wanted = ({k: tuple(v.shape) for k, v in m.state_dict().items()} for m in (mine, other))
        assert found == wanted
