"""The layout of STYLE.md, kept: imports point one way, and importing a module does no work."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "studio", "training")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Who may import whom. Inside engine: music ← tokens ← models ← bundle, and sound ← pipeline. The likeness of bars
# (measures.form) reads arrays only: it imports nothing of ours, and tokens and models may use it.
ALLOWED = {
    "engine.limits": {"engine.limits"},
    "engine.music": {"engine.music", "engine.limits"},
    "engine.measures.form": {"engine.measures.form"},
    "engine.tokens": {"engine.music", "engine.tokens", "engine.measures.form"},
    "engine.models": {"engine.music", "engine.tokens", "engine.models", "engine.measures.form"},
    "engine.checkpoints.bundle": {"engine.music", "engine.tokens", "engine.models"},
    "engine.sound": {"engine.music", "engine.sound"},
    "engine": {"engine"},
    "studio": {"engine", "studio"},
    "training": {"engine", "training"},
}


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[str]:
    """Every absolute module name that the file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = dotted(path).split(".")
                keep = len(parent) - node.level + (path.name == "__init__.py")
                base = ".".join([*parent[:keep], *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def layer(name: str) -> str:
    """The most exact row of ALLOWED that a module belongs to."""
    return max((row for row in ALLOWED if name == row or name.startswith(row + ".")), key=len)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_one_way(path: Path) -> None:
    name = dotted(path)
    allowed = ALLOWED[layer(name)]
    ours = {i for i in imported_names(path) if i.split(".")[0] in (*PACKAGES, "tests", "app")}
    wrong = {i for i in ours if i not in PACKAGES and not any(i == a or i.startswith(a + ".") for a in allowed)}
    assert not wrong, f"{name} imports {sorted(wrong)}; it may import only {sorted(allowed)}"


@pytest.mark.parametrize("path", [p for p in MODULES if dotted(p).split(".")[0] != "studio"], ids=dotted)
def test_only_studio_imports_gradio(path: Path) -> None:
    assert not {i for i in imported_names(path) if i.split(".")[0] in ("gradio", "gradio_client")}


def test_relative_imports_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader above, on a hand-made file."""
    folder = tmp_path / "engine" / "music"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("from ..sound import clip\nfrom . import types\nimport numpy.linalg\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert set(imported_names(folder / "a.py")) == {
        "engine.sound", "engine.sound.clip", "engine.music", "engine.music.types", "numpy.linalg",
    }  # fmt: skip


IMPORT_ALL = """
import sys, time, importlib, threading, socket
def refuse(*a, **k): raise AssertionError("a module opened a network connection while it was imported")
socket.socket.connect = refuse
for name in sys.argv[1:]:
    importlib.import_module(name)
seconds = time.process_time()  # of the processor: a busy machine must not fail the test
torch = sys.modules.get("torch")
assert torch is None or not torch.cuda.is_initialized(), "a module chose a device while it was imported"
assert threading.active_count() == 1, f"threads started by an import: {threading.enumerate()}"
print(f"{seconds:.2f}")
"""


def import_all(names: list[str], folder: Path) -> float:
    """Import the modules in a fresh interpreter that sees an empty folder; return its processor seconds."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names],
        cwd=folder, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout)


def test_importing_engine_does_no_work(tmp_path: Path) -> None:
    names = [dotted(p) for p in MODULES if dotted(p).startswith("engine")]
    import_all(names, tmp_path)  # the first time, Python may still have to compile its libraries
    seconds = min(import_all(names, tmp_path) for _ in range(2))
    assert seconds < 5, f"importing all of engine took {seconds:.1f} s; import heavy libraries inside functions"
    assert not list(tmp_path.rglob("*.json")), "an import wrote a file"


def test_importing_training_parses_no_arguments(tmp_path: Path) -> None:
    """With strange arguments on the command line: a module that parses them at import would end the process."""
    names = [dotted(p) for p in MODULES if dotted(p).startswith("training")]
    import_all(names, tmp_path)
