"""The reader process: kills, time and memory limits, concurrent use, recovery."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import BadInput
from engine.process import notation_reader as child_module
from engine.process.notation_reader import ReaderChild
from engine.untrusted import scores as safe
from engine.untrusted.scores import open_score
from tests.engine.music.test_midi import assert_sentence
from tests.engine.music.test_write_musicxml import a_score
from tests.engine.untrusted.test_scores import XML, bar, wrap

NINE_VOICES = "".join(
    "<backup><duration>4</duration></backup>"
    + f"<note><pitch><step>E</step><octave>5</octave></pitch><duration>1</duration><voice>{v}</voice></note>" * 4
    for v in range(2, 11)
)


@pytest.fixture(autouse=True)
def _loaded() -> None:
    """The child's imports are not part of what the tests time."""
    safe.warm_up()


def read_for_ever(reader: ReaderChild) -> None:
    for _ in range(200):
        reader.read("musicxml", XML)


def test_a_killed_child_is_a_sentence_and_the_next_file_is_read() -> None:
    reader = ReaderChild()
    reader.start()
    assert reader.process is not None
    threading.Timer(0.02, reader.process.kill).start()
    with pytest.raises(BadInput, match="may be damaged"):
        read_for_ever(reader)
    assert len(reader.read("musicxml", XML)) == 417
    folder = reader.folder
    reader.stop()
    assert folder is not None
    assert not Path(folder).exists()


def test_a_file_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ReaderChild()
    reader.start()
    monkeypatch.setattr(child_module, "WAIT_SECONDS", 0.01)
    with pytest.raises(BadInput, match="took over 8 seconds"):
        reader.read("musicxml", XML)
    monkeypatch.undo()
    assert len(reader.read("musicxml", XML)) == 417
    reader.stop()


def test_the_system_ends_a_reading_that_computes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 bars of ten voices take partitura longer than the second it is given here."""
    monkeypatch.setattr(child_module, "READ_SECONDS", 1)
    bars = "".join(bar("<duration>4</duration>", i).replace("</note>", "</note>" + NINE_VOICES) for i in range(1, 2001))
    reader = ReaderChild()
    with pytest.raises(BadInput, match="took over 8 seconds"):
        reader.read("musicxml", wrap(bars))
    monkeypatch.undo()
    assert len(reader.read("musicxml", XML)) == 417
    reader.stop()


def test_a_file_of_absurd_size_and_the_memory_limit() -> None:
    huge = wrap(
        bar("<duration>4</duration>", 1).replace("<divisions>1<", "<divisions>16000000<")
        + bar("<duration>2000000000</duration>", 2)
    )
    reader = ReaderChild()
    try:
        reader.read("musicxml", huge)
    except BadInput as error:
        assert_sentence(error)
    assert len(reader.read("musicxml", XML)) == 417
    limits = Path(f"/proc/{reader.process.pid}/limits") if reader.process else None
    if limits is not None and limits.exists():
        assert re.search(r"Max address space +1500000000 ", limits.read_text())
    reader.stop()


def test_many_visitors_at_once() -> None:
    answers: list[int] = []

    def visit(k: int) -> None:
        if k % 3:
            answers.append(len(open_score(write_musicxml(a_score()), "x")))
        else:
            with pytest.raises(BadInput):
                open_score(wrap('<measure number="1"/>'), "x")
            answers.append(0)

    threads = [threading.Thread(target=visit, args=(k,)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [0] * 4 + [11] * 8


def test_a_reader_that_does_not_start_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy enough; the next file is read."""
    reader = ReaderChild()
    monkeypatch.setattr(child_module, "START_SECONDS", 0.0)
    with pytest.raises(BadInput, match="could not start"):
        reader.read("musicxml", XML)
    monkeypatch.undo()
    assert len(reader.read("musicxml", XML)) == 417
    reader.stop()


def test_an_import_does_not_count_as_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module takes five seconds to import, where four are allowed for an answer."""
    monkeypatch.setattr(child_module, "WAIT_SECONDS", 4.0)
    reader = ReaderChild()
    assert reader.call("tests.helpers.slow_import:echo", b"notes", child_module.READING) == b"notes"
    reader.stop()
