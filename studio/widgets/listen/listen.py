"""The player under the roll: plays a render during its making, and sounds to compare it with. A plain gr.HTML.

Its value goes one way, from Python to the page. Events: `listen.more` (send more of a render's sound), `listen.halt`
(cancel it), `listen.other` (send the sound to compare with), `listen.save`; each names the render. CustomEvents on
`document`, shared with the roll:
    etude:heard   {doc, by, quarter, playing, preview} | {doc: 0, by}   to the roll: playhead and its sender etude:goto
    {doc, to, quarter}                                    from the roll: its ruler was clicked etude:toggle, etude:rest
    {to}; etude:changed                        from the roll: play or pause; stop; other notes
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.sound.prompts import Prompt
from studio.actions.rendering import SAMPLE_RATE, Render, Renders
from studio.widgets.listen.player import Player, grid_rows, news_of


class Listen(Player):
    """The player of renders."""

    folder = Path(__file__).parent
    parts = ("../spectrum.js", "picture.js", "blind.js", "listen.js")


def _state(render: Render, renders: Renders) -> dict[str, Any]:
    """Progress of a render.

    have    samples made so far, of `total`; left: seconds of work, null while unknown
    by      who stopped it, "" if nobody did; refused: the reason of a failure, ""
    latest  the number of the newest render
    remark  warning about its reference, "" for none
    """
    job = render.job
    left = render.left_sec()
    return {
        "number": render.number, "have": render.made, "total": max(render.made, render.total), "over": render.over,
        "share": round(max(render.share, render.made / max(1, render.total)), 3),
        "left": None if left is None else round(left, 1), "text": job.doing if job else "",
        "by": (job.stopped or "") if job else "", "refused": job.refusal if job else "", "latest": renders.latest,
        "remark": " ".join(render.request.prompt.remarks),
    }  # fmt: skip


def began(render: Render, renders: Renders) -> dict:
    """A new render: its settings, and its first sound if there is any."""
    request = render.request
    about = {
        "title": render.title, "prompt": request.prompt.name, "part": request.part, "seed": request.seed,
        "temperature": request.temperature, "from": round(1000 * request.span[0]), "rate": SAMPLE_RATE,
        "doc": render.doc,
        "family": render.family,
        "grid": grid_rows(render.grid), "human": grid_rows(render.human_grid),
        "human_name": render.reference.name if render.reference else "", "profile": request.profile,
        "quiet": render.filled, "outdated": render.outdated,
    }  # fmt: skip
    return part_of(render, 0, renders, about)


def part_of(render: Render, have: int, renders: Renders, about: dict | None = None) -> dict:
    """The sound after the first `have` samples, and the progress."""
    state = _state(render, renders)  # read before the sound, so that `over` implies complete sound
    path = render.part(have)
    return {"news": news_of(state=state, begun=about, of=f"render{render.number}", first=have), "audio": path}


def announced(renders: Renders) -> dict:
    """Replace the page's renders by others; the page requests each of them."""
    return {"news": news_of(kept=[render.number for render in renders.kept])}


def state_of(render: Render, renders: Renders) -> dict:
    """Progress of a render, without sound."""
    return {"news": news_of(state=_state(render, renders))}


def compared_sound(render: Render, which: str, piano: str, path: Path) -> dict:
    """A whole sound to compare a render with."""
    return {"news": news_of(of=f"{which}{render.number}", which=which, number=render.number), "audio": path}


def prompt_sound(prompt: Prompt, path: Path) -> dict:
    """A prompt, played before anything is rendered."""
    return {"news": news_of(of="tried", name=prompt.name), "audio": path}


def saved(render: Render, path: Path) -> dict:
    """A file to download."""
    return {"news": news_of(number=render.number), "file": path}


def refusal(sentence: str, number: Any = 0) -> dict:
    """The reason of a failure."""
    return {"news": news_of(refused=sentence, number=number if type(number) is int else 0)}
