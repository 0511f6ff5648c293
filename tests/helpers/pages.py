"""A server, a browser and a visitor for the tests of the page."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from playwright.sync_api import Browser, Locator, Page, TimeoutError, sync_playwright

from engine.music.io.midi import read_midi_performance
from engine.music.types import Performance

ROOT = Path(__file__).parents[2]
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip
# Chromium's own, now and then, on a machine without a sound card
NO_SOUND = "AudioContext encountered an error from the audio device"
PATIENCE_SEC = 90  # time limit; a busy machine needs up to a minute for a second's work
SHORT = "Chopin, Prélude op. 28 no. 7"


@contextmanager
def serving(port: int = 0, state_folder: str = "", **variables: str) -> Iterator[str]:
    """Start a server and yield its address; by default on a free port with an empty state folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = port or probe.getsockname()[1]
    own = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}  # the app's choice, not the tests'
    state = tempfile.TemporaryDirectory(prefix="etude-state-")  # not the developer's state folder
    environment = {**own, "PYTHONUNBUFFERED": "1", "ETUDE_STATE_DIR": state_folder or state.name, **variables}
    command = [sys.executable, "-X", "faulthandler", "app.py", "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    url = f"http://127.0.0.1:{port}/"
    try:
        until = time.monotonic() + 180
        while True:
            assert server.poll() is None, "the server ended before it served a page"
            assert time.monotonic() < until, "the server served no page within three minutes"
            try:
                urllib.request.urlopen(url, timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGABRT)  # prints where each of its threads is
            raise
        state.cleanup()


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        yield browser
        browser.close()


def executable() -> str:
    """Where the system's Chromium is."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "no Chromium on this machine: install the system's chromium, or set CHROMIUM to its path"
    return path


@dataclass
class Visitor:
    """One visitor's page, and its errors."""

    page: Page
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    @property
    def canvas(self) -> Locator:
        return self.page.locator("#roll canvas.roll")

    def data(self, name: str) -> str:
        return self.canvas.get_attribute(f"data-{name}") or ""

    def count(self) -> int:
        return int(self.data("count") or 0)

    def wait(self, script: str, seconds: float = PATIENCE_SEC) -> None:
        """Until an expression over `d`, the data attributes of the roll, is true; else say what stands there."""
        try:
            self.page.wait_for_function(
                f"() => {{ const d = document.querySelector('#roll canvas.roll')?.dataset ?? {{}}; return {script}; }}",
                timeout=seconds * 1000,
            )
        except TimeoutError:
            stands = self.page.evaluate("({...document.querySelector('#roll canvas.roll')?.dataset})")
            told = self.page.locator("#roll .head").inner_text()
            raise TimeoutError(f"not within {seconds} s: {script}; {stands}; {told!r}; {self.errors}") from None

    def wait_for_sound(self, seconds: float = PATIENCE_SEC) -> None:
        """Until the sound of exactly the notes that are shown is in the player."""
        self.wait("d.sound && d.sound === `${d.doc}.${d.take}.${d.rev}`", seconds)

    def open(self, title: str) -> None:
        doc = self.data("doc")
        self.page.locator("#example input").click()
        self.page.get_by_role("option", name=title).click()
        self.wait(f"d.doc !== '{doc}' && +d.count > 0")

    def at(self, ms: float, pitch: float) -> tuple[float, float]:
        """Pixel position of a time and a pitch."""
        view, box = json.loads(self.data("view")), self.canvas.bounding_box()
        assert box
        x = box["x"] + 1 + view["keyW"] + (ms - view["t0"]) * view["pxPerMs"]
        return x, box["y"] + 1 + view["rulerH"] + (view["hi"] - pitch + 0.5) * view["rowH"]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=4)
        self.page.mouse.up()

    def lens(self, name: str) -> None:
        """Show one side of the dock under the roll."""
        self.page.locator("#dock > .tab-wrapper").get_by_role("tab", name=name, exact=True).click()

    def drag_slider(self, name: str, share: float) -> float:
        """Drag a slider to a share of its width; return the seconds until the roll shows the new performance."""
        slider = self.page.locator(f"#{name} input[type=range]")
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box
        take, y = self.data("take"), box["y"] + box["height"] / 2
        self.drag((box["x"] + box["width"] / 2, y), (box["x"] + box["width"] * share, y))
        began = time.perf_counter()
        self.wait(f"d.take !== '{take}'")
        return time.perf_counter() - began

    def export(self, kind: str) -> None:
        """Choose an entry of the Export menu."""
        self.page.locator("#export").click()
        self.page.locator(f"#save-{kind}").click()

    def download(self, kind: str) -> tuple[str, bytes]:
        with self.page.expect_download(timeout=1000 * PATIENCE_SEC) as waiting:
            self.export(kind)
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()

    def performance(self) -> Performance:
        """The performance on the server."""
        return read_midi_performance(self.download("midi")[1])

    def sound(self) -> tuple[np.ndarray, int]:
        """The player's sound, (num_samples,), and its sample rate."""
        source = self.page.evaluate("document.querySelector('#roll audio').src")
        samples, rate = soundfile.read(io.BytesIO(urllib.request.urlopen(source).read()))
        return np.asarray(samples), rate


def visit(browser: Browser, address: str, score: bool = False, **context: object) -> Visitor:
    """Open the page as a new visitor, and wait for the first example. SLOW_BROWSER=6 slows it down so often.

    score  whether the engraved score may open by itself, as it does on a large screen
    """
    page = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **context}).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(1000 * PATIENCE_SEC)
    if not score:  # engraving costs time
        page.add_init_script("if (!localStorage.getItem('etude-score')) localStorage.setItem('etude-score', 'closed')")
    visitor = Visitor(page)
    page.on("pageerror", lambda e: visitor.errors.append(str(e)))
    page.on(
        "console",
        lambda m: visitor.errors.append(m.text) if m.type == "error" and NO_SOUND not in m.text else None,
    )
    host = address.split("/")[2]
    page.on(
        "request",
        lambda r: None if host in r.url or r.url.startswith(("data:", "blob:")) else visitor.outside.append(r.url),
    )
    if slower := os.environ.get("SLOW_BROWSER"):
        page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": float(slower)})
    page.goto(address, wait_until="domcontentloaded")
    visitor.canvas.wait_for()
    visitor.wait("+d.count > 0")
    return visitor


def visit_by_phone(browser: Browser, address: str) -> Visitor:
    """`visit` on a phone in dark mode."""
    return visit(browser, address, viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)


def leave_phone(visitor: Visitor) -> None:
    """What stands on the phone's page now fits its width and has names, and nothing has gone wrong."""
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390, "the page scrolls sideways on a phone"
    unnamed = visitor.page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, textarea')].filter(e => e.offsetParent !== null
        && !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim() && !e.title)
        .map(e => e.outerHTML)"""
    )
    assert unnamed == []
    assert visitor.errors == []
    visitor.page.context.close()
