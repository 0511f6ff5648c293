"""Serialisation of a Score to bytes, for messages between processes."""

from __future__ import annotations

import io
from dataclasses import fields

import numpy as np

from engine.music.remarks import from_text, to_text
from engine.music.types import Marks, Measures, PageEvents, Performance, Score

_PLAIN = {"title": str, "composer": str, "tempo_bpm": float}  # the fields of a Score that are not arrays


def score_to_bytes(score: Score) -> bytes:
    """A Score as the bytes of an .npz file of plain arrays."""
    arrays = {f.name: getattr(score, f.name) for f in fields(Score) if isinstance(getattr(score, f.name), np.ndarray)}
    arrays["marks"] = score.marks.table
    arrays |= {f"measures_{f.name}": getattr(score.measures, f.name) for f in fields(Measures)}
    arrays |= {"events_quarter": score.events.quarter, "events_kind": score.events.kind}
    out = io.BytesIO()
    arrays |= {name: np.array(getattr(score, name)) for name in _PLAIN}
    arrays["remarks"] = np.array(to_text(score.remarks))
    arrays["document"] = np.frombuffer(score.document, np.uint8)
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def score_from_bytes(data: bytes) -> Score:
    """The inverse of `score_to_bytes`. Raises ValueError for anything else; never runs code from the bytes."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as z:
            measures = Measures(**{f.name: z[f"measures_{f.name}"] for f in fields(Measures)})
            apart = ("marks", "measures", "remarks", "events", "document", *_PLAIN)
            notes = {f.name: z[f.name] for f in fields(Score) if f.name not in apart}
            plain = {name: kind(z[name]) for name, kind in _PLAIN.items()}
            marks, remarks = Marks(z["marks"]), from_text(str(z["remarks"]))
            events = PageEvents(z["events_quarter"], z["events_kind"])
            document = z["document"].astype(np.uint8).tobytes()
            return Score(
                **notes,  # type: ignore[arg-type]
                marks=marks, measures=measures, events=events, remarks=remarks, document=document,
                **plain,  # type: ignore[arg-type]
            )  # fmt: skip
    except (KeyError, OSError, EOFError, TypeError) as error:
        raise ValueError("these bytes are not a Score; write them with score_to_bytes") from error


def pair_to_bytes(score: Score, performance: Performance) -> bytes:
    """A Score and a Performance as bytes."""
    out = io.BytesIO()
    np.savez(
        out, score=np.frombuffer(score_to_bytes(score), np.uint8),
        **{f.name: getattr(performance, f.name) for f in fields(Performance)},
    )  # fmt: skip
    return out.getvalue()


def pair_from_bytes(data: bytes) -> tuple[Score, Performance]:
    """The inverse of `pair_to_bytes`. Raises ValueError for anything else; never runs code from the bytes."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as z:
            performance = Performance(**{f.name: z[f.name] for f in fields(Performance)})
            return score_from_bytes(z["score"].tobytes()), performance
    except (KeyError, OSError, EOFError, TypeError) as error:
        raise ValueError("these bytes are not a score with its performance; write them with pair_to_bytes") from error
