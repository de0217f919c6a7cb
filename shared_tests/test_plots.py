"""Curves of training runs: as files, and as the page of `resattn drift`."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module

import numpy as np
import pytest
from typer.testing import CliRunner

from resattn.cli.app import app
from resattn.recording.file import write_run
from resattn.reporting.drift_page import DriftPage, collect_curves
from resattn.reporting.page import Page
from resattn.reporting.plots import Curves, check_plot, plot_for_page, save_plot
from resattn.reporting.tables import tabulate_curves
from resattn.training.drift import Point, Trajectory
from shared_tests.recording_cases import record_ours
from weights.errors import ArgumentError, MissingFramework
from weights.language import translate_with

PAIRS = (("torch", "jax"), ("torch", "oracle"), ("jax", "oracle"))
HOSTILE = "<script>alert(1)</script> $x\x1b[31m"


def make_trajectory(dtype="float64", steps=12, apart=1e-13):
    points = [
        Point(quantity, step, apart * step * (place + 1), f"{quantity}.weight", pair)
        for quantity in ("parameters", "statistics", "moments", "loss")
        for step in range(1, steps + 1)
        for place, pair in enumerate(PAIRS)
    ]
    losses = {name: tuple(2 / np.arange(1, steps + 1)) for name in ("torch", "jax", "oracle")}
    return Trajectory(
        "12 steps of SGD", dtype, tuple(points), ("torch cpu: torch 9",), losses=losses
    )


class Tags(HTMLParser):
    """The ids of a page, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.loaded = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        linked = (given[name] for name in ("src", "href") if name in given)
        self.loaded += [link for link in linked if not link.startswith("#")]


