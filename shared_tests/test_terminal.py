"""What is printed, and what is written into pages and pictures: nothing in it moves a cursor."""

import contextlib
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import typer
from click import unstyle
from typer.testing import CliRunner

from resattn.checking.crosscheck import crosscheck
from resattn.checking.precision import precision
from resattn.checking.progress import StepCounter
from resattn.cli import terminal
from resattn.cli.app import app, main
from resattn.cli.terminal import print_line, print_report, status
from resattn.drawing.mermaid import mermaid
from resattn.drawing.pictures import scene_of
from resattn.drawing.svg import svg
from resattn.reporting.page import Page
from resattn.tracing.trace import trace_frameworks
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
    monkeypatch.setattr(typer, "echo", lambda text, **options: seen.append(text))
    print_line(TITLE, "bad")
    print_report([(f"FAILED {TITLE}", "bad")])
    shown = r"\x1b]0;taken\x07"
    red = {"fg": typer.colors.RED}
    assert seen == [typer.style(shown, **red), typer.style(f"FAILED {shown}", **red)]


SHOW_STATUS = """
import sys, time
from resattn.cli import terminal
terminal.SECONDS = 0.05
with terminal.status(sys.argv[1]) as show_step:
    time.sleep(0.2)
    show_step("[/]")
    time.sleep(0.3)
print("done")
"""


@pytest.mark.parametrize("line", ["[bold]x", "[/red]", HOSTILE])
def test_the_status_on_a_terminal(line):
    """A spinner with the time, in which nothing is markup."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", SHOW_STATUS, line]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, cwd=ROOT)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert (done.returncode, done.stdout) == (0, "done\n"), shown
    assert printable(line) in shown
    assert f"{printable(line)}: [/]" in shown
    assert "0:00:00" in shown
    assert TITLE not in shown


@pytest.mark.parametrize("line", ["[bold]x", HOSTILE])
def test_the_status_in_a_pipe(line):
    """Plain lines on standard error, now and then."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW_STATUS, line], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    lines = done.stderr.splitlines()
    assert f"{printable(line)} (0 s)" in lines
    assert f"{printable(line)}: [/] (0 s)" in lines
    assert 2 <= len(lines) <= 11
    assert "".join(lines).isprintable()


def test_the_status_of_what_is_done_at_once_is_silent(capsys):
    with status("quick") as show_step:
        show_step("step")
    assert capsys.readouterr() == ("", "")


def test_nobody_reads_the_status(monkeypatch):
    """A closed pipe does not end the work."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stderr", closed)
        monkeypatch.setattr(terminal, "SECONDS", 0.01)
        with status("work"):
            time.sleep(0.1)
        monkeypatch.undo()
        with contextlib.suppress(BrokenPipeError):
            closed.close()


def test_a_check_says_how_far_it_is(torch):
    code = (
        "import sys; from resattn.cli import app, terminal\n"
        "terminal.SECONDS = float(sys.argv.pop()); app.main()"
    )
    config = BlockConfig(2, 3, attention="none").to_json()
    command = [sys.executable, "-c", code, "check", "--config", config, "--frameworks", "torch"]
    quiet, told = (
        subprocess.run([*command, seconds], capture_output=True, text=True, cwd=ROOT)
        for seconds in ("1000", "0.1")
    )
    assert quiet.stdout == told.stdout
    assert "The same function" in told.stdout
    assert quiet.stderr == ""
    expected = (
        r"cross-check: \d of 6, (import torch|oracle|torch cpu, \w+|rounding to \w+) "
        r"\(\d+ s(, about \d+ s left)?\)"
    )
    lines = told.stderr.splitlines()
    assert any("1 of 6, import torch" in line for line in lines)
    assert all(re.fullmatch(expected, line) for line in lines), told.stderr


def test_the_time_that_is_left():
    """Once a quarter of the steps is done, from how long they took."""
    assert terminal._say_left(10.0, 0.0) == terminal._say_left(10.0, 0.2) == ""
    assert terminal._say_left(10.0, 0.25) == ", about 30 s left"
    assert terminal._say_left(90.0, 0.75) == ", about 30 s left"
    code = """
import sys, time
from resattn.checking.progress import StepCounter
from resattn.cli import terminal
terminal.SECONDS = 0.05
with terminal.status("work") as show_step:
    tell = StepCounter(show_step, 2)
    for step in ("one", "two"):
        tell(step)
        time.sleep(0.6)
"""
    ours, theirs = os.openpty()
    for stream in (theirs, subprocess.PIPE):
        done = subprocess.run([sys.executable, "-c", code], stderr=stream, text=True, cwd=ROOT)
        shown = os.read(ours, 1 << 16).decode() if stream == theirs else done.stderr
        assert re.search(r"work: 2 of 2, two .*, about 1 s left", shown), shown
        assert not re.search(r"work: 1 of 2, one [^\n]*left", shown.split("2 of 2")[0])
    os.close(ours)
    os.close(theirs)


def test_steps_are_numbered():
    lines = []
    steps = StepCounter(lines.append, 2)
    steps("oracle")
    steps("torch cpu")
    steps.show("torch cpu: try causes")
    assert lines == ["1 of 2, oracle", "2 of 2, torch cpu", "2 of 2, torch cpu: try causes"]
    assert [line.done for line in lines] == [0, 0.5, 0.5]


@pytest.mark.parametrize(("dtype", "steps"), [(None, 6), ("float32", 4)])
def test_every_step_of_a_check_is_told(torch, dtype, steps):
    lines = []
    config = BlockConfig(2, 3, attention="none")
    crosscheck(config, frameworks="torch", dtype=dtype, progress=lines.append)
    assert [line.partition(",")[0] for line in lines] == [
        f"{number} of {steps}" for number in range(1, steps + 1)
    ]


def test_every_step_of_the_others_is_told(torch):
    lines = []
    config = BlockConfig(2, 3, attention="none")
    precision(config, frameworks=("torch",), formats=("bfloat16",), progress=lines.append)
    assert [line.partition(",")[0] for line in lines] == [f"{n} of 5" for n in range(1, 6)]
    lines.clear()
    trace_frameworks(config, frameworks=("torch",), progress=lines.append)
    assert lines[2:] == [
        "1 of 4, eval, run torch cpu",
        "2 of 4, eval, compare torch cpu",
        "3 of 4, train, run torch cpu",
        "4 of 4, train, compare torch cpu",
    ]


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
        if path.name != "terminal.py":
            assert not re.search(r"typer\.s?echo\(", text), path.name


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
        "from resattn.cli.imports import import_module_or_file\n"
        f"import_module_or_file('--import', {name!r})\n"
        f"import_module_or_file('--import', {name!r})\n"
        "import os; print(sys.path.index(os.getcwd()) == len(sys.path) - 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["beside was imported", "True"], done.stderr
