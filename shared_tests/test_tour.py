"""docs/tour.ipynb runs in this environment, and what is stored in it is fit to be read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from resattn.documents import tour
from resattn.documents.tour import NOTEBOOK, check_notebook, execute_notebook
from weights.errors import MissingFramework

ROOT = Path(__file__).parent.parent
STORED = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))
CODE = [cell for cell in STORED["cells"] if cell["cell_type"] == "code"]
# What these print is the same on every machine; other cells print differences of rounding.
EXACT = ("build-code", "port-code", "inspect-code", "digits-code")


def text_of(cell):
    """What a cell prints."""
    return "".join("".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream")


def kinds_of(cell):
    """The forms of its outputs."""
    return [sorted(o["data"]) if "data" in o else o["name"] for o in cell["outputs"]]


def test_the_tour_runs(all_frameworks, images, notebook):
    """No cell fails, and each gives outputs of the stored kinds; `make documents` stores them."""
    pytest.importorskip("sklearn", reason="scikit-learn, which holds the digits, is not installed")
    done = execute_notebook(ROOT / NOTEBOOK)
    executed = {cell["id"]: cell for cell in done.cells if cell.cell_type == "code"}
    assert list(executed) == [cell["id"] for cell in CODE]
    for cell in CODE:
        found = executed[cell["id"]]
        assert kinds_of(found) == kinds_of(cell), cell["id"]
        assert cell["id"] not in EXACT or text_of(found) == text_of(cell)


def test_the_story_is_in_the_stored_outputs():
    by_id = {cell["id"]: cell for cell in CODE}
    html = {
        name: "".join(by_id[name]["outputs"][0]["data"]["text/html"])
        for name in ("check-code", "trace-code")
    }
    assert "The same function" in html["check-code"]
    assert "Keras diverges first" in html["trace-code"].replace("&lt;", "<")
    assert "batch norm eps: eps 0.001 instead of 1e-05" in html["trace-code"]
    assert "22 of 22 arrays are equal to the last bit" in text_of(by_id["port-code"])
    assert text_of(by_id["digits-code"]).count("448 of 450 right") == 3
    for name in ("draw-code", "network-code"):
        assert "image/svg+xml" in by_id[name]["outputs"][0]["data"]
    rows = re.findall(r"(?m)^ *\d+ +([\d.]+) +([\d.]+)$", text_of(by_id["train-shown"]))
    assert len(rows) == 8
    assert all(abs(float(staying) - float(moved)) < 0.01 for staying, moved in rows)


def test_cells():
    """Few, with ids that stay, each piece of code after a text about it."""
    ids = [cell["id"] for cell in STORED["cells"]]
    assert len(set(ids)) == len(ids) <= 25
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", each) for each in ids)
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert all(cell["metadata"] == {} for cell in STORED["cells"])


def test_outputs_are_clean():
    """No errors, warnings, paths of a machine or terminal colours."""
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {
        *("stream", "display_data", "execute_result"),
    }
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    everything = json.dumps(
        [{**output, "data": {**output.get("data", {}), "image/png": ""}} for output in outputs]
    )
    assert "\\u001b" not in everything
    assert not re.search(r"(?<![\w.:/<])/(?:tmp|home|root|usr|opt|work|Users)\b", everything)
    assert not re.search(r"Warning|site-packages|0x[0-9a-f]{6}", everything)


def test_links_work():
    text = "".join("".join(c["source"]) for c in STORED["cells"] if c["cell_type"] == "markdown")
    links = re.findall(r"\]\(([\w./-]+)\)", text)
    assert len(links) >= 3
    for link in links:
        assert (ROOT / NOTEBOOK.parent / link).exists(), link


def test_a_cell_that_fails_is_found(notebook, tmp_path):
    import nbformat
    from nbclient.exceptions import CellExecutionError

    cells = [nbformat.v4.new_code_cell("import sys; print(sys.executable)\n1 / 0")]
    path = tmp_path / "failing.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    with pytest.raises(CellExecutionError, match=r"ZeroDivisionError"):
        execute_notebook(path)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(tour, "find_spec", lambda name: None)
    with pytest.raises(
        MissingFramework,
        match=r'nbformat, nbclient, ipykernel not found; .*pip install "resattn\[dev\]"',
    ):
        check_notebook()
