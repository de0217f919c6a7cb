"""`resattn draw`: the command, the files that it writes, and its errors."""

import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from resattn.checking.cases import attention_block
from resattn.checking.draws import random_arrays
from resattn.cli.app import app, main
from resattn.drawing import printing
from resattn.drawing.nodes import TIMES
from resattn.drawing.pictures import PICTURES, README_BLOCK, README_PICTURES, scene_of
from resattn.drawing.svg import svg
from weights import preset, write

ROOT = Path(__file__).parent.parent
FONTS = ROOT / "resattn" / "drawing" / "fonts"


def run(*arguments):
    return CliRunner().invoke(app, ["draw", *map(str, arguments)])


def fails(error, message, *arguments):
    result = run(*arguments)
    assert isinstance(result.exception, error), result.output
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_pictures_of_the_readme_are_up_to_date():
    for name, config in README_PICTURES.items():
        assert (PICTURES / name).read_text(encoding="utf-8") == svg(scene_of(config)), (
            "run: make picture"
        )
    assert "pictures/block.svg" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_draw_on_the_terminal(tmp_path):
    output = run().output
    assert f"conv1  3{TIMES}3 conv, 64 → 128, stride 2" in output
    assert "sigmoid" in output
    assert "\x1b" not in output
    assert "\n│ ▣  attention: se\n" in run("--closed").output
    config = attention_block("eca", {}, (3, 6))
    write(tmp_path / "block.safetensors", config, random_arrays(config))
    assert "1-d conv, kernel" in run(tmp_path / "block.safetensors").output
    assert "(N, 6, 5, 4)" in run(tmp_path / "block.safetensors", "--size", "9x8").output


def test_a_terminal_without_unicode():
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "resattn.cli.app", "draw"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "64 -> 128, stride 2" in done.stdout


def test_draw_files(tmp_path):
    for suffix, start in (
        (".svg", b"<svg "),
        (".mmd", b"%%{init: "),
        (".md", b"# ResidualBlockWithAttention\n"),
    ):
        target = tmp_path / f"picture{suffix}"
        assert run("--to", target).exit_code == 0
        assert target.read_bytes().startswith(start)
    fails(ValueError, "exists already; pass --force to replace it", "--to", target)
    assert run("--to", target, "--force", "--config", "se-resnet18").exit_code == 0
    page = target.read_text(encoding="utf-8")
    assert page.startswith("# ResidualAttentionNetwork se-resnet18\n")
    assert re.search(r"```mermaid\n%%\{init.*\}%%\nflowchart TB\n", page)
    dark = tmp_path / "dark.svg"
    run("--to", dark, "--dark")
    assert "prefers-color-scheme" not in dark.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dark.svg",
        "picture.md",
        "picture.mmd",
        "picture.svg",
    ]


def test_draw_pixels(png, tmp_path):
    heights = []
    for scale, options in ((1, []), (2, ["--dark"])):
        target = tmp_path / f"{scale}.png"
        result = run("--to", target, "--scale", scale, *options)
        assert result.exit_code == 0, result.output
        content = target.read_bytes()
        assert content.startswith(b"\x89PNG\r\n")
        heights.append(int.from_bytes(content[20:24]))
    assert heights[1] == 2 * heights[0]


def test_pixels_are_the_same_on_every_machine(png, monkeypatch):
    """The fonts are ours; those of the system are used for other characters alone."""
    import resvg_py

    real, given = resvg_py.svg_to_bytes, []

    def watched(**options):
        given.append(options)
        return real(**options)

    monkeypatch.setattr(resvg_py, "svg_to_bytes", watched)
    text = svg(scene_of(README_BLOCK), "light")
    drawn = printing.png(text, 1)
    assert given[-1]["skip_system_fonts"] is True
    assert {Path(each).parent for each in given[-1]["font_files"]} == {FONTS}
    assert drawn != printing.png(re.sub(">[^<>]+</text>", "></text>", text), 1)  # words are drawn
    printing.png(text.replace("conv1", "龘"), 1)
    assert given[-1]["skip_system_fonts"] is False


def test_fonts_have_every_character_of_our_pictures():
    """`_RANGES` of printing.py is what they were cut to, and they have these characters."""
    for config in (README_BLOCK, preset("se-resnet18"), preset("se-resnet50")):
        assert printing._has_glyphs(svg(scene_of(config), "light"))
    assert not printing._has_glyphs("龘")


def test_draw_pdf(png, tmp_path):
    target = tmp_path / "picture.pdf"
    assert run("--to", target).exit_code == 0
    content = target.read_bytes()
    assert content.startswith(b"%PDF-")
    streams = re.findall(rb"FlateDecode[^>]*>>\s*stream\r?\n(.*?)endstream", content, re.DOTALL)
    everything = content + b"".join(zlib.decompressobj().decompress(each) for each in streams)
    for font in (b"DejaVuSans-Bold", b"DejaVuSans", b"DejaVuSansMono"):
        assert b"+" + font in everything
    assert b"/MediaBox" in everything


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_without_the_library_for_pixels(suffix, tmp_path, monkeypatch, capsys):
    library = {"png": "resvg_py", "pdf": "typst"}[suffix]
    monkeypatch.setitem(sys.modules, library, None)
    target = tmp_path / f"picture.{suffix}"
    named = library.replace("_", "-")
    fails(
        ImportError, f'needs {named}; install it with: pip install "resattn[draw]"', "--to", target
    )
    monkeypatch.setattr(sys, "argv", ["resattn", "draw", "--to", str(target)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_one_block_of_a_network():
    output = run("--config", "se-resnet18", "--only", "stages.1.0", "--size", "224x224").output
    assert "(N, 64, 56, 56)" in output
    assert f"shortcut.0  1{TIMES}1 conv, 64 → 128, stride 2, no bias" in output
    fails(
        ValueError,
        "block: expected one of stages.0.0, stages.0.1,",
        "--config",
        "resnet18",
        "--only",
        "stage1",
    )
    fails(ValueError, "block: got 'conv1', but there is only one block", "--only", "conv1")


def test_what_cannot_be_drawn(tmp_path):
    fails(
        ValueError,
        "picture.gif: cannot draw .gif; expected one of .svg, .png, .pdf, .mmd, .md",
        "--to",
        tmp_path / "picture.gif",
    )
    fails(ValueError, "cannot draw a file without suffix", "--to", tmp_path / "picture")
    fails(FileNotFoundError, "does not exist", "--to", tmp_path / "none" / "picture.svg")
    fails(ValueError, "--open, --closed: are for one block", "--config", "resnet18", "--open")
    fails(ValueError, "--size: expected HEIGHTxWIDTH", "--size", "9")
    fails(ValueError, "--as: says what is in a file", "--as", "resnet50")
    fails(ValueError, "--part: says what is in a file", "--part", "model_ema")
    mhsa = attention_block("mhsa", {"heads": 1, "size": None}).to_json()
    message = (
        "size: images of 9 x 9 do not fit attention: mhsa: was made for maps of 5 x 4 (height x "
        "width) by its option size, got 5 x 5; images of 10 x 8 fit"
    )
    fails(ValueError, message, "--config", mhsa, "--size", "9x9")
    halved = attention_block("nonlocal", {"subsample": True}).to_json()
    fails(
        ValueError,
        "nonlocal with subsample: expected 2 or more along each axis, got 1 x 5",
        "--config",
        halved,
        "--size",
        "2x9",
    )
