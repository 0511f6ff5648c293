"""XMVAE and its baselines on the page: a passage is composed and accepted, bars are varied; hidden without weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from engine.checkpoints.index import CHECKPOINTS
from tests.browser.test_browser_compose import accept, fill, panel, takes, write
from tests.helpers.pages import Visitor, serving
from tests.helpers.paper_checkpoints import write_paper_checkpoints


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that has tiny weights of the three systems beside the shipped ones."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for shipped in CHECKPOINTS.iterdir():
        if shipped.name not in ("xmvae-v1", "ecpt-v1", "mt-v1"):
            (folder / shipped.name).symlink_to(shipped)
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
