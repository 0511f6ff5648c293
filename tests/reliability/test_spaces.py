"""The app under the conditions of a Space: offline, read-only folders, few packages."""

import ast
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from engine.music.io.midi import write_midi
from engine.music.io.write_musicxml import write_musicxml
from tests.helpers.command_line import little_piece
from tests.helpers.soak_report import Reporter
from tests.test_house import PROJECT

ROOT = Path(__file__).parents[2]
CODE = [ROOT / "app.py", *(p for name in ("engine", "studio", "training") for p in sorted((ROOT / name).rglob("*.py")))]
# Runs in every Python of the app before its own code: no connection leaves this machine, and the app's folder is
# read-only, even for root. What is tried all the same is written down.
GUARD = """
import builtins, io, os, socket, sys
ROOT, LOG = {root!r}, {log!r}
real_open, real_connect, real_find = io.open, socket.socket.connect, socket.getaddrinfo
def note(what):
    with real_open(LOG, "a") as log:
        log.write(what + "\\n")
def guarded(file, mode="r", *args, **kwargs):
    if any(letter in mode for letter in "wax+") and str(file).startswith(ROOT):
        raise OSError(30, "Read-only file system", str(file))
    return real_open(file, mode, *args, **kwargs)
def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        note(f"connect {{address}}")
        raise OSError(101, "Network is unreachable")
    return real_connect(self, address)
def find(host, *args, **kwargs):
    if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"):
        note(f"look up {{host}}")
        raise socket.gaierror(-3, "Temporary failure in name resolution")
    return real_find(host, *args, **kwargs)
io.open = builtins.open = guarded
socket.socket.connect, socket.getaddrinfo = connect, find
sys.dont_write_bytecode = True
"""


def front_matter() -> dict[str, str]:
    head = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    return {k: v.strip().strip('"') for k, v in (line.split(":", 1) for line in head.splitlines())}


def test_front_matter() -> None:
    matter = front_matter()
    assert matter["sdk"] == "gradio"
    assert f"gradio[mcp]=={matter['sdk_version']}" in PROJECT["dependencies"]
    assert matter["python_version"] in ("3.10", "3.12")  # what Spaces has
    assert (ROOT / matter["app_file"]).is_file()
    assert len(matter["short_description"]) <= 60
    assert matter["license"] == PROJECT["license"].lower()


def test_the_oldest_torch_that_spaces_list_is_accepted() -> None:
    assert "torch>=2.8" in PROJECT["dependencies"]
    app = [path for path in CODE if path.relative_to(ROOT).parts[0] != "training"]  # a Space does not train
    assert all("torch.compile" not in path.read_text(encoding="utf-8") for path in app)


