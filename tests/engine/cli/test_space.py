"""`etude space push`, against a stand-in for the Hub; nothing here was tried against the real one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli.space_commands import SENT, pack
from engine.music.types import BadInput
from tests.helpers.hub import TOKEN, Hub, is_large, serving
from tests.test_house import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with the app's command line and a few files of each kind."""
    clone = tmp_path / "clone"
    listed = subprocess.run(["git", "ls-files", *SENT], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    for name in listed:
        large = ("checkpoints/renderer", "checkpoints/piano-codec", "checkpoints/transcriber", "checkpoints/composer")
        if name.startswith((*large, "studio/", "docs/")):
            continue  # a hundred megabytes and two hundred files more would show nothing new
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(ROOT / name, clone / name)
    for folder in ("studio", "docs", "tests"):
        (clone / folder).mkdir()
        (clone / folder / "note.txt").write_text(folder)
    (clone / "checkpoints" / "big.safetensors").write_bytes(os.urandom(11_000_000))
    subprocess.run(["git", "init", "-q"], cwd=clone, check=True)
    commit(clone)
    return clone


def commit(clone: Path) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["add", "-A"], [*identity, "commit", "-qm", "All"]):
        subprocess.run(["git", *command], cwd=clone, check=True)


def push(clone: Path, hub: Hub, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {
        "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(clone), "HOME": str(clone.parent),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "no_proxy": "127.0.0.1", **environment,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "engine.cli", "space", "push", *arguments],
        cwd=clone, env={**os.environ, **given}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_a_space_is_one_commit_with_large_files_apart(clone: Path) -> None:
    with serving() as hub:
        done = push(clone, hub, "someone/etude", "--private")
        assert done.returncode == 0, done.stderr
        assert f"{hub.address}/spaces/someone/etude" in done.stdout
        assert hub.repos["someone/etude"]["sdk"] == "gradio"
        assert "private" in (hub.repos["someone/etude"].get("visibility"), *hub.repos["someone/etude"])
        assert len(hub.commits) == 1
        sent = {n for n in hub.files if n != ".gitattributes"}
        here = {str(p.relative_to(clone)) for p in clone.rglob("*") if p.is_file()}
        assert sent == {n for n in here if not n.startswith((".git/", "tests/")) and "__pycache__" not in n}
        assert all(hub.files[n] == (clone / n).read_bytes() for n in sent)
        attributes = hub.files[".gitattributes"].decode()
        assert {n for n in sent if hub.files[n] in hub.large.values()} <= {n for n in sent if is_large(n, attributes)}
        again(clone, hub)
        refused = push(clone, hub, "someone/etude", HF_TOKEN="hf_of_somebody_else")
        assert refused.returncode == 2
        assert "The Hub refused the upload" in refused.stderr


def again(clone: Path, hub: Hub) -> None:
    """A second push: files that are gone, small, large and a whole folder, are gone from the Space; one is changed."""
    folder = {name for name in hub.files if name.startswith("checkpoints/reference/")}
    gone = {"examples/README.md", "checkpoints/big.safetensors", *folder}
    assert len(folder) > 2
    assert gone < hub.files.keys()
    before = dict(hub.files)
    for name in gone:
        (clone / name).unlink()
    (clone / "studio" / "note.txt").write_text("changed")
    commit(clone)
    done = push(clone, hub, "someone/etude", "--message", "Second")
    assert done.returncode == 0, done.stderr
    assert hub.commits[1:] == ["Second"]
    assert before.keys() - hub.files.keys() == gone
    assert {name for name, data in hub.files.items() if data != before.get(name)} == {"studio/note.txt"}


def test_what_is_refused(clone: Path, tmp_path: Path) -> None:
    with serving() as hub:
        assert "OWNER/NAME" in push(clone, hub, "etude").stderr
        (clone / "app.py").unlink()
        done = push(clone, hub, "someone/etude")
        assert done.returncode == 2
        assert "not committed" in done.stderr
        assert hub.asked == []
    with pytest.raises(BadInput, match="made from a clone"):
        pack(tmp_path, tmp_path)
