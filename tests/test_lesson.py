"""The lesson runs from top to bottom, on drawn pets, and shows its pictures."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
MINUTES = 20
"""What a cell may take on a busy machine; the whole takes a few minutes."""


def test_the_notebook_is_fresh_and_holds_no_results() -> None:
    made = runpy.run_path(str(DOCS / "make_lesson.py"))
    assert made["TARGET"].read_text(encoding="utf-8") == made["notebook"](), "python docs/make_lesson.py"


@pytest.mark.slow
def test_the_lesson_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    # Drawn pets: the same lesson whatever is on this machine, and no network.
    monkeypatch.setenv("EDGETL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(DOCS.parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "data").mkdir()
    notebook = nbformat.read(DOCS / "tutorial" / "lesson.ipynb", as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=60 * MINUTES, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    kept = os.environ.get("EDGETL_LESSON_OUT")
    if kept:
        nbformat.write(notebook, kept)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    pictures = [len([o for o in cell.outputs if "image/png" in o.get("data", {})]) for cell in cells]
    assert sum(pictures) >= 15
    texts = [o.text for cell in cells for o in cell.outputs if o.output_type == "stream" and o.name == "stdout"]
    said = "\n".join(texts)
    for line in ("drawn-pets: 6 classes", "sound now: True", "put back: 3 files", "of 6 are now called cat"):
        assert line in said, line
