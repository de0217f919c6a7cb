"""The command line, as a user runs it, and what it prints."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from resattn.checking.draws import random_arrays
from resattn.cli.app import COMMANDS, app, main
from resattn.cli.terminal import shorten
from weights import BlockConfig, NetworkConfig, WeightsError, preset, read, write
from weights.attention import ATTENTION, attention_parameters
from weights.errors import ArgumentError, FileError, MissingFileError, ResattnError

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "weights" / "pretrained" / "se-digits.safetensors"
BLOCK = BlockConfig(3, 5, 3, 2, attention_options={"hidden_channels": 2})


@pytest.fixture
def block(tmp_path):
    write(tmp_path / "block.safetensors", BLOCK, random_arrays(BLOCK))
    return tmp_path / "block.safetensors"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fails(error, message, *arguments):
    """error: one of `weights.errors`; `main` shows those alone as a message."""
    assert issubclass(error, ResattnError)
    result = run(*arguments)
    assert isinstance(result.exception, error), repr(result.exception)
    assert message in str(result.exception)


def test_help_loads_nothing_slow():
    """What makes it quick (0.2 s, see `make bench`): neither NumPy nor anything of ours but the
    command line is imported.
    """
    code = """
import sys
from resattn.cli.app import main
sys.argv = ["resattn", "--help"]
try:
    main()
