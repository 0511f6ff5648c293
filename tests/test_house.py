"""The files around the code: dependency lists, the command, what continuous integration runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_requirements_equal_pyproject() -> None:
    lines = [line.strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert [line for line in lines if line and line[0] not in "#-"] == PROJECT["dependencies"]


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


def test_every_module_that_make_runs_exists() -> None:
    for module in re.findall(r"\$\(PYTHON\) -m (training\.\w+)", (ROOT / "Makefile").read_text()):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module


def test_console_command_is_installed() -> None:
    command = Path(sys.executable).with_name("etude")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "perform" in done.stdout
