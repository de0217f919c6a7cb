"""The page of the cross-check: what it says, and how it works in a browser."""

import html
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module

import numpy as np
import pytest

from resattn.checking.crosscheck import crosscheck
from resattn.checking.draws import random_arrays, random_input
from resattn.reporting.heat_map import map_errors, place_on_scale
from resattn.reporting.page import Page
from resattn.reporting.rendering import list_template_sentences, write_html
from resattn.reporting.stages import drawing, list_bars
from resattn.tracing.trace import trace, trace_frameworks
from shared_tests.cases import NETWORKS
from weights import BlockConfig, Report
from weights.language import translate_with
from weights.live import build

BLOCK = BlockConfig(3, 6, 3, 2, attention_options={"hidden_channels": 3})
NORMS = ("bn1", "bn2", "shortcut.1")
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
    assert "resattn check &#39;my block.safetensors&#39; --html x.html" in text
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
    marked = re.search(r'data-name="bn1" data-form="wrong".*?</g>', text, re.DOTALL).group()
    assert "✗ diverges first" in marked
    assert "◆ cause: batch norm eps" in marked
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
    rows = tuple(replace(row, actual="<script>alert(2)") for row in traces[1].rows)
    text = make_page(report, replace(traces[1], findings=(finding,), rows=rows)).html()
    assert "No known cause computes this: unexplained." in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(2)" in text
    infinite = replace(
        report, rows=tuple(replace(row, relative=np.inf, absolute=np.inf) for row in report.rows)
    )
    assert "inf" in make_page(infinite).html()


def test_several_configurations(report):
    many = Page({"2 to 3, stride 1": report, "3 to 4, stride 2": spoil(report)})
    outline = Outline(many.html())
    assert "Error by configuration and pair" in outline.headings
    assert [cell["class"] == "over" for cell in outline.cells] == [False, False, True, False]
    assert '<th scope="col">configuration</th>' in many.html()


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
    assert list_forms(picture)["wrong"] == ["stages.1.0"]
    boxes = re.findall(r'<rect class="(?:block|wrong)"[^>]* width="(\d+)"', picture)
    assert len(boxes) > 1
    assert len(set(boxes)) == 1  # a marked block has room for the picture of its shortcut


