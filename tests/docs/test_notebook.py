"""docs/tutorial.ipynb is the tutorial, and runs from its first cell to its last."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_notebook_is_what_the_tutorial_says():
    make = runpy.run_path(str(DOCS / "generate_notebook.py"))["notebook"]
    wanted = make((DOCS / "index.md").read_text(encoding="utf-8"))
    assert (DOCS / "tutorial.ipynb").read_text(encoding="utf-8") == wanted, "run docs/generate_notebook.py"


@pytest.mark.long
def test_the_notebook_runs_and_keeps_what_was_seen(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    book = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    # a bar in the kernel itself, as a user who trains from Python sees it
    code = "from hf_free import FreeConfig, train\n"
    code += "config = FreeConfig.load('runs/digits/config.yaml', assignments=['trainer.steps=3'])\n"
    code += "learner = train(config, output='runs/again')\nlearner"
    book.cells.append(nbformat.v4.new_code_cell(code))
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    html = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    captions = re.findall(r"<caption>(.*?)</caption>", "".join(html))
    assert captions == ["FewShotClassifier", "Run digits", "MetaLearner"]
    plain = "\n".join(str(output.get("data", {}).get("text/plain", "")) for output in cells[-1].outputs)
    assert re.search(r"step 3/3.*100%", plain), "the bar's last state can be read in the saved file"
