"""How our classes show themselves in a notebook, and their short texts elsewhere."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from resattn.checking.crosscheck import crosscheck
from resattn.drawing.pictures import scene_of
from resattn.explaining.explanation import explain
from resattn.notebooks import TEXT_COLOURS, load_ipython_extension, show_lines
from weights import BlockConfig, Report, difference, preset

CONFIG = BlockConfig(4, 6, stride=2)


class Formatter:
    """As IPython's, in what we use of it."""

    def __init__(self):
        self.functions = {}

    def for_type_by_name(self, module, name, function):
        self.functions[module, name] = function

    def show(self, thing):
        return self.functions[type(thing).__module__, type(thing).__name__](thing)


@pytest.fixture
def formatters():
    found = {"image/svg+xml": Formatter(), "text/html": Formatter()}
    display = type("Display", (), {"formatters": found})
    load_ipython_extension(type("Shell", (), {"display_formatter": display}))
    return found


def test_models_draw_themselves(formatters, backend):
    from resattn.checking.draws import random_arrays

    model = backend.build(CONFIG, random_arrays(CONFIG))
    drawn = formatters["image/svg+xml"].show(model)
    assert drawn.startswith("<svg ")
    assert "conv1" in drawn


def test_drawings_show_themselves(formatters):
    scene = scene_of(preset("se-resnet18"))
    assert formatters["image/svg+xml"].show(scene).startswith("<svg ")
    assert repr(scene) == "<Scene of ResidualAttentionNetwork se-resnet18: 14 nodes>"


def test_reports_show_themselves(formatters, torch):
    report = crosscheck(CONFIG, frameworks="torch")
    shown = formatters["text/html"].show(report)
    assert "<pre" in shown
    assert "The same function" in shown
    assert f"color: {TEXT_COLOURS['good']}" in shown
    title, *lines = shown.splitlines()
    assert "font-weight: bold; white-space: pre-wrap" in title
    rows = [line for line in lines if " torch cpu and oracle" in line]
    assert max(map(len, rows)) > 80
    assert not any("<span" in row for row in rows)
    assert repr(report).startswith("<Report: ok, ")
    assert len(repr(report)) < 250


def test_failures_are_red_and_escaped():
    row = difference(np.ones(2), np.zeros(2), tolerance=0, quantity="a<b", names=("x", "y"))
    report = Report("title & more", (row,))
    shown = show_lines(report)
    assert TEXT_COLOURS["bad"] in shown
    assert "title &amp; more" in shown
    assert "a&lt;b" in shown
    assert repr(report) == "<Report: 1 failure, 1 comparison; title & more>"


def luminance(colour):
    """That of WCAG 2, of "#rrggbb"."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


@pytest.mark.parametrize("style", TEXT_COLOURS)
def test_colours_can_be_read_on_light_and_dark_pages(style):
    """No colour has a contrast of 4.5 with both; these have nearly that."""
    light, text, dark = map(luminance, ("#ffffff", TEXT_COLOURS[style], "#111111"))
    assert (light + 0.05) / (text + 0.05) > 4.1
    assert (text + 0.05) / (dark + 0.05) > 4.1


def test_explanations_show_themselves(formatters):
    explained = explain(CONFIG)
    assert "conv1" in formatters["text/html"].show(explained)
    assert repr(explained).startswith("<Explanation of a block, 4 to 6 channels")


def test_they_are_registered_where_ipython_is():
    """In a shell of IPython, by the import alone."""
    pytest.importorskip("IPython", reason="IPython is not installed")
    program = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import resattn
formatters = shell.display_formatter.formatters
from resattn.drawing.pictures import scene_of
from weights import BlockConfig
assert formatters["image/svg+xml"](scene_of(BlockConfig(4, 6))).startswith("<svg ")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_ipython_nothing_is_imported_for_it():
    program = "import sys, resattn; assert not {'IPython', 'resattn.notebooks'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