finally:
    slow = {"numpy", "safetensors", "weights", "shared_tests", "sklearn", "rich.progress"}
    slow |= {"torch", "jax", "flax", "keras", "tensorflow"}
    print("LOADED", sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(
        command in done.stdout
        for command in ("port", "inspect", "check", "attention", "draw", "demo")
    )
    assert done.stdout.rstrip().endswith("LOADED []")


@pytest.mark.parametrize("command", [command.__name__ for command in COMMANDS])
def test_the_help_of_every_command(command):
    """Rich would read a [word] in it as a style, and [/word] as an error."""
    result = run(command, "--help")
    assert result.exit_code == 0, result.exception
    words = "".join(result.output.split())
    if command in ("port", "inspect", "attach"):
        assert "hf://owner/name[/file][@revision]" in re.sub("[│┃|]", "", words)


def test_inspect(block):
    output = run("inspect", block).output
    assert (
        "a block, 3 to 5 channels, kernel 3 x 3, stride 2 x 2, attention se (hidden_channels 2)"
        in output
    )
    assert re.search(r"conv1\.weight +5 x 3 x 3 x 3 +out in row col +float32", output)
    assert str(len(random_arrays(BLOCK))) + " arrays" in output
    assert "least" not in output
    output = run("inspect", block, "--values").output
    assert re.search(r"conv1\.weight .* float32 +-\d\S+ +\d\S+ +\S+ +[▁▂▃▄▅▆▇█ ]+\n", output)
    assert "The values are those that were written: every checksum fits." in output
    assert "warning" not in output


def test_inspect_doubts(tmp_path):
    arrays = random_arrays(BLOCK)
    arrays["bn1.running_var"][2] = -1
    arrays["conv2.bias"][0] = np.nan
    write(tmp_path / "bad.npz", BLOCK, arrays)
    output = run("inspect", tmp_path / "bad.npz", "--values").output
    assert "warning: bn1.running_var holds negative variances" in output
    assert "warning: conv2.bias holds 1 NaN value" in output


def test_port_keeps_every_bit(torch, block, tmp_path):
    for source, target in (
        ("block.safetensors", "a.npz"),
        ("a.npz", "b.pt"),
        ("b.pt", "c.safetensors"),
    ):
        result = run("port", tmp_path / source, tmp_path / target)
        assert result.exit_code == 0, result.output
        assert f"{source} -> {target}: a block" in result.output
    assert (tmp_path / "c.safetensors").read_bytes() == block.read_bytes()


def test_port_replaces_a_file_only_with_force(block, tmp_path):
    (tmp_path / "there.npz").write_text("precious")
    fails(
        ArgumentError,
        "there.npz: exists already; pass --force to replace it",
        "port",
        block,
        tmp_path / "there.npz",
    )
    assert (tmp_path / "there.npz").read_text() == "precious"
    assert run("port", block, tmp_path / "there.npz", "--force").exit_code == 0
    assert read(tmp_path / "there.npz")[0] == BLOCK


def test_config_option(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "bare.safetensors"
    save_file(random_arrays(BLOCK), path)
    (tmp_path / "block.json").write_text(BLOCK.to_json())
    for config in (BLOCK.to_json(), tmp_path / "block.json"):
        assert run("inspect", path, "--config", config).exit_code == 0
    fails(
        ArgumentError,
        "--config: expected a preset (resnet18",
        "inspect",
        path,
        "--config",
        "resnet19",
    )
    fails(MissingFileError, "there is no such file", "inspect", path, "--config", "nowhere.json")
    fails(ArgumentError, "--config: expected JSON", "inspect", path, "--config", "{oops")
    fails(
        WeightsError,
        "bare.safetensors does not fit its config",
        "inspect",
        path,
        "--config",
        "resnet20",
    )


def test_check_says_yes(all_frameworks, block, tmp_path):
    result = run(
        "check", block, "--json", tmp_path / "report.json", "--size", "8x7", "--batch", "3"
    )
    assert result.exit_code == 0, result.output
    assert re.search(r"^The same function: all \d+ comparisons in float64", result.output, re.M)
    assert "In float32, all are as precise as rounding allows: torch cpu" in result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"]
    assert {"torch cpu", "jax cpu", "tf cpu", "oracle"} == {
        row["actual"] for row in report["rows"]
    } | {row["expected"] for row in report["rows"]}
    assert "input 3 x 3 x 8 x 7" in result.output


def test_check_says_no(torch, block, monkeypatch):
    monkeypatch.setattr("torch.nn.functional.relu", lambda x: x * (x > 0) * 1.001)
    monkeypatch.setattr("pytorch_impl.block.relu", lambda x: x * (x > 0) * 1.001)
    result = run("check", block, "--frameworks", "torch")
    assert result.exit_code == 1
    assert "FAILED" in result.output
    assert "eval output" in result.output
    assert "OVER" in result.output


def test_check_on_images_of_ones_own(torch, block, tmp_path):
    np.save(
        tmp_path / "x.npy", np.random.default_rng(0).normal(size=(3, 3, 6, 8)).astype("float32")
    )
    result = run(
        "check",
        block,
        "--frameworks",
        "torch",
        "--inputs",
        tmp_path / "x.npy",
        "--all",
        "--dtype",
        "float64",
    )
    assert result.exit_code == 0, result.output
    assert "in float64, input 3 x 3 x 6 x 8" in result.output
    assert result.output.count("bn1.running_var") == 2
    fails(
        ArgumentError,
        "inputs: expected (batch, 3, height, width)",
        *_check(block, tmp_path, np.zeros((2, 2))),
    )
    fails(
        MissingFileError,
        "there is no such file",
        "check",
        block,
        "--inputs",
        tmp_path / "nowhere.npy",
    )
    np.savez(tmp_path / "text.npy.npz", np.zeros(3))
    fails(FileError, "is not a .npy file", "check", block, "--inputs", tmp_path / "text.npy.npz")
    (tmp_path / "text.npy").write_text("hello")
    fails(FileError, "is not a .npy file", "check", block, "--inputs", tmp_path / "text.npy")


def test_check_traces(all_frameworks, block, tmp_path):
    result = run(
        "check",
        block,
        "--trace",
        "--size",
        "8x6",
        "--batch",
        "3",
        "--json",
        tmp_path / "trace.json",
    )
    assert result.exit_code == 0, result.output
    assert "Every stage computes what it should." in result.output
    assert re.search(r"^ +forward +backward$", result.output, re.MULTILINE)
    assert re.search(r"^  attention\.sigmoid( +[\d.e-]+){6}$", result.output, re.MULTILINE)
    assert json.loads((tmp_path / "trace.json").read_text())["ok"] is True


def test_check_traces_expected_outputs(torch, block, tmp_path):
    """The issue's own example: a checkpoint, and outputs that came from elsewhere."""
    from weights.live import adapter, build

    x = np.random.default_rng(0).normal(size=(3, 3, 6, 8)).astype("float32")
    other = BlockConfig.from_dict({**BLOCK.to_dict(), "bn_eps": 1e-3})
    y = adapter("torch").forward(build(other, random_arrays(BLOCK), "torch"), x)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    arguments = (
        "check",
        block,
        "--frameworks",
        "torch",
        "--inputs",
        tmp_path / "x.npy",
        "--expected",
    )
    result = run(*arguments, tmp_path / "y.npy", "--json", tmp_path / "trace.json")
    assert result.exit_code == 1
    assert "expected (y.npy), eval: diverges at output" in result.output
    assert (
        "batch norm eps: eps 0.001 instead of 1e-05, in all of bn1, bn2, shortcut.1"
        in result.output
    )
    found = json.loads((tmp_path / "trace.json").read_text())["findings"]
    assert [each["explanations"][0]["cause"] for each in found] == ["batch norm eps"]
    np.savez(
        tmp_path / "y.npz",
        output=adapter("torch").forward(build(BLOCK, random_arrays(BLOCK), "torch"), x),
    )
    assert run(*arguments, tmp_path / "y.npz").exit_code == 0
    np.savez(tmp_path / "z.npz", conv3=y)
    fails(
        ArgumentError,
        "expected: there is no stage 'conv3'; the stages are conv1",
        *arguments,
        tmp_path / "z.npz",
    )
    fails(MissingFileError, "there is no such file", *arguments, tmp_path / "nowhere.npz")
    (tmp_path / "text.npz").write_text("hello")
    fails(WeightsError, "text.npz: is not a whole .npz file", *arguments, tmp_path / "text.npz")
    fails(
        ArgumentError,
        "give these, too (--inputs)",
        "check",
        block,
        "--frameworks",
        "torch",
        "--expected",
        tmp_path / "y.npy",
    )


def test_check_in_low_precision(torch, block):
    for dtype in ("bfloat16", "mixed_float16"):
        result = run(
            "check", "--config", BLOCK.to_json(), "--frameworks", "torch", "--dtype", dtype
        )
        assert result.exit_code == 0, result.output
        assert re.search(r"^  in units of .+ torch cpu +limit$", result.output, re.MULTILINE)
        assert f"The same function (as far as {dtype} can tell)" in result.output
    fails(
        ArgumentError,
        "--dtype bfloat16: cannot be combined with --trace, --html",
        "check",
        block,
        *("--dtype", "bfloat16", "--trace", "--html", "report.html"),
    )
    fails(
        ArgumentError,
        "--dtype: expected one of float32, float64, bfloat16, float16, mixed_bfloat16, "
        "mixed_float16, got 'int8'",
        "check",
        block,
        "--dtype",
        "int8",
    )


def test_drift(torch, tmp_path):
    pytest.importorskip("sklearn")
    small = NetworkConfig(1, 10, widths=(4,), depths=(1,)).to_json()
    arguments = (
        "drift",
        "--config",
        small,
        "--frameworks",
        "torch",
        "--steps",
        "10",
        "--oracle",
        "--dtype",
        "float64",
    )
    result = run(*arguments, "--json", tmp_path / "drift.json")
    assert result.exit_code == 0, result.output
    assert "10 steps of SGD, Cosine, batches of 64, a network of 1 blocks" in result.output
    assert re.search(r"^  parameters( +[\d.e-]+)+ ", result.output, re.MULTILINE)
    assert json.loads((tmp_path / "drift.json").read_text())["ok"] is True
    recipe = '{"optimizer": {"name": "Adam"}, "batch_size": 16}'
    block = run(
        "drift",
        "--config",
        BLOCK.to_json(),
        "--frameworks",
        "torch",
        "--steps",
        "2",
        "--oracle",
        "--recipe",
        recipe,
    )
    assert "2 steps of Adam, Constant, batches of 16, a block, 3 to 5 channels" in block.output
    fails(
        ArgumentError,
        "--recipe: expected one of sgd, adam, adamw or JSON, got 'rmsprop'",
        *arguments,
        "--recipe",
        "rmsprop",
    )
    fails(ArgumentError, "--recipe: expected an object", *arguments, "--recipe", "[]")
    fails(
        ArgumentError,
        "--frameworks: expected two or more to compare, got 'torch'; name another one",
        "drift",
        "--frameworks",
        "torch",
    )
    fails(
        ArgumentError,
        "--dtype: expected float32 or float64, got 'int8'",
        "drift",
        "--dtype",
        "int8",
    )


def test_check_a_grid_and_its_page(torch, tmp_path):
    result = run(
        "check", "--grid", "--frameworks", "torch", "--batch", "2", "--html", tmp_path / "grid.html"
    )
    assert result.exit_code == 0, result.output
    assert result.output.count(" channels") == 0
    assert len(re.findall(r"^  \d+ to \d+, stride", result.output, re.MULTILINE)) == 15
    page = (tmp_path / "grid.html").read_text(encoding="utf-8")
    assert page.count('role="gridcell"') == 30  # in float64 and in float32
    message = "--grid: expected the config of a block, got a network of 9 blocks"
    fails(ArgumentError, message, "check", "--grid", "--config", "resnet20")
    for options in (["--size", "8x8"], ["--trace"], ["--inputs", "x.npy", "--expected", "y.npy"]):
        message = f"--grid: cannot be combined with {', '.join(options[::2])}"
        fails(ArgumentError, message, "check", "--grid", *options)
    fails(ArgumentError, "--grid: cannot be combined with FILE", "check", DIGITS, "--grid")


GOLDEN = sorted(path.stem for path in (ROOT / "weights" / "golden").iterdir())


def golden_lines(output):
    """(case, framework, excess, verdict) of each line."""
    pattern = r"^  ([\w-]+) +(\w+ cpu) +([\d.]+|inf) +(ok|OVER) +\w+ "
    return re.findall(pattern, output, re.MULTILINE)


def test_golden(torch, tmp_path):
    options = ("--frameworks", "torch", "--json", tmp_path / "golden.json")
    result = run("check", "--golden", *options)
    assert result.exit_code == 0, result.output
    lines = golden_lines(result.output)
    assert sorted(case for case, *_ in lines) == GOLDEN
    assert all(line[1::2] == ("torch cpu", "ok") and float(line[2]) <= 5 for line in lines)
    assert f"golden vectors in float64: {len(GOLDEN)} cases" in result.output
    reports = json.loads((tmp_path / "golden.json").read_text())
    assert [report["title"].split(":")[0] for report in reports] == [case for case, *_ in lines]
    compared = sum(len(report["rows"]) for report in reports)
    assert f"All {compared} comparisons are within what rounding explains." in result.output


def test_golden_says_no(torch, monkeypatch):
    from pytorch_impl.attention.eca import EfficientChannel

    monkeypatch.setattr("resattn.checking.golden.CASES", {"pairs": None, "attention-eca": None})
    right = EfficientChannel.forward
    monkeypatch.setattr(EfficientChannel, "forward", lambda self, x: 1.001 * right(self, x))
    result = run("check", "--golden", "--frameworks", "torch", "--dtype", "float64", "--all")
    assert result.exit_code == 1
    bad = {case for case, _, excess, verdict in golden_lines(result.output) if verdict == "OVER"}
    assert bad == {"attention-eca"}
    assert "golden vectors in float64: 2 cases" in result.output
    assert re.search(r"^  attention-eca: .+ torch cpu against oracle", result.output, re.MULTILINE)
    assert re.search(r"^FAILED: \d+ of \d+ comparisons are over", result.output, re.MULTILINE)


def test_golden_takes_what_is_installed(torch, monkeypatch):
    """As where PyTorch alone is installed, and where nothing is."""
    from weights import MissingFramework
    from weights.live import adapter

    present = {"torch"}

    def installed(framework):
        if framework not in present:
            raise MissingFramework(f"{framework} is not installed; install it")
        return adapter(framework)

    monkeypatch.setattr("weights.live.adapter", installed)
    monkeypatch.setattr("resattn.checking.golden.CASES", {"pairs": None})
    result = run("check", "--golden")
    assert result.exit_code == 0, result.output
    assert [line[:2] for line in golden_lines(result.output)] == [("pairs", "torch cpu")]
    for framework in ("jax", "tf"):
        assert f"not checked: {framework} is not installed; install it" in result.output
    present.clear()
    fails(MissingFramework, "no framework is installed:\ntorch is not", "check", "--golden")


def test_golden_options():
    options = ("--size", "8x8", "--batch", "8", "--dtype", "float16")
    message = "--golden: cannot be combined with FILE, --size, --batch, --dtype float16"
    fails(ArgumentError, message, "check", DIGITS, "--golden", *options)
    message = "--frameworks: expected names separated by commas, got ' ,'"
    fails(ArgumentError, message, "check", "--golden", "--frameworks", " ,")


def _check(block, tmp_path, array):
    np.save(tmp_path / "wrong.npy", array)
    return "check", block, "--frameworks", "torch", "--inputs", tmp_path / "wrong.npy"


def test_check_options(block):
    fails(
        ArgumentError,
        "--size: expected HEIGHTxWIDTH as in 32x33, got '32'",
        "check",
        block,
        "--size",
        "32",
    )
    fails(
        ArgumentError,
        "--size: expected HEIGHTxWIDTH as in 32x33, got '\u00b2x3'",
        "check",
        block,
        "--size",
        "\u00b2x3",
    )
    fails(
        ArgumentError,
        "--as: says what is in a file, so it needs FILE, which was not given",
        "check",
        "--as",
        "resnet50",
    )
    fails(
        ArgumentError,
        "--frameworks: expected one of torch, jax, tf",
        "check",
        block,
        "--frameworks",
        "mxnet",
    )


# Errors


def run_main(monkeypatch, *arguments):
    """The exit status of `main`."""
    monkeypatch.setattr(sys, "argv", ["resattn", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "--inputs", "x.npy"), "--inputs x.npy: there is no such file"),
        (("attention", "--size", "7"), "--size: expected HEIGHTxWIDTH as in 32x33, got '7'"),
        (("inspect", "missing.npz"), "missing.npz: there is no such file"),
    ],
)
def test_an_error_of_the_user_is_one_message_and_status_2(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"resattn: {message}\n"


def test_debug_shows_the_traceback(monkeypatch, capsys):
    assert run_main(monkeypatch, "--debug", "attention", "--size", "7") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("Traceback (most recent call last):\n")
    assert "in parse_size\n" in captured.err
    assert captured.err.endswith(
        "ArgumentError: --size: expected HEIGHTxWIDTH as in 32x33, got '7'\n"
    )


def test_a_bug_keeps_its_traceback(block):
    """In a process of its own, which shows what a user sees."""
    code = f"""
import sys
import weights.files.formats
from resattn.cli.app import main

def read(*arguments):
    raise ValueError("zip() argument 2 is shorter")

weights.files.formats.read_header = read
sys.argv = ["resattn", "inspect", {str(block)!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert "in read\n" in done.stderr
    assert done.stderr.endswith("ValueError: zip() argument 2 is shorter\n")


def test_a_wrong_option_is_left_to_typer(monkeypatch, capsys):
    assert run_main(monkeypatch, "check", "--sise", "8x8") == 2
    captured = capsys.readouterr()
    assert "No such option" in captured.err
    assert "Traceback" not in captured.err


def test_a_file_of_images_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.npy").touch()
    monkeypatch.setattr(Path, "open", refuse)
    message = "x.npy: cannot be read (Permission denied)"
    fails(FileError, message, "check", "--inputs", tmp_path / "x.npy")


def test_a_module_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "mine.py").touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    fails(FileError, "mine.py: cannot be read", "--import", tmp_path / "mine.py", "attention")


@pytest.mark.parametrize("name", ["nowhere", "nowhere.inside", "json.nowhere", "a b", ".up", ""])
def test_modules_that_cannot_be_found(name):
    fails(ArgumentError, f"--import {name}: there is no such module", "--import", name, "attention")


def test_an_error_in_a_module_of_the_user_is_not_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").write_text("import not_installed_anywhere\n")
    for name in ("broken_package", "broken_package.inside", "broken_package/__init__.py"):
        error = run("--import", name, "attention").exception
        assert type(error) is ModuleNotFoundError
        assert error.name == "not_installed_anywhere"
    fails(
        MissingFileError, "--import absent.py: there is no such file", "--import", "absent.py",
        "attention",
    )  # fmt: skip


def test_nan_in_the_weights_is_blamed_once(torch, tmp_path):
    arrays = random_arrays(BLOCK)
    arrays["conv1.weight"][0, 0, 0, 0] = np.nan
    write(tmp_path / "nan.safetensors", BLOCK, arrays)
    result = run(
        "check",
        tmp_path / "nan.safetensors",
        "--frameworks",
        "torch",
        "--json",
        tmp_path / "nan.json",
    )
    assert result.exit_code == 1
    assert "FAILED: conv1.weight holds nan at (0, 0, 0, 0), so there is" in result.output
    report = json.loads(
        (tmp_path / "nan.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} is not JSON"),
    )
    assert report["undefined"].startswith("conv1.weight holds nan")
    assert all(row["ok"] for row in report["rows"])  # blamed once


def test_long_messages_are_shortened():
    error = WeightsError("it does not fit:", [f"{number:03}: missing" for number in range(200)])
    assert len(error.faults) == 200
    assert shorten(str(error)).splitlines()[-1] == "  and 181 more"
    assert shorten("one line") == "one line"


def test_demo(all_frameworks):
    """The whole demo, as `make demo` runs it."""
    pytest.importorskip("sklearn")
    done = subprocess.run(
        [sys.executable, "-m", "resattn.cli.app", "demo"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "450 of 450 predictions equal" in " ".join(done.stdout.split())
    accuracies = re.findall(r"(\d+\.\d+)%", done.stdout)
    assert len(accuracies) == 4  # three frameworks and the oracle
    assert set(accuracies) == {"99.56"}
    assert done.stderr == ""


def test_the_pretrained_file_is_small_and_whole():
    config, arrays = read(DIGITS)
    assert DIGITS.stat().st_size < 1_000_000
    assert config.attention == "se"
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_the_training_of_the_demo_learns(torch):
    """A network that is trained for 3 of the 40 epochs reads most of the held-out digits."""
    pytest.importorskip("sklearn")
    from rich.console import Console

    from resattn.training.digits import split
    from resattn.training.train_digits import count_correct, train

    data = split()
    model = train(data.training_images, data.training_labels, 3, 0, Console(quiet=True))
    assert not model.training
    assert count_correct(model, data.held_out_images, data.held_out_labels) > 0.85 * 450


def test_drift_has_the_recipe_of_the_demo():
    from resattn.cli.drift import parse_recipe
    from resattn.training.train_digits import recipe

    assert parse_recipe("sgd", 30) == recipe(30)


# Attention


def test_attention_lists_every_kind(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    done = run("attention", "--channels", "512", "--size", "7x7")
    assert done.exit_code == 0, done.output
    rows = {
        line.split()[0]: line
        for line in done.stdout.splitlines()
        if line.startswith("  ") and line[2] != " "
    }
    assert set(rows) == {"kind", *ATTENTION}
    assert rows["se"].split()[1:3] == ["33,312", "32,768"]
    assert rows["eca"].split()[1:3] == ["5", "2,560"]
    assert max(map(len, done.stdout.splitlines())) <= 100
    words = " ".join(done.stdout.split())
    for described in ATTENTION.values():
        assert described.summary in words
        assert described.source.split(",")[0] in words


@pytest.mark.parametrize("kind", ATTENTION)
def test_attention_describes_one_kind(kind):
    done = run("attention", kind, "--channels", "64", "--size", "6x5")
    assert done.exit_code == 0, done.output
    described = ATTENTION[kind]
    words = " ".join(done.stdout.split())
    assert described.summary in words
    assert described.source in words
    assert " ".join(described.explanation.split()) in words
    assert all(option in words for option in described.options)
    options = {"size": (6, 5)} if kind == "mhsa" else {}
    assert all(f"  {p.name} " in done.stdout for p in attention_parameters(kind, 64, options))


def test_attention_with_options():
    output = run(
        "attention", "ge", "--channels", "32", "--options", '{"gather": "convolution", "mlp": true}'
    ).output
    assert "gather=convolution, extent=None, size=(14, 14), mlp=True" in " ".join(output.split())
    assert (
        f"{32 * 196 + 64 + 2 * 32 * 2 + 34:,} parameters, {32 * 196 + 2 * 32 * 2:,} multiply-adds"
        in output
    )
    fails(ArgumentError, "--options: expected a KIND that has them", "attention", "--options", "{}")
    fails(ArgumentError, "--options: expected JSON, got 'x'", "attention", "se", "--options", "x")
    fails(ArgumentError, "--options: expected an object", "attention", "se", "--options", "[1]")
    fails(ArgumentError, "'se' has no 'x'", "attention", "se", "--options", '{"x": 1}')


def test_attention_of_no_such_kind():
    fails(ArgumentError, "attention: expected one of none, se, ese", "attention", "sse")
    assert (
        "mhsa                 -" in run("attention", "--channels", "3").stdout
    )  # four heads do not divide three channels


def test_presets_are_the_networks_they_are_named_after():
    """Trainable numbers of torchvision's resnet18 and resnet34, and of the CIFAR ResNet-20 with
    projections.
    """
    from weights import schema

    def count(name, **changes):
        return sum(int(np.prod(p.shape)) for p in schema(preset(name, **changes)) if p.trainable)

    assert count("resnet18") == 11_689_512
    assert count("resnet34") == 21_797_672
    assert count("resnet20") == 269_722 + 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert count("se-resnet18") > count("resnet18")