@pytest.mark.parametrize("version", [(3, 10), (3, 12)])
def test_the_code_is_python_of_every_version(version: tuple[int, int]) -> None:
    """By the grammar of that version; and by its own interpreter wherever one is installed."""
    for path in CODE:
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=version)
    found = shutil.which(f"python{version[0]}.{version[1]}")
    if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
        code = "import sys\nfor p in sys.stdin.read().split('\\0'): compile(open(p, 'rb').read(), p, 'exec')"
        done = subprocess.run([found, "-c", code], input="\0".join(map(str, CODE)), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_nothing_happens_without_zero_gpu() -> None:
    code = (
        "import sys; from studio.gradio_compat.zerogpu import announce; assert not announce()\n"
        "assert 'spaces' not in sys.modules"
    )
    plain = {k: v for k, v in os.environ.items() if k != "SPACES_ZERO_GPU"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=plain, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


ON_ZERO_GPU = """
import sys
sys.modules["torch"] = None  # a CPU build ends `import spaces` on ZeroGPU; without torch the package leaves torch alone
from studio.gradio_compat.zerogpu import announce
assert announce()
import gradio
from spaces.zero.decorator import decorated_cache
print(*(f.__qualname__ for f in decorated_cache))
with gradio.Blocks() as page:
    gradio.Markdown("A page")
page.launch(prevent_thread_lock=True, quiet=True)
page.close()
"""


def test_the_package_of_zero_gpu_takes_the_app() -> None:
    """The real `spaces`: our function is named, and a launch reports the app to the host, for which a server stands in.

    `.ci/space-start` does the same with the whole app and a torch that has CUDA.
    """
    asked: list[str] = []

    class Host(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *of: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        environment = {
            **os.environ, "SPACES_ZERO_GPU": "true", "GRADIO_ANALYTICS_ENABLED": "False",
            "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{host.server_address[1]}",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", ON_ZERO_GPU], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )
        host.shutdown()
    assert done.returncode == 0, done.stderr
    assert "_nothing" in done.stdout
    assert asked == ["/startup-report"]


@dataclass(frozen=True)
class Spent:
    """Elapsed seconds and CPU seconds; the latter do not depend on other processes."""

    clock: float
    computing: float

    def within(self, limit: float, full: bool) -> bool:
        return (self.clock if full else self.computing) < limit

    def __str__(self) -> str:
        return f"{self.clock:.1f} s ({self.computing:.1f} s of computing)"


def computed(process: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def hosted(folder: Path, app: Path) -> Iterator[tuple[str, "Spent", Path]]:
    """Address of an app that is started like a Space, the time to its first page, and the list of what it tried."""
    log, guard = folder / "tried.txt", folder / "guard"
    guard.mkdir()
    log.touch()
    (guard / "sitecustomize.py").write_text(GUARD.format(root=str(app), log=str(log)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "gradio").mkdir()
    dead = "http://127.0.0.1:9"
    environment = {
        "PATH": "/nonexistent", "HOME": "/proc/nowhere", "PYTHONPATH": str(guard), "SPACE_ID": "someone/etude",
        "SYSTEM": "spaces", "CPU_CORES": "2", "HF_HUB_OFFLINE": "1", "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "gradio"), "TMPDIR": str(folder), "http_proxy": dead, "https_proxy": dead,
        "no_proxy": "127.0.0.1,localhost", "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    began = time.monotonic()
    with (folder / "output.txt").open("w") as output:
        server = subprocess.Popen([sys.executable, "app.py"], cwd=app, env=environment, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}/"
        while True:
            assert server.poll() is None, (folder / "output.txt").read_text()[-2000:]
            assert time.monotonic() - began < 280, "no page after 280 s"
            try:
                page = urllib.request.urlopen(url, timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        assert b"gradio" in page
        yield url, Spent(time.monotonic() - began, computed(server.pid)), log
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.parametrize("_full", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_first_page_offline_in_a_read_only_folder(_full: bool, soak_report: Reporter, tmp_path: Path) -> None:
    with hosted(tmp_path, ROOT) as (url, spent, log):
        (tmp_path / "piece.musicxml").write_bytes(write_musicxml(little_piece()))
        client = Client(url, verbose=False, download_files=str(tmp_path))
        _, about = client.predict(score=handle_file(tmp_path / "piece.musicxml"), api_name="/perform")
        assert about["notes"] == len(little_piece())
    tried = log.read_text()
    code = "import time; t = time.monotonic(); import engine.engine; print(time.monotonic() - t, time.process_time())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    loading = Spent(*map(float, done.stdout.split()))
    soak_report(
        29, "first page after start, as a Space; import of the engine", asked="under 30 s; under 5 s",
        found=f"{spent}; {loading}; connections tried: {tried or 'none'}",
        passed=not tried and spent.within(30, _full) and loading.within(5 if _full else 15, _full),
    )  # fmt: skip


@pytest.mark.parametrize("_full", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_without_weights_it_starts_with_a_message(_full: bool, soak_report: Reporter, tmp_path: Path) -> None:
    app = tmp_path / "app"
    for name in ("engine", "studio", "examples"):
        shutil.copytree(ROOT / name, app / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
    shutil.copy(ROOT / "app.py", app)
    (tmp_path / "piece.musicxml").write_bytes(write_musicxml(little_piece()))
    with hosted(tmp_path, app) as (url, spent, log):
        client = Client(url, verbose=False, download_files=str(tmp_path))
        missing = []
        for endpoint, sent in (
            ("compose", {}), ("perform", {"score": handle_file(tmp_path / "piece.musicxml")}),
            ("render", {"performance": played(tmp_path), "profile": "product"}),
            ("metrics", {"performance": played(tmp_path)}),
        ):  # fmt: skip
            with pytest.raises(AppError) as refusal:
                client.predict(**sent, api_name=f"/{endpoint}")
            missing.append(str(refusal.value))
        client.predict(performance=played(tmp_path), api_name="/render")  # the fitted piano has no weights
        sound, _ = client.predict(performance=played(tmp_path), api_name="/preview")
        prompts = client.predict(api_name="/list_prompts")
    named = [name for name in ("composer-v2", "pianist-v1", "-v2") if any(name in text for text in missing)]
    written = sorted(p.name for p in app.rglob("*") if p.suffix in (".pyi", ".pyc"))
    soak_report(
        25, "start without network, GPU, ffmpeg, weights, home; read-only folder",
        asked="starts within 30 s, says what is missing; what needs no weights works",
        found=f"{spent}; {' '.join(missing)} Preview {Path(sound).stat().st_size} bytes; "
        f"connections tried: {log.read_text() or 'none'}; written: {written or 'nothing'}",
        passed=len(named) == 3 and len(prompts) > 5 and not log.read_text() and not written
        and spent.within(30, _full),
    )  # fmt: skip


def played(folder: Path) -> dict:
    from engine.music.expression import deadpan

    (folder / "piece.mid").write_bytes(write_midi(deadpan(little_piece())))
    return handle_file(folder / "piece.mid")
