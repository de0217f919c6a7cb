"""The page of the cross-check: what it says, and how it works in a browser."""

import html
import json
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from resattn.checking.crosscheck import crosscheck
from resattn.checking.draws import random_arrays, random_input
from resattn.reporting.page import Page, drawing, write_page
from resattn.tracing.trace import trace
from shared_tests.cases import NETWORKS
from weights import BlockConfig, Report
from weights.live import build

BLOCK = BlockConfig(3, 6, 3, 2, attention_options={"hidden_channels": 3})
COMMAND = ("resattn", "check", "my block.safetensors", "--html", "x.html")


@pytest.fixture(scope="module")
def report():
    pytest.importorskip("torch")
    return crosscheck(BLOCK, frameworks=("torch",), batch=2)


@pytest.fixture(scope="module")
def traces():
    """The trace of a right model, and of one with another eps in bn1."""
    pytest.importorskip("torch")
    arrays, x = random_arrays(BLOCK), random_input(BLOCK, (8, 6), 2, "float32")
    right, wrong = (build(BLOCK, arrays, "torch") for _ in range(2))
    wrong.bn1.eps = 1e-3
    return [
        trace({"torch cpu": model}, x, config=BLOCK, arrays=arrays, modes=("eval",))
        for model in (right, wrong)
    ]


def make_page(report, found=None, **fields):
    picture = "" if found is None else drawing(BLOCK, found)
    return Page({"a block": report}, found, picture, COMMAND, ("TF32 False",), **fields)


def spoil(report):
    """The report with one output a million times as far off as rounding explains."""
    rows = [
        replace(row, relative=0.25, absolute=0.5, distance=1e6 * row.explained)
        if (row.quantity, row.dtype) == ("eval output", "float64")
        else row
        for row in report.rows
    ]
    return replace(report, rows=tuple(rows))


