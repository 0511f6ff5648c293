"""XMVAE and its baselines on the page: a passage is composed and accepted, bars are varied; hidden without weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.test_browser_compose import accept, fill, panel, takes, write
from tests.helpers.pages import PATIENCE_SEC, Visitor, serving
from tests.helpers.paper_checkpoints import link_shipped, write_paper_checkpoints


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with tiny weights of the three systems and the shipped weights."""
    folder = link_shipped(tmp_path_factory.mktemp("checkpoints"))
    write_paper_checkpoints(folder, tmp_path_factory.mktemp("runs"))
    with serving(ETUDE_CHECKPOINTS=str(folder)) as url:
        yield url


def test_a_passage_is_composed_accepted_and_varied(visitor: Visitor, browser: Browser) -> None:
    panel(visitor)
    visitor.page.locator("#models > button").click()
    fill(visitor, "models-notes", 24)
    fill(visitor, "compose-takes", 1)
    fill(visitor, "compose-seed", 4)
    write(visitor, "models-compose")
    accept(visitor)
    assert 0 < visitor.count() <= 24
    assert visitor.page.locator("#example input").input_value().startswith("Passage by XMVAE")
    doc = visitor.data("doc")
    write(visitor, "models-vary")
    assert takes(visitor) == 2
    assert visitor.data("doc") == doc, "the piece stays until the take is accepted"
    visitor.page.locator("#models-model input").click()
    visitor.page.get_by_role("option", name="ECPT").click()
    write(visitor, "models-compose")
    assert takes(visitor) == 3


def test_bars_are_played_again_mixed_and_a_study_of_the_models_runs(visitor: Visitor, browser: Browser) -> None:
    panel(visitor)
    visitor.page.locator("#models > button").click()
    fill(visitor, "models-notes", 24)
    fill(visitor, "compose-takes", 1)
    write(visitor, "models-compose")
    accept(visitor)
    slider = visitor.page.locator("#models-z-tempo input[type=range]")
    slider.focus()
    for _ in range(10):
        visitor.page.keyboard.press("ArrowRight")
    write(visitor, "models-play")
    assert takes(visitor) == 2
    visitor.page.locator("#models-towards textarea, #models-towards input").first.fill("1-99")
    visitor.page.locator("#models-vary").click()
    expect(visitor.page.get_by_text("Bars 1 to 99 are not in this piece")).to_be_visible()
    visitor.page.locator("#models-towards textarea, #models-towards input").first.fill("1-1")
    write(visitor, "models-vary")
    assert takes(visitor) == 3

    visitor.page.get_by_role("tab", name="Compare").click()
    visitor.page.locator("#study-models").click()
    study = visitor.page.locator("#compare .study")
    expect(study).to_be_visible(timeout=1000 * PATIENCE_SEC)
    expect(visitor.page.locator("#takes")).to_be_hidden()
    assert visitor.page.locator("#compare .ask").inner_text().startswith("1 of 6. ")
    for letter in visitor.page.locator("#compare .heard button").all():
        letter.click()
        visitor.page.wait_for_function(
            "id => document.querySelector('#compare .heard .on')?.dataset.id === id",
            arg=letter.get_attribute("data-id"),
        )
    visitor.page.locator("#compare .answers button").first.click()
    expect(visitor.page.locator("#compare .ask")).to_contain_text("2 of 6")
    visitor.page.locator("#compare .leave").click()
    expect(study).to_be_hidden()
    with visitor.page.expect_download() as waiting:
        visitor.page.locator("#study-votes").click()
    row = Path(waiting.value.path()).read_text(encoding="utf-8-sig").splitlines()[1]
    assert "Passages by models" in row
    assert len({name for name in ("XMVAE", "ECPT", "MT", "Étude Composer") if name in row}) >= 2
