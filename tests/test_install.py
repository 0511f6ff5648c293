"""The installed package: in an empty folder, with weights from a clone or from an address."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.test_house import ROOT

SMALL = ROOT / "tests" / "data" / "chopin_prelude_28_7.krn"
BUILD = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
PERFORM = f"""
import sys, etude
score = etude.Score.open({str(SMALL)!r})
performance = etude.perform(score, tempo=+1)
print(repr(performance))
assert not {{"engine", "studio", "training"}} & set(sys.modules), "a name outside etude was imported"
assert etude.Score.__module__.startswith("etude."), etude.Score.__module__
"""
COMMAND = "import sys; from etude import main; sys.exit(main())"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as site-packages would have it."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in an empty folder, with the package in front of everything else."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("ETUDE_")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=240,
        env={**plain, "PYTHONPATH": str(installed), "ETUDE_CACHE_DIR": str(folder / "cache"), **environment},
    )  # fmt: skip


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """The clone's checkpoints at an address of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *of: object) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(ROOT / "checkpoints")))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield serving
    serving.shutdown()
    serving.server_close()


def test_one_name_and_no_weights(installed: Path) -> None:
    assert sorted(p.name for p in installed.iterdir() if not p.name.endswith(".dist-info")) == ["etude"]
    names = {p.name for p in installed.rglob("*")}
    assert "model.safetensors" not in names
    assert {"grand.sf3", "roll.css", "roll_view.js", "prompts.json", "notation_reader.py", "studio.md"} <= names
    for config in ROOT.glob("checkpoints/*/config.json"):
        if (config.parent / "model.safetensors").exists():  # each is pinned by its hash
            pinned = json.loads((installed / "etude" / config.relative_to(ROOT)).read_text())["weights_sha256"]
            assert pinned == hashlib.sha256((config.parent / "model.safetensors").read_bytes()).hexdigest()


def test_weights_of_a_clone(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "-c", PERFORM, ETUDE_CHECKPOINTS=str(ROOT / "checkpoints"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("Performance: 168 notes")


def test_it_transcribes_without_other_packages(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys, etude\n"
        f"found = etude.transcribe({str(ROOT / 'engine/sound/prompts_data/gymnopedie.flac')!r})\n"
        "assert not {'transkun', 'torchaudio'} & set(sys.modules)\n"
        "print(len(found))"
    )
    done = run(installed, tmp_path, "-c", code, ETUDE_CHECKPOINTS=str(ROOT / "checkpoints"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 15


def test_weights_are_fetched_once(installed: Path, tmp_path: Path, server: ThreadingHTTPServer) -> None:
    command = ("-c", COMMAND, "perform", str(SMALL), "-o", "out.mid")
    missing = run(installed, tmp_path, *command)
    assert missing.returncode == 2
    assert "set ETUDE_CHECKPOINTS" in missing.stderr
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    done = run(installed, tmp_path, *command, ETUDE_WEIGHTS_URL=address)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out.mid").stat().st_size > 1000
    assert {p.name.split("-v")[0] for p in (tmp_path / "cache").iterdir()} == {"pianist", "expected"}
    again = run(installed, tmp_path, *command)  # without the address: they are kept
    assert again.returncode == 0, again.stderr[-2000:]


def test_other_weights_are_refused(installed: Path, tmp_path: Path, server: ThreadingHTTPServer) -> None:
    code = (
        "from pathlib import Path; from etude import BundleError\n"
        "from etude.engine.checkpoints.weights import weights_file\n"
        "for name in ('expected-v2', 'nothing-v1'):\n"
        "    try: weights_file(Path(name), '0' * 64)\n"
        "    except BundleError as error: print(error)"
    )
    done = run(installed, tmp_path, "-c", code, ETUDE_WEIGHTS_URL=f"http://127.0.0.1:{server.server_address[1]}")
    assert done.returncode == 0, done.stderr[-2000:]
    other, nothing = done.stdout.splitlines()
    assert "is not the weights of this version" in other
    assert "could not be fetched" in nothing
    assert not list((tmp_path / "cache").glob("*.safetensors"))
