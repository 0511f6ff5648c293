"""Requests to the engine: frozen values with their checks.

The command line, the page, the API and the process boundary pass these objects to the engine. A new condition is a
field of `engine.models.composer.conditions.Conditions`; a new setting is a field here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.compose.form import Form, parse_form
from engine.limits import MAX_Z_P, MIN_VARIED, PASSAGE_NOTES, REQUEST_BARS, REQUEST_NOTES, REQUEST_TAKES
from engine.models.composer.conditions import TOP_P, Conditions
from engine.models.pianist.style_curve import StyleCurve
from engine.music.types import BadInput, Performance, Score, Style

if TYPE_CHECKING:
    from engine.sound.prompts import Prompt

# methods that fit an instrument to the prompt, and their versions: nothing drawn, the prompt's notes needed
FITTED_METHODS = {"fitted": "fitted-2", "physical": "physical-1", "ddsp": "ddsp-2"}


@dataclass(frozen=True)
class ComposeRequest:
    """Compose new pieces.

    conditions   open ones are drawn from real pieces, once for all takes
    notes, bars  length: approximately `notes` notes, to the end of a bar; or exactly `bars` bars if `bars` is not 0
    takes        number of alternatives
    temperature  0.1 to 2; 1 is the trained distribution
    top_p        share of the probability that the sampled classes cover, above 0 and up to 1
    form         sections as `engine.compose.form.parse_form` reads them; their bars replace `notes` and `bars`
    passage      start as in the middle of a piece: openings are quieter, slower and narrower
    """

    conditions: Conditions = Conditions()
    notes: int = 256
    bars: int = 0
    takes: int = 1
    seed: int = 0
    temperature: float = 1.0
    top_p: float = TOP_P
    form: str = ""
    passage: bool = False

    @property
    def parsed_form(self) -> Form | None:
        """The sections of the form, None for a free piece. Raises BadInput if it cannot be parsed."""
        return parse_form(self.form)

    @property
    def length(self) -> tuple[int, int]:
        """Notes and bars to compose; bars take precedence if not 0."""
        form = self.parsed_form
        return self.notes, self.bars if form is None else form.bars

    def check(self) -> ComposeRequest:
        """Return the request. Raises BadInput for a condition or a number that is not accepted."""
        self.conditions.check()
        check_sampling(*self.length, self.takes, self.temperature, self.top_p, self.seed)
        return self

    def continuing(self, score: Score) -> ContinueRequest:
        """The same settings for the continuation of a score."""
        return ContinueRequest(
            score, self.conditions, self.notes, self.bars, self.takes, self.seed, self.temperature, self.top_p
        )

    def rewriting(
        self, score: Score, selected: NDArray[np.bool_], span: tuple[float, float], lags: tuple[int, ...] = ()
    ) -> InfillRequest:
        """The same settings for an infill of the selected notes."""
        return InfillRequest(
            score, selected, span, self.conditions, self.takes, self.seed, self.temperature, self.top_p, lags
        )


@dataclass(frozen=True, eq=False)
class ContinueRequest:
    """Compose more after the end of a score. Fields as in ComposeRequest; open conditions are read from the score."""

    score: Score
    conditions: Conditions = Conditions()
    notes: int = 128
    bars: int = 0
    takes: int = 1
    seed: int = 0
    temperature: float = 1.0
    top_p: float = TOP_P

    @property
    def length(self) -> tuple[int, int]:
        """As in ComposeRequest."""
        return self.notes, self.bars

    def check(self) -> ContinueRequest:
        """Return the request. Raises BadInput for a condition or a number that is not accepted."""
        self.conditions.check()
        check_sampling(*self.length, self.takes, self.temperature, self.top_p, self.seed)
        return self


@dataclass(frozen=True, eq=False)
class InfillRequest:
    """Rewrite the selected notes of a score; all others stay unchanged. Other fields as in ContinueRequest.

    selected  (n,) flags, one for each note of the score
    span      (start, end) in quarters; the new notes begin inside
    lags      for each bar of the span, how many bars back the bar is that it should resemble: 0 none, -1 drawn; () for
              all drawn
    """

    score: Score
    selected: NDArray[np.bool_]
    span: tuple[float, float]
    conditions: Conditions = Conditions()
    takes: int = 1
    seed: int = 0
    temperature: float = 1.0
    top_p: float = TOP_P
    lags: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        selected = np.array(self.selected, bool)
        selected.flags.writeable = False
        object.__setattr__(self, "selected", selected)

    @property
    def length(self) -> tuple[int, int]:
        """As in ComposeRequest; the notes are an upper estimate."""
        return int(self.selected.sum()) + 4 * round(max(0.0, self.span[1] - self.span[0])), 0

    def check(self) -> InfillRequest:
        """Return the request. Raises BadInput if the selection or the span does not fit the score."""
        self.conditions.check()
        check_sampling(8, 0, self.takes, self.temperature, self.top_p, self.seed)
        score, (start, stop) = self.score, map(float, self.span)
        if len(self.selected) != len(score):
            raise BadInput(
                f"The selection has {len(self.selected)} entries for a score of {len(score)} notes; give one a note."
            )
        first = float(score.measures.onset_quarter[0])
        if not (first - 1e-6 <= start < stop <= score.measures.end_quarter + 1e-6):
            raise BadInput(
                f"The passage is {start:g} to {stop:g} quarters; it has to lie inside the score, "
                f"{first:g} to {score.measures.end_quarter:g}."
            )
        onset = score.onset_quarter[self.selected]
        if len(onset) and (onset.min() < start - 1e-6 or onset.max() >= stop - 1e-6):
            raise BadInput("Some selected notes start outside the passage; select notes inside it, or widen it.")
        return self


# Systems of the XMVAE paper, by the name that a request has: as they are called in lists.
MODELS = {"xmvae": "XMVAE", "ecpt": "ECPT", "mt": "MT"}
WritingRequest = ComposeRequest | ContinueRequest | InfillRequest


def check_sampling(notes: int, bars: int, takes: int, temperature: float, top_p: float, seed: int) -> None:
    """Raise BadInput for a number that is not accepted."""
    if not 0 <= bars <= REQUEST_BARS:
        raise BadInput(f"{bars} bars were requested; 1 to {REQUEST_BARS} can be written at a time.")
    if bars == 0 and not 8 <= notes <= REQUEST_NOTES:
        raise BadInput(f"{notes} notes were requested; 8 to {REQUEST_NOTES} can be written at a time.")
    if not 1 <= takes <= REQUEST_TAKES:
        raise BadInput(f"{takes} takes were requested; 1 to {REQUEST_TAKES} are accepted.")
    if not 0.1 <= temperature <= 2:
        raise BadInput(f"The temperature is {temperature:g}; 0.1 to 2 is accepted, 1 is the trained distribution.")
    if not 0 < top_p <= 1:
        raise BadInput(f"Top-p is {top_p:g}; a share above 0 and up to 1 is accepted.")
    if seed < 0:
        raise BadInput(f"The seed is {seed}; use a whole number from 0.")


@dataclass(frozen=True, eq=False)
class PassageRequest:
    """Compose a passage with a system of the XMVAE paper, or vary one through the codes of XMVAE.

    model        one of `MODELS`
    notes        at most, 8 to 256
    source       a passage whose codes are kept; None composes from nothing
    towards      a second passage: the codes are mixed with its codes instead of drawn again
    share        of the codes to draw again, 0 to play the notes of `source` again; with `towards`, the weight of the
                 second passage, above 0
    temperature  0.1 to 2
    z_p          (direction, deviations) pairs that move XMVAE's playing; directions as in `Engine.xmvae_directions`,
                 deviations from -3 to 3
    """

    model: str = "xmvae"
    notes: int = PASSAGE_NOTES
    takes: int = 1
    seed: int = 0
    temperature: float = 1.0
    source: Score | None = None
    towards: Score | None = None
    share: float = 0.3
    z_p: tuple[tuple[str, float], ...] = ()

    def check(self) -> PassageRequest:
        """Return the request. Raises BadInput for a number or a passage that is not accepted."""
        if self.model not in MODELS:
            raise BadInput(f'There is no model "{self.model}" here; choose {", ".join(MODELS)}.')
        check_sampling(self.notes, 0, self.takes, self.temperature, 1.0, self.seed)
        if self.notes > PASSAGE_NOTES:
            raise BadInput(f"{self.notes} notes were requested; {MODELS[self.model]} composes up to {PASSAGE_NOTES}.")
        if (self.source or self.towards) is not None and self.model != "xmvae":
            raise BadInput(f"{MODELS[self.model]} has no codes; passages are varied with XMVAE.")
        if self.towards is not None and self.source is None:
            raise BadInput("A second passage needs a first one to be mixed with.")
        if not 0 <= self.share <= 1:
            raise BadInput(f"The share is {self.share:g}; 0 to 1 is accepted.")
        if self.share == 0 and (self.source is None or self.towards is not None):
            raise BadInput("The share is 0, which plays a passage again; give one passage, or a share above 0.")
        if self.z_p and self.model != "xmvae":
            raise BadInput(f"{MODELS[self.model]} has no z_p; only the playing of XMVAE can be moved.")
        for name, value in self.z_p:
            if not abs(value) <= MAX_Z_P:
                raise BadInput(f"{name} is {value:g} deviations; {-MAX_Z_P} to {MAX_Z_P} are accepted.")
        for score in (self.source, self.towards):
            if score is not None and not MIN_VARIED <= len(score) <= PASSAGE_NOTES:
                raise BadInput(f"The passage has {len(score)} notes; {MIN_VARIED} to {PASSAGE_NOTES} are accepted.")
        return self


def read_direction(text: str) -> tuple[str, float]:
    """A direction of z_p and its deviations, as a user writes them. Raises BadInput.

    >>> read_direction("Tempo=-1.5")
    ('Tempo', -1.5)
    """
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise BadInput(f'z_p is "{text[:40]}"; write a direction and its deviations, such as Tempo=1.5.') from None


@dataclass(frozen=True)
class Passage:
    """A composed score and its model's performance, note i for note i; None if they could not be matched."""

    score: Score
    performance: Performance | None


