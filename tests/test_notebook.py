"""The example notebook runs from its first cell to its last, as Jupyter would run it."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

from tests.test_house import ROOT


def test_the_example_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    notebook = nbformat.read(ROOT / "examples" / "compare-pianists.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is kept without its outputs"
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(ROOT / "examples")}})
    client.execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [cell.outputs[-1].data for cell in cells if cell.outputs]
    assert shown[0]["text/plain"].startswith("Score: ")
    assert 'class="note' in shown[0]["text/html"]
    assert "audio" in shown[1]["text/html"]
    assert "Tempo, beats/min" in shown[2]["text/plain"]
    assert int(shown[-1]["text/plain"]) >= 12  # three performances, four panels
