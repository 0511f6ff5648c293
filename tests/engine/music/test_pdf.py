"""A score as PDF: title and composer on the first page, music on every page."""

from __future__ import annotations

import re
from dataclasses import replace

from engine.music.document.pdf import pages
from engine.untrusted.saving import save_pdf
from engine.untrusted.scores import open_score
from studio.state.examples import EXAMPLES


def test_a_score_as_pdf() -> None:
    example = EXAMPLES["Chopin, Étude op. 25 no. 2"]
    score = replace(open_score(example.score_bytes(), example.score), title="Tea & <Cake>", composer="Łukasz Ω")
    engraved = pages(score)
    assert len(engraved) > 1
    assert [page.count("Tea &amp; &lt;Cake&gt;") for page in engraved] == [1] + [0] * (len(engraved) - 1)
    assert "Łukasz Ω" in engraved[0]
    assert all(page.count('class="note"') > 20 for page in engraved)
    data = save_pdf(score)
    assert data.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type ?/Page\b", data)) == len(engraved)
    assert len(data) > 10_000 * len(engraved)
