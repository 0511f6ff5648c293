"""The renderer's decoder from codes to spectra, conditioned on the guide and the prompt's spectral envelope.

It was fine-tuned from the codec's decoder. Codes of 2.2 kbit/s blur soft and dense music, but the notes are known, and
the guide (`engine.sound.guide`) has all their attacks and partials. So for each bin and frame the decoder mixes two
spectra: its own, from codes, notes and prompt, and the guide's, shifted per band to the prompt's envelope. It was
trained on sampled codes with the spectra of many other pianos and rooms as targets, so it weights the guide where
pianos agree.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from engine.models.codec.piano_codec import BINS, STEPS, PianoCodec
from engine.models.nn.renamed import accept_old_names
from engine.models.renderer.masked_renderer import MaskedRenderer
from engine.models.renderer.spectral_envelope import CENTRES, ENVELOPE_SIZE, bin_weights


class GuideDecoder(nn.Module):
    """Maps latents of codes, spectra of the guide, notes, style and envelope to log magnitudes; created from a codec's
    decoder."""

    def __init__(self, codec: PianoCodec, style_width: int):
        super().__init__()
        accept_old_names(
            self,
            {
                "hear_sketch": "encode_guide", "hear_notes": "encode_notes", "hear_style": "encode_style",
                "hear_colours": "encode_envelope", "to_spectrum": "spectrum_head",
            },
        )  # fmt: skip
        width = codec.config.decoder_width
        self.from_latent = copy.deepcopy(codec.from_latent)
        self.encode_guide = nn.Linear(STEPS * BINS, width)
        self.encode_notes = copy.deepcopy(codec.encode_notes)
        self.encode_style = nn.Linear(style_width, width)
        self.encode_envelope = nn.Linear(ENVELOPE_SIZE, width)
        self.decoder = copy.deepcopy(codec.decoder)
        self.spectrum_head = copy.deepcopy(codec.spectrum_head)
        self.to_trust = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, STEPS * BINS))
        self.to_shift = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, STEPS * len(CENTRES)))
        for part in (self.encode_style, self.encode_envelope, self.to_trust[1], self.to_shift[1]):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
        nn.init.constant_(self.to_trust[1].bias, -2.0)
        with torch.no_grad():
            self.encode_guide.weight.mul_(0.3)
        self.register_buffer("bands", torch.from_numpy(bin_weights()).float(), persistent=False)
        self.bands: Tensor

    def forward(self, latent: Tensor, guide: Tensor, notes: Tensor, style: Tensor, colours: Tensor) -> Tensor:
        """Log magnitudes (B, F, 2, BINS).

        latent   (B, F, latent) of the codes
        guide   (B, F, 2, BINS) log magnitudes of the guide
        notes    (B, F, WIDTH) of `engine.tokens.note_frames`
        style    (B, S) style vector of the prompt, from the renderer
        colours  (B, ENVELOPE_SIZE) of `engine.models.renderer.spectral_envelope.prompt_envelope`
        """
        x = self.from_latent(latent) + self.encode_guide(0.25 * guide.flatten(2)) + self.encode_notes(notes)
        x = x + (self.encode_style(style) + self.encode_envelope(colours))[:, None]
        h = self.decoder(x)
        shape = (*h.shape[:2], STEPS, -1)
        own = 4 * self.spectrum_head(h).reshape(shape)
        trust = self.to_trust(h).reshape(shape).sigmoid()
        moved = guide + (self.to_shift(h).reshape(shape) @ self.bands.T)
        return own + trust * (moved - own)


@torch.no_grad()
def drawn_codes(
    model: MaskedRenderer, batch: dict[str, Tensor], temperature: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Codes (B, F, K) with masked frames sampled by a renderer in one pass, and the prompt's style (B, width).

    batch        a batch of `MaskedRenderer.losses`
    temperature  of the first codebook and of the finer ones
    """
    prompt = model.read_batch_prompt(batch)
    hidden = ~batch["known"]
    h = model.hidden_states(batch["codes"], batch["known"], batch["notes"], batch["guide"], prompt)[hidden]
    codes = batch["codes"].clone()
    drawn = codes[hidden]
    for codebook in range(drawn.shape[-1]):
        log = model.logits(h, drawn, codebook).float() / temperature[min(codebook, 1)]
        drawn[:, codebook] = torch.distributions.Categorical(logits=log).sample()
    codes[hidden] = drawn
    return codes, prompt[2]