@dataclass(frozen=True, eq=False)
class PerformRequest:
    """Perform a score: note i of the performance is note i of the score.

    keep         a performance whose notes are kept exactly; requires either `redo` or `edited_from`
    redo         (n,) flags: the notes of `score` to perform again; `keep` is a performance of `score`
    curve        style over time, added to `style`; for a whole performance only
    edited_from  the score that `keep` is a performance of; notes that it shares with `score` keep their performance
    """

    score: Score
    style: Style = Style()
    keep: Performance | None = None
    redo: NDArray[np.bool_] | None = None
    edited_from: Score | None = None
    curve: StyleCurve | None = None

    def check(self) -> PerformRequest:
        """Return the request. Raises BadInput if the kept performance does not fit the score."""
        ways = (self.redo is not None) + (self.edited_from is not None)
        if ways != (self.keep is not None):
            raise ValueError("keep and redo go together, or keep and edited_from: what to keep, and what it plays")
        if self.curve is not None:
            if self.keep is not None:
                raise ValueError("a style curve applies to a whole performance, not to some of its notes")
            self.curve.check(self.score)
        kept, old = self.keep, self.edited_from or self.score
        if kept is not None and (len(kept) < len(old) or (self.redo is not None and len(self.redo) != len(old))):
            raise BadInput(
                f"The kept performance has {len(kept)} notes for a score of {len(old)}; render the whole piece first."
            )
        return self


@dataclass(frozen=True, eq=False)
class RenderRequest:
    """Render a performance with the sound of a prompt.

    temperature  0 takes the likeliest sound, 1 samples as trained, up to 1.5; methods that fit an instrument accept
                 only 1
    span         (start, end) in seconds of the performance; the end None is two seconds after the last release
    part         the span in words, for lists
    profile      the method, one of `Engine.profiles`
    transcribe   transcribe the prompt first, if its notes are not known
    """

    performance: Performance
    prompt: Prompt
    seed: int = 0
    temperature: float = 1.0
    span: tuple[float, float | None] = (0.0, None)
    part: str = "the whole piece"
    profile: str = "fitted"
    transcribe: bool = False

    @property
    def needs_transcription(self) -> bool:
        """Whether the notes of the prompt must be transcribed first."""
        return (self.transcribe or self.profile in FITTED_METHODS) and self.prompt.notes is None

    def with_prompt_notes(self, notes: Performance) -> RenderRequest:
        """The same request with the transcribed notes of its prompt."""
        return replace(self, prompt=self.prompt.with_notes(notes))
