"""The renderer's own way from codes to spectra: a copy of the codec's decoder, tuned to codes that a model wrote.

The codec's decoder has only met codes of real sound. This one was tuned on codes drawn by the renderer, with the notes,
the sketch's codes and the prompt's style beside them and the true spectra as the goal, so it mends what the renderer
gets wrong: what is played it can take from the sketch, how it sounds only from the drawn codes and the style.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from engine.models.masked_renderer import MaskedRenderer
from engine.models.piano_codec import BINS, STEPS, PianoCodec, spectral_distance


class NoteDecoder(nn.Module):
    """Codes' latents, notes and style to log magnitudes; made from a codec, whose books it goes on using."""

    def __init__(self, codec: PianoCodec, style_width: int):
        super().__init__()
        width = codec.config.decoder_width
        self.from_latent = copy.deepcopy(codec.from_latent)
        self.from_sketch = copy.deepcopy(codec.from_latent)
        self.hear_notes = copy.deepcopy(codec.hear_notes)
        self.hear_style = nn.Linear(style_width, width)
        self.decoder = copy.deepcopy(codec.decoder)
        self.to_spectrum = copy.deepcopy(codec.to_spectrum)
        with torch.no_grad():
            for part in (self.from_latent, self.from_sketch):
                part.weight.mul_(0.5)
                part.bias.mul_(0.5)
        nn.init.zeros_(self.hear_style.weight)
        nn.init.zeros_(self.hear_style.bias)

    def forward(self, latent: Tensor, sketch: Tensor, notes: Tensor, style: Tensor) -> Tensor:
        """latent, sketch (B, F, latent), notes (B, F, WIDTH), style (B, S) -> log magnitudes (B, F, 2, BINS)"""
        x = self.from_latent(latent) + self.from_sketch(sketch)
        x = x + self.hear_notes(notes) + self.hear_style(style)[:, None]
        log = 4 * self.to_spectrum(self.decoder(x))
        return log.reshape(*log.shape[:2], STEPS, BINS)

    def losses(
        self, latent: Tensor, sketch: Tensor, notes: Tensor, style: Tensor, true: Tensor
    ) -> dict[str, Tensor]:  # fmt: skip
        """The codec's spectral distance to `true` (B, F, 2, BINS): "loss" and its terms."""
        log = self(latent, sketch, notes, style).float()
        error, change = spectral_distance(log.flatten(1, 2), true.flatten(1, 2))
        return {"loss": error + 0.5 * change, "error": error, "change": change}


@torch.no_grad()
def drawn_codes(
    model: MaskedRenderer, batch: dict[str, Tensor], temperature: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Codes (B, F, K) whose hidden frames a renderer drew in one pass, and the prompt's style (B, width).

    batch        what `MaskedRenderer.losses` takes
    temperature  of the first book and of the finer ones
    """
    prompt = model.read_batch_prompt(batch)
    hidden = ~batch["known"]
    h = model.hear(batch["codes"], batch["known"], batch["notes"], batch["sketch"], prompt)[hidden]
    codes = batch["codes"].clone()
    drawn = codes[hidden]
    for book in range(drawn.shape[-1]):
        log = model.logits(h, drawn, book).float() / temperature[min(book, 1)]
        drawn[:, book] = torch.distributions.Categorical(logits=log).sample()
    codes[hidden] = drawn
    return codes, prompt[2]
