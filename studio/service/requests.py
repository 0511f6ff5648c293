"""What the panels ask of the engine: composing and rendering."""

from __future__ import annotations

from dataclasses import dataclass

from engine.models.composer.conditions import TOP_P, Conditions
from engine.sound.prompts import Prompt


@dataclass(frozen=True)
class Wish:
    """What the Compose panel says; "" and 0 leave a condition to the composer.

    tempo       quarters a minute
    density     notes a quarter
    notes, bars how much to write; bars, when there are any, count
    form        sections of a new piece, see `engine.compose.form`; its bars count then
    """

    composer: str = ""
    period: str = ""
    key: str = ""
    meter: str = ""
    tempo: float = 0.0
    density: float = 0.0
    notes: int = 256
    bars: int = 0
    takes: int = 1
    seed: int = 0
    temperature: float = 1.0
    top_p: float = TOP_P
    form: str = ""

    def conditions(self) -> Conditions:
        """The same as the engine takes them."""
        return Conditions(self.composer, self.period, self.key, self.meter, self.tempo, self.density)

    def sampling(self) -> tuple[int, int, float, float]:
        """takes, seed, temperature, top_p"""
        return self.takes, self.seed, self.temperature, self.top_p


@dataclass(frozen=True)
class RenderWish:
    """What the Render panel asks for.

    span  seconds of the performance; (0, None) is all of it
    part  the same in words
    listen  have the prompt's notes written down first, if they are not known
    """

    prompt: Prompt
    seed: int
    temperature: float
    span: tuple[float, float | None] = (0.0, None)
    part: str = "the whole piece"
    profile: str = "fitted"
    listen: bool = False