def test_curves_of_a_trajectory():
    curves = collect_curves(make_trajectory())
    assert list(curves.losses) == ["PyTorch", "Flax", "NumPy oracle"]
    assert list(curves.apart) == [
        "PyTorch and Flax", "PyTorch and NumPy oracle", "Flax and NumPy oracle",
    ]  # fmt: skip
    assert curves.limit == 1e-9
    assert curves.apart["Flax and NumPy oracle"][-1] == pytest.approx(36e-13)
    assert collect_curves(make_trajectory("float32")).limit is None


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_a_file_is_the_same_each_time(plots, suffix, tmp_path):
    curves = collect_curves(make_trajectory())
    for name in "ab":
        save_plot(curves, tmp_path / f"{name}{suffix}")
    content = (tmp_path / f"a{suffix}").read_bytes()
    assert content == (tmp_path / f"b{suffix}").read_bytes()
    assert content.startswith({".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix])
    other = collect_curves(make_trajectory(apart=2e-13))
    save_plot(other, tmp_path / f"b{suffix}")
    assert content != (tmp_path / f"b{suffix}").read_bytes()


def test_a_file_needs_no_fonts(plots, tmp_path):
    """Its words are paths, and English, whatever the language is."""
    curves = collect_curves(make_trajectory())
    save_plot(curves, tmp_path / "a.svg")
    with translate_with(lambda text: "残差", "zh"):
        save_plot(curves, tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert "<text" not in text
    assert "date" not in text


def test_settings_of_the_user_do_not_matter(plots, tmp_path):
    curves = collect_curves(make_trajectory())
    save_plot(curves, tmp_path / "a.svg")
    matplotlib = import_module("matplotlib")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "k"}):
        save_plot(curves, tmp_path / "b.svg")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_what_cannot_be_drawn(monkeypatch, tmp_path):
    for name in ("drift.gif", "drift"):
        with pytest.raises(ArgumentError, match=r"expected one of \.svg, \.png, \.pdf"):
            check_plot(tmp_path / name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r"drift\.svg is drawn with Matplotlib; install it with: pip install \"resattn\[draw\]"
    with pytest.raises(MissingFramework, match=message):
        check_plot(tmp_path / "drift.svg")


@pytest.mark.parametrize(
    "values",
    [(0.0, 0.0, 0.0), (1e-9, 0.0, np.inf), (np.nan, np.nan, np.nan), (1e-9,), ()],
    ids=str,
)
def test_values_that_cannot_be_drawn(plots, values):
    """They are in the table, and the page says so."""
    curves = Curves((1, 2, 3), {"a": (1.0, np.inf, np.nan)}, {"a and b": values})
    ElementTree.fromstring(plot_for_page(curves, "wide", 8.0).replace("href", "xhref"))
    assert not curves.complete
    table = tabulate_curves(curves)
    assert [row[1] for row in table.rows] == ["1", "inf", "nan"]
    assert len(table.rows) == 3


def test_many_steps_are_thinned():
    count = 1201
    table = tabulate_curves(Curves(range(1, count + 1), {"a": [1.0] * count}))
    steps = [int(row[0]) for row in table.rows]
    assert len(steps) <= 500
    assert steps[-1] == count
    assert set(np.diff(steps)) == {3}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_page_of_a_drift(plots, dtype):
    text = DriftPage(make_trajectory(dtype), ("resattn", "drift")).html()
    tags = Tags(text)
    assert tags.loaded == []
    assert len(tags.ids) == len(set(tags.ids))
    assert set(re.findall(r"https?://[^\"' ]+", text)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
    }  # fmt: skip
    assert text.count("<svg") == 2  # for a screen and for a phone
    assert text.count("limit 1e-09</text>") == (2 if dtype == "float64" else 0)
    assert "var(--curve1)" in text
    assert "#0072b2" not in text[text.index("<main>") :]
    assert "<td>3.6e-12</td>" in text  # the last difference of the last pair
    assert "<td>0.1666667</td>" in text  # the last loss
    assert ("✓ The runs stay together" in text) is (dtype == "float64")


def test_runs_that_part(plots):
    text = DriftPage(make_trajectory(apart=1e-8)).html()
    assert "✗ The runs part" in text
    assert "in parameters.weight after step 12, between Flax and NumPy oracle. The limit" in text


def test_the_losses_of_recordings(plots):
    losses = {HOSTILE: (2.0, 1.5, 1.25), "_b": (2.0, 1.5), "c": ()}
    text = Page({}, subject="runs", losses=losses).html()
    assert "<script>alert" not in text
    assert "\x1b" not in text
    assert "<td>1.25</td>" in text
    drawn = re.search(r"<svg.*?</svg>", text, re.DOTALL).group()
    assert "&lt;script&gt;" in drawn
    assert " _b</text>" in drawn
    assert "<svg" not in Page({}, subject="runs").html()


def test_compare_shows_the_losses(torch, plots, tmp_path):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    run = record_ours("torch", steps=2)
    for file in files:
        write_run(file, run)
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["compare", *map(str, files), "--html", str(page)])
    assert done.exit_code == 0, done.output
    text = page.read_text(encoding="utf-8")
    assert "The losses as a table" in text
    assert text.count("<svg") == 3  # with the drawing of the model
    assert f"<td>{run.training.losses[1]:.7g}</td>" in text


def test_the_losses_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = Page({}, subject="runs", losses={"a": (2.0, 1.5)}).html()
    assert "pip install &#34;resattn[draw]&#34;" in text
    assert "<td>1.5</td>" in text


def test_that_it_is_checked_before_training(tmp_path):
    """Neither the model nor the data are made for a file that cannot be written."""
    (tmp_path / "there.html").write_text("")
    for options, message in (
        (("--to", "drift.gif"), "cannot draw .gif"),
        (("--html", tmp_path / "there.html"), "pass --force"),
        (("--to", tmp_path / "a.svg", "--html", tmp_path / "a.svg"), "written twice"),
    ):
        # A recipe that cannot be read fails as soon as training is prepared.
        done = CliRunner().invoke(app, ["drift", *map(str, options), "--recipe", "none"])
        assert isinstance(done.exception, ArgumentError), done.output
        assert message in str(done.exception)


def test_drift_writes_both(torch, plots, tmp_path):
    small = '{"in_channels": 1, "out_channels": 3}'
    files = (tmp_path / "drift.pdf", tmp_path / "drift.html")
    command = ["drift", "--config", small, "--frameworks", "torch", "--oracle", "--steps", "3"]
    recipe = '{"optimizer": {"name": "Adam"}, "batch_size": 8}'
    given = [*command, "--recipe", recipe, "--to", str(files[0]), "--html", str(files[1])]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert all(f"Wrote {file}." in done.output for file in files)
    assert files[0].read_bytes().startswith(b"%PDF")
    page = files[1].read_text(encoding="utf-8")
    assert "PyTorch and NumPy oracle" in page
    assert page.count("<tr>") >= 3


def test_losses_are_those_of_the_steps():
    found = make_trajectory()
    assert found.to_dict()["losses"]["torch"] == pytest.approx(list(found.losses["torch"]))
    bare = replace(found, losses={})
    assert bare.to_dict()["losses"] == {}