def test_a_page_is_replaced_when_it_is_whole(report, tmp_path):
    write_html(tmp_path / "x.html", make_page(report).html())
    assert (tmp_path / "x.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    with pytest.raises(FileNotFoundError, match="the folder"):
        write_html(tmp_path / "nowhere" / "x.html", make_page(report).html())


# The heat map


@pytest.mark.parametrize(
    ("times", "place"), [(0, 0), (0.01, 0), (0.1, 0.25), (1, 0.5), (100, 1), (np.inf, 1)]
)
def test_the_scale(times, place):
    assert place_on_scale(times) == pytest.approx(place)


def test_cells_show_how_near_the_limit_is(report):
    """As multiples of what rounding explains, on a logarithmic scale."""

    def make_cell(times):
        row = report.worst(quantity="eval output", dtype="float64")
        row = replace(row, distance=times * row.explained, tolerance=5 * row.explained)
        return map_errors({"a": replace(report, rows=(row,))}).rows[0][1][0]

    cells = [make_cell(times) for times in (0.02, 0.2, 2, 4.9, 50)]
    assert [cell.ok for cell in cells] == [True, True, True, True, False]
    shades, shares = [cell.shade for cell in cells[:4]], [cell.share for cell in cells]
    assert shades == sorted(set(shades))
    assert shares == sorted(set(shares))
    assert all(cell.end == pytest.approx(place_on_scale(5)) for cell in cells)
    assert cells[1].times == "0.20 times"


def test_a_passing_map_is_not_uniform(report):
    cells = [cell for _, cells in map_errors({"a": report}).rows for cell in cells]
    assert len({cell.shade for cell in cells}) > 2
    assert {cell.times for cell in cells} >= {"equal"}  # the weights, read back


# What is marked


@pytest.fixture(scope="module")
def expected():
    """The trace of an output that was computed with another eps in all batch norms."""
    pytest.importorskip("torch")
    arrays, x = random_arrays(BLOCK), random_input(BLOCK, (8, 6), 2, "float32")
    wrong = build(BLOCK, arrays, "torch").eval()
    for module in (wrong.bn1, wrong.bn2, wrong.shortcut[1]):
        module.eps = 1e-3
    y = wrong(import_module("torch").from_numpy(x)).detach().numpy()
    return trace_frameworks(
        BLOCK,
        arrays,
        frameworks=("torch",),
        inputs=x,
        expected={"output": y},
        expected_name="expected (y.npy)",
    )


def list_forms(picture):
    forms = re.findall(r'data-name="([^"]*)" data-form="([^"]*)"', picture)
    return {form: [name for name, other in forms if other == form] for _, form in forms}


def test_the_cause_is_marked_where_it_is(report, expected):
    (finding,) = expected.findings
    assert (finding.stage, finding.explanations[0].places) == ("output", NORMS)
    picture = drawing(BLOCK, expected)
    forms = list_forms(picture)
    assert forms["wrong"] == ["output"]
    assert forms["cause"] == list(NORMS)
    assert picture.count("◆ cause: batch norm eps") == 3
    text = make_page(report, expected).html()
    assert "expected (y.npy) computes something else at <b>output</b>." in text
    bars = re.findall(r'<div class="bar cause"><span class="who">([^<]*)</span>', text)
    assert bars == ["expected (y.npy)"] * 3
    assert finding.to_dict()["explanations"][0]["places"] == list(NORMS)


def test_the_cause_of_a_stage_itself(traces):
    (finding,) = traces[1].findings
    assert finding.explanations[0].places == ()
    assert finding.to_dict()["explanations"][0]["places"] == ["bn1"]
    assert "cause" not in list_forms(drawing(BLOCK, traces[1]))  # it is where the model diverges


def test_numbers_of_the_mode_of_the_finding(traces):
    """Those of training, if something is wrong in training alone."""
    row = next(row for row in traces[0].rows if row.tensor == "conv1")
    far = replace(row, quantity="train forward", relative=0.5, absolute=0.5)
    rows = (*traces[0].rows, far)
    finding = replace(traces[1].findings[0], mode="train", stage="conv1", difference=far)
    picture = drawing(BLOCK, replace(traces[0], rows=rows, findings=(finding,)))
    assert "of outputs in training" in picture
    assert "5.0e-01" in picture
    assert f"{row.relative:.1e}" not in picture
    backward = replace(finding, backward=True)
    picture = drawing(BLOCK, replace(traces[0], findings=(backward,)))
    assert "of gradients in training" in picture
    assert "of outputs in evaluation" in drawing(BLOCK, traces[0])


def test_the_list_of_the_finding_is_open(traces):
    row = next(row for row in traces[0].rows if row.tensor == "conv1")
    far = replace(row, quantity="train forward", relative=0.5, absolute=0.5)
    finding = replace(traces[1].findings[0], mode="train", stage="conv1", difference=far)
    found = replace(traces[0], rows=(*traces[0].rows, far), findings=(finding,))
    assert [bars.opened for bars in list_bars(found)] == [False, True]
    assert [bars.opened for bars in list_bars(traces[0])] == [True]


@pytest.mark.parametrize("tolerance", [0.0, 1e4, np.inf])
def test_strange_tolerances(traces, tolerance):
    rows = tuple(replace(row, tolerance=tolerance) for row in traces[0].rows)
    (bars,) = list_bars(replace(traces[0], rows=rows))
    assert all(0 <= bar.share <= 1 and 0 < bar.limit < 1 for _, here in bars.stages for bar in here)


def test_stages_stay_in_order(traces):
    names = ["a.conv1", "a.bn1", "a.attention.fc1", "a.attention", "a"]
    rows = tuple(replace(traces[0].rows[0], tensor=name) for name in names)
    (bars,) = list_bars(replace(traces[0], rows=rows))
    assert [name for name, _ in bars.stages] == names


def test_wrong_running_statistics_are_at_their_norm(traces):
    row = replace(traces[0].rows[0], quantity="train statistics", tensor="bn1.running_var")
    rows = [replace(row, quantity="train forward", tensor=name) for name in ("conv1", "bn1")]
    finding = replace(traces[1].findings[0], mode="train", stage="bn1.running_var", difference=row)
    found = replace(traces[0], rows=(*rows, row), findings=(finding,))
    picture = drawing(BLOCK, found)
    assert list_forms(picture)["wrong"] == ["bn1"]
    assert "✗ running_var diverges first" in picture
    (bars,) = list_bars(found)
    assert [name for name, _ in bars.stages] == ["conv1", "bn1", "bn1.running_var"]


# Templates


def test_sentences_are_found_for_translation():
    sentences = list_template_sentences()
    assert "Nothing was compared." in sentences
    assert "{model} computes something else at {place}." in sentences
    assert len(sentences) > 30


def test_a_translated_page(report, traces):
    """A translation is text, not HTML, and so are the values in it."""
    strange = replace(traces[1].findings[0], stage="<i>", agrees=None)
    with translate_with(lambda text: f"<u>{text}" if "{place}" in text else text, "zh"):
        text = make_page(report, replace(traces[1], findings=(strange,))).html()
    assert "&lt;u&gt;PyTorch computes something else at <b>&lt;i&gt;</b>." in text
    assert '<html lang="zh">' in text
    assert '<html lang="en">' in make_page(report).html()


def test_jinja_is_imported_when_a_page_is_written():
    code = "import sys, resattn.reporting.page, resattn.reporting.drift_page; "
    code += "print({'jinja2', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_there_is_room_for_chinese(traces):
    """In a box and in the notes of the drawing."""
    words = {
        "✗ diverges first": "✗ 首先在此处与参考实现产生偏差",
        "greatest relative difference": "差" * 60,
    }

    def measure(picture):
        box = re.search(r'data-name="bn1".*?<rect[^>]* width="([\d.]+)"', picture, re.DOTALL)
        return float(box[1]), float(re.search(r'width="(\d+)"', picture)[1])

    with translate_with(lambda text: words.get(text, text), "zh"):
        box, width = measure(drawing(BLOCK, traces[1]))
    assert box > 16 * 12
    assert width > 60 * 12


# In a browser

PROBE = """
<script>
addEventListener('error', event => {
  document.body.innerHTML = '<pre>' + JSON.stringify({ error: event.message }) + '</pre>';
});
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
  cells[0]?.focus();
  const keys = ['ArrowDown', 'ArrowDown', 'ArrowUp', 'ArrowLeft', 'ArrowRight', 'End', 'Home'];
  for (const key of keys) {
    press(key); result.walk.push(place());
  }
  result.shown = details?.textContent === inside.activeElement.dataset.details;
  result.after = count();
  const seen = element => element.getClientRects().length > 0;
  const texts = [...inside.querySelectorAll('.map *, .legend *, .bars *')].filter(seen);
  const sizes = texts.filter(each => [...each.childNodes].some(
    node => node.nodeType === 3 && node.data.trim()
  )).map(each => parseFloat(view.getComputedStyle(each).fontSize));
  const words = [...inside.querySelectorAll('svg text')].filter(seen).map(
    each => parseFloat(view.getComputedStyle(each).fontSize) * each.getScreenCTM().a
  );
  result.smallest = Math.min(...sizes, ...words);
  result.drawn = words.length;
  result.cut = cells.filter(
    cell => cell.getBoundingClientRect().right > view.innerWidth
  ).length;
  const frames = [...inside.querySelectorAll('.sideways')].filter(seen);
  result.hints = frames.filter(frame => seen(frame.querySelector('.hint'))).length;
  result.scrolling = frames.filter(frame => {
    const scroll = frame.querySelector('.scroll');
    return scroll.scrollWidth > scroll.clientWidth + 1;
  }).length;
  result.reachable = frames.filter(
    frame => frame.querySelector('.scroll').tabIndex === 0
  ).length;
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
    seen = json.loads(html.unescape(found.group(1)))
    assert "error" not in seen, seen
    return seen


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


def spread(report):
    """The report as if three frameworks had been compared, each with the oracle and the others."""
    pairs = [(name, "oracle") for name in ("torch cpu", "jax cpu", "tf cpu")]
    pairs += [("torch cpu", "jax cpu"), ("torch cpu", "tf cpu"), ("jax cpu", "tf cpu")]
    rows = [
        replace(row, actual=actual, expected=other)
        for row in report.rows
        for actual, other in pairs
        if row.quantity != "weights" or other == "oracle"
    ]
    return replace(report, rows=tuple(rows))


@pytest.mark.parametrize("width", [390, 820, 1280])
@pytest.mark.parametrize("fails", [False, True])
def test_every_width(browser, report, traces, expected, width, fails, tmp_path):
    """Nothing is cut off, everything can be read, and frames that scroll say so."""
    shown = spread(spoil(report) if fails else report)
    text = make_page(shown, expected if fails else traces[0]).html()
    seen = browse(browser, tmp_path, text, width)
    assert seen["cells"] == 63
    assert seen["wide"] is False
    assert seen["cut"] == 0
    assert seen["drawn"] > 20
    assert seen["smallest"] >= 10.5
    assert seen["hints"] == seen["scrolling"]
    assert seen["scrolling"] >= (width == 390)  # the drawing
    assert seen["reachable"] == seen["scrolling"]
    # On a phone the arrows go through the list; else to the row above or below.
    assert seen["walk"] == ([3, 9, 3, 3, 4, 8, 3] if width > 900 else [1, 2, 1, 0, 1, 2, 0])


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_plots_of_every_width(browser, plots, width, tmp_path):
    losses = {"a": tuple(np.linspace(2, 1, 30)), "b": tuple(np.linspace(2, 1.1, 30))}
    empty = Report("empty", ())
    seen = browse(browser, tmp_path, Page({"a": empty}, losses=losses).html(), width)
    assert seen["wide"] is False
    assert seen["drawn"] > 10
    assert seen["smallest"] >= 10.5


def test_dark(browser, report, tmp_path):
    light, dark = (
        browse(browser, tmp_path, make_page(report).html(), 800, dark) for dark in (False, True)
    )
    assert light["paper"] == "rgb(255, 255, 255)"
    assert dark["paper"] == "rgb(13, 17, 23)"
    assert dark["ink"] == "rgb(230, 237, 243)"
