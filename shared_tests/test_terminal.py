"""What is printed, and what is written into pages and pictures: nothing in it moves a cursor."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import typer
from click import unstyle
from typer.testing import CliRunner

from resattn.cli.app import app, main
from resattn.cli.terminal import print_line, print_report, status
from resattn.drawing.mermaid import mermaid
from resattn.drawing.pictures import scene_of
from resattn.drawing.svg import svg
from resattn.reporting.page import Page
from weights import BlockConfig
from weights.checks import printable
from weights.compare import Report

ROOT = Path(__file__).parent.parent
TITLE = "\x1b]0;taken\x07"  # sets the title of a terminal
HOSTILE = f"{TITLE}\x1b[2J\u202e\r\x9b\u2028"
SHOWN = r"\x1b]0;taken\x07\x1b[2J\u202e\r\x9b\u2028"


def test_printable_keeps_what_prints():
    assert printable("größe 高度 ⌈H/2⌉\n\tx") == "größe 高度 ⌈H/2⌉\n\tx"
    assert printable(HOSTILE) == SHOWN
    assert printable("\udcff") == r"\udcff"  # a byte of a file name that is not UTF-8


@pytest.mark.parametrize("error", [False, True])
def test_a_line_is_escaped(capsys, error):
    print_line(HOSTILE, error=error)
    captured = capsys.readouterr()
    assert (captured.err if error else captured.out) == f"{SHOWN}\n"


def test_styles_work_beside_escapes(capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(typer, "secho", lambda text, **style: seen.append((text, style)))
    print_line(TITLE, "bad")
    print_report([f"FAILED {TITLE}"])
    shown = r"\x1b]0;taken\x07"
    red = {"fg": typer.colors.RED, "err": False}
    assert seen == [(shown, red), (f"FAILED {shown}", red)]


@pytest.mark.parametrize("line", ["[bold]x", "[/]", "[/red]", HOSTILE])
def test_the_status_line_has_no_markup(line, monkeypatch):
    """Rich would raise MarkupError for a closing tag of nothing."""
    from rich import console

    shown = []

    class Recorded(console.Console):
        def status(self, text, **options):
            shown.append(text.plain)
            return super().status(text, **options)

    monkeypatch.setattr(console, "Console", Recorded)
    with status(line) as show_step:
        show_step("[/]")
    assert shown == [printable(line)]


def stopped(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["resattn", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


@pytest.mark.parametrize("options", [(), ("--debug",)])
def test_error_messages_are_escaped(monkeypatch, capsys, options):
    assert stopped(monkeypatch, *options, "inspect", f"{TITLE}.npz") == 2
    text = unstyle(capsys.readouterr().err)
    assert r"\x1b]0;taken\x07.npz: there is no such file" in text
    assert text.replace("\n", "").replace("\t", "").isprintable()


def test_a_file_name_is_escaped(tmp_path):
    target = tmp_path / f"{TITLE}.svg"
    done = CliRunner().invoke(app, ["draw", "--config", "resnet20", "--to", str(target)])
    assert target.is_file(), done.output
    assert r"\x1b]0;taken\x07.svg" in done.output
    assert "\x1b" not in done.output


def test_no_command_prints_past_the_one_function():
    for path in sorted((ROOT / "resattn" / "cli").glob("*.py")):
        text = path.read_text()
        if path.name != "draw.py":  # a picture has styles in its lines, and is escaped before
            assert "typer.echo(" not in text, path.name
        if path.name != "terminal.py":
            assert "typer.secho(" not in text, path.name


def test_the_page_holds_no_control_characters():
    page = Page({HOSTILE: Report(HOSTILE, ())}, command=("resattn", HOSTILE), flags=(HOSTILE,))
    text = page.html()
    assert SHOWN in text
    assert text.replace("\n", "").replace("\t", "").isprintable()


def test_pictures_hold_no_control_characters():
    scene = scene_of(BlockConfig(3, 4), (8, 6))
    object.__setattr__(scene, "title", f"{HOSTILE}\nx")
    object.__setattr__(scene, "output", f"{HOSTILE}\nx")
    for node in scene.nodes:
        object.__setattr__(node, "lines", tuple(f"{line}{TITLE}" for line in node.lines))
    drawn = svg(scene)
    ElementTree.fromstring(drawn)  # XML 1.0 has no control characters
    for text in (drawn, mermaid(scene)):
        assert r"\x1b]0;taken\x07" in text
        assert text.replace("\n", "").replace("\t", "").isprintable()


@pytest.mark.parametrize("name", ["mine", "package.inside"])
def test_import_leaves_the_folder_last(tmp_path, name):
    """A json.py in the folder is not what anything imports; modules of the folder are found."""
    (tmp_path / "json.py").write_text("raise SystemExit('taken')\n")
    (tmp_path / "colorsys.py").write_text("raise SystemExit('taken')\n")
    (tmp_path / "package").mkdir()
    for path in ("mine.py", "package/inside.py"):
        (tmp_path / path).write_text("import beside, colorsys\n")
    (tmp_path / "beside.py").write_text("print('beside was imported')\n")
    code = (
        "import sys; sys.path[:] = [each for each in sys.path if each]\n"
        "from resattn.cli.app import import_module_or_file\n"
        f"import_module_or_file({name!r}); import_module_or_file({name!r})\n"
        "import os; print(sys.path.index(os.getcwd()) == len(sys.path) - 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["beside was imported", "True"], done.stderr
