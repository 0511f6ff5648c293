"""Set before numpy and torch are loaded: one thread (a second waits on a busy machine), no telemetry, no network."""

import os
import signal
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from engine.music.types import Score
    from engine.process.remote_engine import RemoteEngine
    from studio.service.shared_engine import SharedEngine
    from studio.state.session import Session
    from tests.helpers.pages import Visitor
    from tests.helpers.soak_report import Reporter

# A background process ignores Ctrl-C, and its children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # compiling takes a minute a shape; its own test enables it
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Each test process has its own folders: servers that share Gradio's folder share its quota.
for name, kind in (("ETUDE_STATE_DIR", "tests"), ("GRADIO_TEMP_DIR", "uploads")):
    if "PYTEST_XDIST_WORKER" in os.environ or name not in os.environ:  # a worker inherits its controller's
        os.environ[name] = os.path.join(tempfile.gettempdir(), f"etude-{kind}-{os.getpid()}")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a server of its own."""
    from tests.helpers.pages import serving

    with serving() as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A browser without a window."""
    from tests.helpers.pages import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture
def visitor(browser: "Browser", address: str) -> "Iterator[Visitor]":
    """A new visitor; fails the test after an error on the page or a request to another host."""
    from tests.helpers.pages import visit

    visitor = visit(browser, address)
    yield visitor
    assert visitor.errors == []
    assert visitor.outside == []
    visitor.page.context.close()


@pytest.fixture
def soak_report(request: pytest.FixtureRequest) -> "Reporter":
    """Takes a test's result: `soak_report(1, "what", asked="...", found="...", passed=...)`. See soak_report.py."""
    from tests.helpers.soak_report import FOLDER, Reporter

    return Reporter(FOLDER if request.node.get_closest_marker("soak") else None)


@pytest.fixture(scope="module")
def engine() -> "Iterator[RemoteEngine]":
    """The engine in subprocesses."""
    from engine.process.remote_engine import RemoteEngine

    engine = RemoteEngine()
    engine.start()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def shared(engine: "RemoteEngine") -> "SharedEngine":
    """The shared engine of a studio, with that engine."""
    from studio.service.shared_engine import SharedEngine

    return SharedEngine(engine)


@pytest.fixture(scope="module")
def score(shared: "SharedEngine") -> "Score":
    """A short example."""
    from studio.state.examples import EXAMPLES
    from tests.helpers.pages import SHORT

    return shared.read_example(EXAMPLES[SHORT])


@pytest.fixture(scope="module")
def session(shared: "SharedEngine", score: "Score") -> "Session":
    """A session with that example open."""
    from studio.actions import editing as actions
    from studio.state.session import Controls, Session
    from tests.helpers.pages import SHORT

    return actions.open_piece(shared, Session(), score, SHORT, Controls(), SHORT)