class Outline(HTMLParser):
    """The headings, ids and cells of a page, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.ids, self.cells, self.loaded, self._open = [], [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in ("h1", "h2"):
            self._open = tag
        if given.get("role") == "gridcell":
            self.cells.append(given)
        self.ids += [given["id"]] if "id" in given else []
        self.loaded += [given[name] for name in ("src", "href") if name in given]

    def handle_data(self, data):
        if self._open:
            self.headings.append(data)
            self._open = None


def test_everything_is_in_the_page(report, traces):
    text = make_page(report, traces[0]).html()
    outline = Outline(text)
    assert outline.headings == [
        "✓ The same function", "Error by quantity and pair", "Stage by stage", "Every comparison",
        "How this was made",
    ]  # fmt: skip
    assert outline.loaded == []
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in text
    assert len(outline.ids) == len(set(outline.ids))
    assert len(outline.cells) == 11  # weights, and five quantities in two formats; one pair
    assert all(cell["data-details"] for cell in outline.cells)
    assert "resattn check &#x27;my block.safetensors&#x27; --html x.html" in text
    assert "torch cpu: torch" in text
    assert "TF32 False" in text
    for stage in ("conv1", "attention.sigmoid", "shortcut.1", "output"):
        assert f'<th scope="row">{stage}</th>' in text
        assert f'data-name="{stage}"' in text


def test_a_failure_is_the_first_thing(report, traces):
    text = make_page(spoil(report), traces[1]).html()
    outline = Outline(text)
    assert outline.headings[0] == "✗ Not the same function"
    body = text[text.index("<body>") :]
    assert body.index("Not the same function") < 200
    assert body.index("<b>batch norm eps</b>: eps 0.001 instead of 1e-05") < 1000
    assert "PyTorch agrees up to <b>conv1</b> and computes something else at <b>bn1</b>." in body
    over = [cell for cell in outline.cells if cell["class"] == "over"]
    assert ["output in evaluation" in cell["data-details"] for cell in over] == [True]
    assert "1 comparison is over what rounding explains" in body
    assert re.search(r'data-name="bn1" data-form="wrong".*?✗ [\d.e-]+, diverges', text, re.DOTALL)
    assert text.count('data-form="wrong"') == 1


def test_failures_without_a_trace(report):
    text = make_page(spoil(report)).html()
    assert (
        "<b>output</b>, output in evaluation: the relative difference between PyTorch and NumPy "
        "oracle is 2.5e-01, 1e+06 times what the rounding of float64 explains." in text
    )
    assert "<details open><summary>1 comparison is over what rounding explains" in text
    assert "Nothing was compared." in make_page(Report("empty", ())).html()


def test_unexplained_and_strange_names(report, traces):
    finding = replace(traces[1].findings[0], explanations=(), stage="<script>alert(1)</script>")
    text = make_page(report, replace(traces[1], findings=(finding,))).html()
    assert "No known cause computes this: unexplained." in text
    assert "<script>alert" not in text
    infinite = replace(
        report, rows=tuple(replace(row, relative=np.inf, absolute=np.inf) for row in report.rows)
    )
    assert "inf" in make_page(infinite).html()


def test_several_configurations(report):
    many = Page({"2 to 3, stride 1": report, "3 to 4, stride 2": spoil(report)})
    outline = Outline(many.html())
    assert "Error by configuration and pair" in outline.headings
    assert [cell["class"] == "over" for cell in outline.cells] == [False, False, True, False]


def test_a_network_has_its_own_drawing(torch):
    config, size = NETWORKS[0]
    arrays = random_arrays(config)
    model = build(config, arrays, "torch")
    model.stages[1][0].bn2.eps = 1e-3
    found = trace(
        {"torch cpu": model},
        random_input(config, size, 2, "float32"),
        config=config,
        arrays=arrays,
        modes=("eval",),
    )
    picture = drawing(config, found)
    assert re.findall(r'data-name="([^"]*)" data-form="wrong"', picture) == ["stages.1.0"]


def test_a_page_is_replaced_when_it_is_whole(report, tmp_path):
    write_page(tmp_path / "x.html", make_page(report))
    assert (tmp_path / "x.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    with pytest.raises(FileNotFoundError, match="the folder"):
        write_page(tmp_path / "nowhere" / "x.html", make_page(report))


# In a browser

PROBE = """
<script>
addEventListener('load', () => {
  const frame = document.querySelector('iframe');
  const inside = frame.contentDocument, view = frame.contentWindow;
  const cells = [...inside.querySelectorAll('td[role=gridcell]')];
  const details = inside.getElementById('details');
  const press = key => inside.activeElement.dispatchEvent(
    new view.KeyboardEvent('keydown', { key, bubbles: true })
  );
  const place = () => cells.indexOf(inside.activeElement);
  const count = () => cells.filter(cell => cell.tabIndex === 0).length;
  const result = { cells: cells.length, stops: count(), walk: [] };
  result.top = inside.querySelector('h1').getBoundingClientRect().top;
  cells[0].focus();
  const keys = ['ArrowDown', 'ArrowDown', 'ArrowUp', 'ArrowLeft', 'ArrowRight', 'End', 'Home'];
  for (const key of keys) {
    press(key); result.walk.push(place());
  }
  result.shown = details.textContent === inside.activeElement.dataset.details;
  result.after = count();
  result.wide = inside.documentElement.scrollWidth > view.innerWidth;
  result.heading = inside.querySelector('h1, h2').textContent;
  result.ink = view.getComputedStyle(inside.body).color;
  result.paper = view.getComputedStyle(inside.body).backgroundColor;
  document.body.innerHTML = '<pre>' + JSON.stringify(result) + '</pre>';
});
</script>
"""


def browse(browser, folder, text, width, dark=False):
    """What a browser finds in a page, in a window of that width."""
    attributes = f'width="{width}" height="900" style="border:0"'
    frame = f'<iframe {attributes} srcdoc="{html.escape(text)}"></iframe>'
    (folder / "probe.html").write_text(
        f"<!doctype html><body>{frame}{PROBE}</body>", encoding="utf-8"
    )
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-quic", f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
    ]  # fmt: skip
    command = [
        browser,
        *options,
        "--virtual-time-budget=3000",
        "--dump-dom",
        (folder / "probe.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<pre>(\{.*?\})</pre>", done.stdout, re.DOTALL)
    assert found, done.stdout[-500:] + done.stderr[-2000:]
    return json.loads(html.unescape(found.group(1)))


def test_in_a_browser(browser, report, traces, tmp_path):
    """By keyboard, on a phone, in light and dark."""
    seen = browse(browser, tmp_path, make_page(report, traces[0]).html(), 360)
    assert seen["cells"] == 11
    assert (
        seen["stops"] == seen["after"] == 1
    )  # the tab key stops once; the arrow keys move between cells
    assert seen["walk"] == [1, 2, 1, 1, 1, 1, 1]
    assert seen["shown"] is True
    assert seen["wide"] is False
    assert seen["heading"] == "✓ The same function"
    bad = browse(browser, tmp_path, make_page(spoil(report), traces[1]).html(), 1200, dark=True)
    assert bad["heading"] == "✗ Not the same function"
    assert 0 <= bad["top"] < 100
    assert bad["wide"] is False


def test_dark(browser, report, tmp_path):
    light, dark = (
        browse(browser, tmp_path, make_page(report).html(), 800, dark) for dark in (False, True)
    )
    assert light["paper"] == "rgb(255, 255, 255)"
    assert dark["paper"] == "rgb(13, 17, 23)"
    assert dark["ink"] == "rgb(230, 237, 243)"
