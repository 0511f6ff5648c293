"""Untrusted data are read in a separate process, without blocking other visitors."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from engine.music.types import AudioClip, BadInput
from engine.sound.clip import encode_audio, read_audio
from engine.sound.prompts import FOLDER
from engine.untrusted import scores as safe
from engine.untrusted.scores import open_score
from studio.panels.project.events import proved
from studio.project.apart import audio_apart, project_apart
from studio.project.container import pack
from studio.project.document import Project, read_project, write_project
from studio.project.music import read_score, score_table
from studio.project.values import parse, written
from tests.engine.music.test_midi import assert_sentence
from tests.engine.untrusted.test_scores import wrap
from tests.studio.test_project_files import a_session

MOST_SEC = 0.5  # of computing in this process, where every other visitor waits meanwhile; it was 4.4 and 10.8 s


@pytest.fixture(autouse=True)
def _loaded() -> None:
    """The child's imports are not part of what the tests time."""
    safe.warm_up()
    project_apart(write_project(Project(a_session()))[0])


@contextmanager
def computing() -> Iterator[Callable[[], float]]:
    """The seconds of computing that this process has spent since."""
    began = time.process_time()
    yield lambda: time.process_time() - began


def nested_project() -> bytes:
    """A small file of millions of small lists: a megabyte that took the server 4.4 s to parse."""
    text = b"[" + b",".join([b"{},[],[0]"] * 790_000) + b"]"
    return pack({"document.json": text}, {})


def test_a_small_project_of_many_values_holds_nobody_up() -> None:
    data = nested_project()
    assert len(data) < 1_000_000
    with computing() as spent, pytest.raises(BadInput) as refused:
        project_apart(data)
    assert_sentence(refused.value)
    assert spent() < MOST_SEC


def test_a_tag_of_a_million_attributes_holds_nobody_up() -> None:
    attributes = " ".join(f'a{k:x}=""' for k in range(1_500_000)).encode()
    xml = b"<score-partwise " + attributes + b"/>"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        root = '<container><rootfiles><rootfile full-path="a.xml"/></rootfiles></container>'
        archive.writestr("META-INF/container.xml", root)
        archive.writestr("a.xml", xml)
    for data, name in ((xml, "a.musicxml"), (packed.getvalue(), "a.mxl")):
        with computing() as spent, pytest.raises(BadInput, match="tag of over a megabyte") as refused:
            open_score(data, name)
        assert_sentence(refused.value)
        assert spent() < MOST_SEC


def test_a_project_is_the_same_as_read_here() -> None:
    clip = read_audio((FOLDER / "goldberg.flac").read_bytes())
    data = write_project(Project(a_session(), settings={"render-seed": 7}))[0]
    apart, here = project_apart(data), read_project(data)
    assert write_project(apart)[0] == write_project(here)[0] == data
    assert not apart.session.performance.onset_sec.flags.writeable
    again = audio_apart((FOLDER / "goldberg.flac").read_bytes())
    assert again.sample_rate == clip.sample_rate
    np.testing.assert_array_equal(again.samples, clip.samples)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"fLaC" + bytes(100), b"PK\x03\x04", bytes(30)])
def test_what_is_damaged_is_a_sentence(data: bytes) -> None:
    for read in (project_apart, audio_apart):
        with pytest.raises(BadInput) as refused:
            read(data)
        assert_sentence(refused.value)
    tone = np.sin(np.arange(32_000) / 20).astype(np.float32)
    assert audio_apart(encode_audio(AudioClip(tone, 32_000))).duration_sec == pytest.approx(1.0)


ODD = [
    *({"staff": staff} for staff in ("-1", "-2", "128", "200", "99999")),
    {"num": "1001"}, {"num": "2000", "den": "1"}, {"den": "2048"}, {"den": "4096"},
    {"number": "2000000"}, {"number": "99999999999"}, {"num": "1000", "den": "1"},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_what_is_opened_can_be_saved_and_opened_again(odd: dict[str, str]) -> None:
    """Odd values are mended or refused when a file is opened, not when the work is wanted back."""
    v = {"staff": "1", "num": "4", "den": "4", "number": "1", **odd}
    xml = wrap(
        f'<measure number="{v["number"]}"><attributes><divisions>1</divisions><time><beats>{v["num"]}</beats>'
        f"<beat-type>{v['den']}</beat-type></time></attributes><note><pitch><step>C</step><octave>4</octave></pitch>"
        f"<duration>4</duration><staff>{v['staff']}</staff></note></measure>"
    )
    try:
        score = open_score(xml, "odd.musicxml")
    except BadInput as refused:
        assert_sentence(refused)
        assert "staff" not in odd
        return
    assert read_score(parse(written(score_table(score)))).digest == score.digest


def test_what_could_not_be_opened_again_is_not_stored() -> None:
    proved(write_project(Project(a_session()))[0])
    with pytest.raises(BadInput, match="not stored: This project file is damaged"):
        proved(write_project(Project(a_session(velocity=300)))[0])
