"""The form strip above the roll: one button for each section of a piece, with its letter and bars. A plain gr.HTML.

Its value goes one way, from Python to the page. Events: `strip.recompose`, `strip.vary`, `strip.lock`, `strip.move`;
each names the document and the section.
"""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
from gradio.data_classes import GradioModel

from engine.compose.form import Section, parse_form
from studio.state.session import Session

_HERE = Path(__file__).parent
_NUMBER_OF_PRIMES = ("", "one prime", "two primes", "three primes")


class FormData(GradioModel):
    """On the wire: the form as one JSON string (see `form_value`), "" to leave it as it is."""

    form: str = ""


class FormStrip(gr.HTML):
    """The strip. A static template, so that no visitor's text is compiled."""

    data_model = FormData

    def __init__(self, value: dict | None = None, *, elem_id: str | None = None, render: bool = True):
        super().__init__(
            value=value,
            html_template=(_HERE / "form.html").read_text(encoding="utf-8"),
            css_template=(_HERE / "form.css").read_text(encoding="utf-8"),
            js_on_load=(_HERE / "form.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id=elem_id,
            render=render,
        )

    def preprocess(self, payload: FormData | None) -> None:
        """The strip is never an input: the visitor's Document holds the form."""
        return None

    def postprocess(self, value: dict | FormData | None) -> FormData | None:
        """A dictionary of FormData's fields."""
        return value if value is None or isinstance(value, FormData) else FormData(**value)

    def api_info(self) -> dict:
        """The wire format's schema."""
        return FormData.model_json_schema()


def form_value(session: Session) -> dict:
    """The strip's value.

    doc       the document whose form it is
    sections  name (A′), spoken (in words), bars (how many), first and last (printed numbers), again (whether it
              returns to an earlier section), locked; none where the piece has no form
    """
    form, score = parse_form(session.form), session.score
    rows = []
    if form is not None and score is not None and form.bars == len(score.measures):
        number = score.measures.number
        rows = [
            {
                "name": f"{s.letter}{'′' * s.primes}", "spoken": _spoken(s), "bars": s.bars,
                "first": int(number[start]), "last": int(number[start + s.bars - 1]),
                "again": form.source(k) is not None, "locked": k in session.locked,
            }
            for k, (s, start) in enumerate(zip(form.sections, form.starts, strict=True))
        ]  # fmt: skip
    return {"form": json.dumps({"doc": session.doc, "sections": rows}, separators=(",", ":"))}


def _spoken(section: Section) -> str:
    """A section's name as a screen reader says it.

    >>> _spoken(Section("A")), _spoken(Section("B", 2))
    ('A', 'B with two primes')
    """
    return f"{section.letter} with {_NUMBER_OF_PRIMES[section.primes]}" if section.primes else section.letter
