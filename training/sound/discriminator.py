"""Spectrogram discriminator (adversarial loss) for a decoder that predicts log magnitudes.

A mean distance is minimal for the average of all possible sounds, which is blurred. The discriminator gets log
magnitudes and those of the notes' guide and learns to separate real from decoded ones (hinge loss). The decoder
is trained on the distance, the discriminator's logits and its features, each with a share of the gradient (EnCodec,
Défossez et al. 2022, arXiv 2210.13438, sections 3.3 and 3.4; convolutions over time and frequency as in its STFT
discriminator).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from engine.models.codec.piano_codec import spectral_losses
from training.core.loop import write_state
from training.sound.codec_losses import Balancer

BETAS = (0.5, 0.9)
SHARES = {"distance": 1.0, "feature": 0.6, "adversarial": 0.3}
ALONE = 30  # steps in which only the discriminator is trained
# (channels, kernel, stride), each over (time, frequency)
LAYERS = (
    (16, (3, 9), (1, 4)),
    (32, (3, 7), (1, 3)),
    (48, (3, 5), (2, 2)),
    (64, (3, 5), (2, 2)),
    (64, (3, 3), (1, 1)),
)


class SpectrumDiscriminator(nn.Module):
    """Log magnitudes (B, T, BINS) and the guide's -> logits (B, 1, T / 4, bands), and the features of each layer."""

    def __init__(self) -> None:
        super().__init__()
        channels = [2, *(layer[0] for layer in LAYERS)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, kernel, stride, (kernel[0] // 2, kernel[1] // 2)))
            for before, (after, kernel, stride) in zip(channels, LAYERS, strict=False)
        )
        self.last = weight_norm(nn.Conv2d(channels[-1], 1, 3, padding=1))

    def forward(self, log: Tensor, guide: Tensor) -> tuple[Tensor, list[Tensor]]:
        h, seen = 0.5 * torch.stack([log, guide], 1) + 1, []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            seen.append(h)
        return self.last(h), seen


class AdversarialTraining:
    """A discriminator in training, for a decoder; `weigh` computes the decoder's loss.

    floor  minimum log magnitude; lower values are raised to it
    """

    def __init__(self, rate: float, device: str, floor: float) -> None:
        self.discriminator, self.floor, self.step = SpectrumDiscriminator().to(device), floor, 0
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=rate, betas=BETAS)
        self.balancer = Balancer(SHARES, decay=0.99)

    def weigh(self, log: Tensor, guide: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Train the discriminator for one step; returns "loss", with the balanced gradient, and figures.

        log, guide, true  (B, T, BINS) log magnitudes: decoded, of the guide, of the recording
        """
        distance = spectral_losses(log, true)
        heard = log.clamp(min=self.floor)
        told = self._teach(heard.detach(), guide, true)
        self.step += 1
        losses = {"distance": distance.pop("loss")}
        if self.step > ALONE:
            self.discriminator.requires_grad_(False)
            with torch.no_grad():
                _, wanted = self.discriminator(true, guide)
            logits, seen = self.discriminator(heard, guide)
            losses["adversarial"] = -logits.float().mean()
            pairs = [(a.float(), b.float()) for a, b in zip(seen, wanted, strict=True)]
            losses["feature"] = torch.stack([F.l1_loss(a, b) / b.abs().mean() for a, b in pairs]).mean()
            self.discriminator.requires_grad_(True)
        gradient = self.balancer.gradient(losses, log)
        figures = distance | {"told": told} | losses
        return {"loss": (gradient * log).sum()} | {k: v.detach() for k, v in figures.items()}

    def _teach(self, fake: Tensor, guide: Tensor, true: Tensor) -> Tensor:
        """One step of the discriminator; returns its mean logit difference between real and decoded."""
        (a, _), (b, _) = self.discriminator(fake, guide), self.discriminator(true, guide)
        loss = F.relu(1 + a.float()).mean() + F.relu(1 - b.float()).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return (b.float().mean() - a.float().mean()).detach()

    def resume(self, path: Path) -> None:
        """Go on from a saved state; nothing happens when there is none."""
        path = path if path.exists() else path.with_name("judge.pt")  # its name in older runs
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.discriminator.load_state_dict(state.get("discriminator", state.get("judge")))
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.balancer.norms = state["step"], state["norms"]

    def save(self, path: Path) -> None:
        """Write the state to be resumed from, once there is one."""
        if not self.step:
            return
        state = {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}
        write_state(state | {"step": self.step, "norms": self.balancer.norms}, path)
