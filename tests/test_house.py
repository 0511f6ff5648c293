"""Files around the code: dependency lists, the command, continuous integration."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_requirements_equal_pyproject() -> None:
    lines = [line.strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    listed = [line for line in lines if line and line[0] not in "#-"]
    assert [line for line in listed if not line.startswith("torch>")] == PROJECT["dependencies"][1:]


def test_the_torch_of_a_space_has_the_gpu_build_that_zero_gpu_lists() -> None:
    """A CPU build, as from PyTorch's own index, ends a ZeroGPU Space at `import spaces`."""
    text = (ROOT / "requirements.txt").read_text()
    assert "torch>=2.8,<2.12\n" in text
    assert "index-url" not in text
    assert PROJECT["dependencies"][0] == "torch>=2.8"


def third_party(folders: tuple[str, ...]) -> set[str]:
    """The packages of others that code imports, at its top or inside a function."""
    found = set()
    for path in (p for folder in folders for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
                names = [a.value for a in node.args if isinstance(a, ast.Constant)]
            found |= {name.split(".")[0] for name in names}
    return found - sys.stdlib_module_names - {"engine", "studio", "training"}


def test_every_dependency_is_imported_and_every_import_is_a_dependency() -> None:
    declared = {re.split(r"[\[<>=]", line)[0] for line in PROJECT["dependencies"]}
    modules = {"fluidsynth" if name == "pyfluidsynth" else name for name in declared}
    with_gradio, on_demand = {"starlette", "huggingface_hub"}, {"ray", "spaces"}
    imported = third_party(("engine", "studio"))
    assert modules - imported == set()
    assert imported - modules == with_gradio | on_demand


def test_gradio_is_pinned() -> None:
    """The piano roll depends on Gradio's details, and Gradio moves monthly."""
    assert "gradio[mcp]==6.31.0" in PROJECT["dependencies"]


def test_ci_runs_make_test() -> None:
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert "make test" in run.read_text()


def test_make_knows_its_targets() -> None:
    for target in ("app", "test", "check", "bench", "eval", "soak", "train-pianist", "setup"):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


TEXTS = [
    ROOT / "Makefile", *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("checkpoints/*/MODEL_CARD.md"),
    *ROOT.glob("training/**/*.sh"), *ROOT.glob("training/**/*.toml"),
    *(path for package in ("engine", "studio", "training") for path in (ROOT / package).rglob("*.py")),
]  # fmt: skip


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_written_down_exists(path: Path) -> None:
    """`python -m MODULE` in documents and docstrings."""
    for module in re.findall(r"-m ((?:engine|studio|training|tests)(?:\.\w+)+)", path.read_text(encoding="utf-8")):
        file = ROOT / module.replace(".", "/")
        assert file.with_suffix(".py").is_file() or (file / "__main__.py").is_file(), module


NAME = re.compile(r"`([\w/]+\.(?:py|js|json))`((?:,? (?:and )?`[A-Za-z_][\w.]*`)+)")


def test_names_in_the_architecture_document_stand_in_their_files() -> None:
    """Each `path` that is followed by `names`: the file exists and has the names."""
    found = NAME.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    assert len(found) > 15
    files = [file for folder in ("engine", "studio", "training") for file in (ROOT / folder).rglob("*.*")]
    for path, names in found:
        texts = [f.read_text(encoding="utf-8") for f in files if f"/{f.relative_to(ROOT)}".endswith(f"/{path}")]
        assert texts, f"docs/architecture.md: there is no {path}"
        for name in re.findall(r"`([\w.]+)`", names):
            if name.endswith((".py", ".js")):
                break  # the next file of a list
            assert any(name.rsplit(".", 1)[-1] in text for text in texts), f"docs/architecture.md: no {name} in {path}"


def test_console_command_is_installed() -> None:
    command = Path(sys.executable).with_name("etude")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "perform" in done.stdout
