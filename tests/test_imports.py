"""Layers of the packages: imports point one way without circles, and importing a module does no work."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "studio", "training")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_FILES = 20  # in one folder
DATA_FOLDERS = ("tests/data", "examples")  # recordings and scores, no code

# Who may import whom, from the lowest layer up. A module belongs to the most exact row; it may import its own row and
# the rows named beside it: "engine.music" is that row alone, "engine.models*" every row that begins so.
LAYERS = {
    "engine.music": "",
    "engine.music.engraving": "engine.music",
    "engine.music.io": "engine.music*",
    "engine.music.document": "engine.limits engine.music*",
    "engine.limits": "",
    "engine.progress": "",
    "engine.cache": "",
    "engine.measures.form": "",  # how alike bars are: it reads arrays only
    "engine.tokens": "engine.music engine.music.engraving engine.measures.form",
    "engine.sound": "engine.music",
    "engine.models.nn": "",
    "engine.models.codec": "engine.tokens engine.models.nn",
    "engine.models.renderer": "engine.tokens engine.models.nn engine.models.codec",
    "engine.models.composer": "engine.music engine.tokens engine.models.nn",
    "engine.models.pianist": "engine.music engine.models.nn",
    "engine.models.expected": "engine.music engine.models.nn engine.models.pianist",
    "engine.models.xmvae": "engine.music engine.tokens engine.models.nn",
    "engine.models.midi_valle": "engine.tokens engine.models.nn",
    "engine.models.tagger": "engine.music engine.tokens engine.models.nn engine.measures.form",
    "engine.models.transcriber": "",
    "engine.models.ddsp_piano": "",
    "engine.checkpoints": "engine.music engine.tokens engine.models*",
    "engine.sound.transcribe": "engine.music engine.models.transcriber engine.checkpoints",
    "engine.compose.form": "engine.music",
    "engine.requests": "engine.music engine.sound engine.models.composer engine.models.pianist engine.compose.form",
    "engine.protocol": "engine.music engine.sound engine.models.pianist engine.requests",
    "engine.compose": "engine.music* engine.tokens engine.models.nn engine.models.composer engine.compose.form "
    "engine.measures.form engine.requests",
    "engine.compose.passages": "engine.music* engine.tokens engine.models.xmvae engine.checkpoints engine.compose "
    "engine.requests",
    "engine.measures.sound_metrics": "engine.music engine.sound",
    "engine.render": "engine.music engine.tokens engine.sound* engine.models* engine.checkpoints "
    "engine.measures.sound_metrics engine.requests",
    "engine.engine": "engine.music* engine.sound* engine.models* engine.checkpoints engine.compose* engine.render "
    "engine.requests",
    "engine.process": "engine.music* engine.sound engine.models* engine.checkpoints engine.engine "
    "engine.requests engine.protocol",
    "engine.untrusted": "engine.music* engine.process",
    "engine.files": "engine.music* engine.untrusted",
    "engine.measures": "engine.music* engine.tokens engine.sound* engine.models.pianist engine.models.tagger "
    "engine.checkpoints engine.files "
    "engine.measures*",
    "engine.cli": "engine*",
    "engine.etude": "engine*",
    "studio.state": "engine*",
    "studio.service": "engine* studio.state",
    "studio.actions": "engine* studio.state studio.service",
    "studio.widgets": "engine* studio.state studio.service studio.actions",
    "studio.project": "engine* studio.state studio.service studio.actions",
    "studio.api": "engine* studio.service studio.actions studio.project studio.gradio_compat",
    "studio.gradio_compat": "engine* studio.state studio.actions",
    "studio.panels.layout": "engine* studio.state studio.service studio.actions studio.widgets",
    "studio.shell.layout": "engine* studio.state studio.service studio.actions studio.widgets studio.panels.layout",
    "studio.page": "engine* studio.state studio.service studio.actions studio.widgets studio.shell.layout",
    "studio.panels": "engine* studio.state studio.service studio.actions studio.widgets studio.project studio.page "
    "studio.gradio_compat studio.panels.layout studio.shell.layout",
    "studio.shell": "engine* studio*",
    "training.core": "engine*",
    "training.pianist": "engine* training.core",
    "training.composer": "engine* training.core training.tagger training.xmvae",
    "training.sound": "engine* training.core",
    "training.midi_valle": "engine* training.core training.sound",
    "training.xmvae": "engine* training.core training.pianist",
    "training.tagger": "engine* training.core training.composer",
    "training.queue": "training.core",
    "training.bench": "engine* training.core training.xmvae",
    "training.assets": "engine* training.core",
}
EVERYWHERE = ("engine.limits", "engine.progress", "engine.cache")  # any module may read these
MODULE_ROWS = {
    "studio.shell.help": "studio.shell.layout",
    "studio.shell.export_menu": "studio.shell.layout",
    "studio.shell.welcome": "studio.shell.layout",
    "studio.shell.open_events": "studio.panels",  # the panel of projects opens files in the same way
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


def row_of(name: str) -> str:
    """The row of LAYERS that a module belongs to."""
    if name in MODULE_ROWS:
        return MODULE_ROWS[name]
    if name.startswith("studio.panels.") and name.endswith(".layout"):
        return "studio.panels.layout"
    return max((row for row in LAYERS if name == row or name.startswith(row + ".")), key=len)


@cache
def all_imports(path: Path) -> frozenset[str]:
    return frozenset(imported_names(path))


OURS = {dotted(p) for p in MODULES if p.name != "__init__.py"} | {"app"}


@cache
def our_imports(path: Path) -> frozenset[str]:
    """The modules of ours that a file imports, packages aside."""
    found = {name for name in all_imports(path) if name in OURS or name.split(".")[0] == "tests"}
    return frozenset(found - {dotted(path)})


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py"], ids=dotted)
def test_imports_point_one_way(path: Path) -> None:
    row = row_of(dotted(path))
    wrong = []
    for name in our_imports(path):
        theirs = "" if name.split(".")[0] not in PACKAGES else row_of(name)
        fits = (theirs == a or (a[-1] == "*" and theirs.startswith(a[:-1])) for a in LAYERS[row].split())
        if theirs not in (row, *EVERYWHERE) and not any(fits):
            wrong.append(name)
    assert not wrong, f"{dotted(path)} imports {sorted(wrong)}; {row} may import only {LAYERS[row]}"


def circle_in(imports: dict[str, frozenset[str]]) -> list[str]:
    """A chain of modules, each of which imports the next, and the last the first; empty when there is none."""
    done: set[str] = set()

    def visit(name: str, chain: list[str]) -> list[str]:
        if name in chain:
            return chain[chain.index(name) :]
        if name in done:
            return []
        for other in sorted(imports.get(name, ())):
            if found := visit(other, [*chain, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(imports) if (found := visit(name, []))), [])


def test_no_modules_import_each_other_in_a_circle() -> None:
    circle = circle_in({dotted(path): our_imports(path) for path in MODULES})
    assert not circle, " -> ".join([*circle, circle[0]])


def test_a_circle_is_found() -> None:
    imports = {"a": frozenset({"b"}), "b": frozenset({"c", "d"}), "c": frozenset(), "d": frozenset({"b"})}
    assert circle_in(imports) == ["b", "d"]
    assert circle_in({**imports, "d": frozenset({"c"})}) == []


def test_no_folder_holds_more_than_twenty_files() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    count = Counter(str(Path(name).parent) for name in listed.splitlines())
    full = {folder: n for folder, n in count.items() if n > MAX_FILES and not folder.startswith(DATA_FOLDERS)}
    assert not full, f"more than {MAX_FILES} files: {full}"


@pytest.mark.parametrize("path", [p for p in MODULES if dotted(p).split(".")[0] != "studio"], ids=dotted)
def test_only_studio_imports_gradio(path: Path) -> None:
    assert not {i for i in all_imports(path) if i.split(".")[0] in ("gradio", "gradio_client")}


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
    seconds = import_all(names, tmp_path)
    if seconds >= 5:  # the first time, Python may still have had to compile its libraries
        seconds = min(import_all(names, tmp_path) for _ in range(2))
    assert seconds < 5, f"importing all of engine took {seconds:.1f} s; import heavy libraries inside functions"
    assert not list(tmp_path.rglob("*.json")), "an import wrote a file"


def test_importing_training_parses_no_arguments(tmp_path: Path) -> None:
    """With strange arguments on the command line: a module that parses them at import would end the process."""
    names = [dotted(p) for p in MODULES if dotted(p).startswith("training")]
    import_all(names, tmp_path)
