"""Models of a user's own on the command line: explained, drawn, checked and ported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from resattn.cli.app import app, main
from resattn.cli.live import parse_live
from shared_tests.handmade_cases import FILES
from weights import read
from weights.errors import ArgumentError, MissingFileError

RUNNER = CliRunner()
FOLDER = Path(__file__).parent / "handmade"
BLOCKS = {
    "torch": "ResidualBlock(32, 64, stride={}, second={})",
    "jax": "ResidualBlock(32, 64, {}, {})",
    "tf": "ResidualBlock(32, 64, {}, {})",
}
NETS = {"torch": "Net(classes=7)", "jax": "Net(7)", "tf": "make_net(7)"}


def block_call(framework, stride=1, second=1):
    return f"{FOLDER / FILES[framework]}.py:{BLOCKS[framework].format(stride, second)}"


def net_call(framework):
    return f"{FOLDER / FILES[framework]}.py:{NETS[framework]}"


def invoke(*words):
    """What a command prints, with single spaces, and its exit status."""
    done = RUNNER.invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return " ".join(done.output.split()), done.exit_code


@pytest.mark.parametrize(
    ("text", "module", "name", "arguments", "options", "called"),
    [
        ("net.py:Net", "net.py", "Net", (), {}, False),
        ("net.py:Net()", "net.py", "Net", (), {}, True),
        ("a/b c/net.py:Net(1, 'x')", "a/b c/net.py", "Net", (1, "x"), {}, True),
        ("torchvision.models:resnet18(weights=None)", "torchvision.models", "resnet18", (),
         {"weights": None}, True),
        ("net.py:Nets.small(width=(1, 2))", "net.py", "Nets.small", (), {"width": (1, 2)}, True),
        ("C:\\x\\net.py:Net(-1)", "C:\\x\\net.py", "Net", (-1,), {}, True),
    ],
)  # fmt: skip
def test_calls(text, module, name, arguments, options, called):
    found = parse_live(text)
    assert found is not None
    assert (found.module, found.name, found.arguments) == (module, name, arguments)
    assert (found.options, found.called) == (options, called)


@pytest.mark.parametrize(
    "text",
    [None, "block.safetensors", "hf://owner/name", "hf://owner/name@main", "a.pt", "C:\\a.pt"],
)
def test_files_are_no_calls(text):
    assert parse_live(text) is None


def test_a_file_that_is_there_is_no_call(tmp_path):
    path = tmp_path / "net.py:Net"
    path.write_text("")
    assert parse_live(path) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("net.py:Net(open('x'))", r"net.py:Net\(open\('x'\)\): expected plain values as arguments"),
        ("net.py:Net(**{})", r"net.py:Net\(\*\*\{\}\): expected plain values as arguments"),
        ("net.py:Net(1,,2)", r"net.py:Net\(1,,2\): cannot be read as a call"),
    ],
)
def test_other_calls_are_refused(text, said):
    with pytest.raises(ArgumentError, match=said):
        parse_live(text)


def test_what_is_not_there(tmp_path, torch):
    with pytest.raises(MissingFileError, match=r"the model missing.py: there is no such file"):
        invoke("explain", "missing.py:Net")
    with pytest.raises(ArgumentError, match=r"there is no 'Nett' in .*sketch_torch.py"):
        invoke("explain", f"{FOLDER / 'sketch_torch.py'}:Nett")
    with pytest.raises(ArgumentError, match=r"no_such_module: there is no such module"):
        invoke("explain", "no_such_module:Net")


def test_arguments_are_never_executed(tmp_path):
    """Only the file is run, and that after the arguments were read."""
    (tmp_path / "net.py").write_text("raise SystemExit('the file was run')\n")
    with pytest.raises(ArgumentError, match="expected plain values"):
        invoke("explain", f"{tmp_path / 'net.py'}:Net(__import__('os').getcwd())")


@pytest.mark.parametrize("stride", [1, 2])
def test_explain(framework, stride, tmp_path):
    """The sketch of the forum thread, as it is executed and as what it was taken for."""
    channels = ("--channels", 32) if framework == "tf" else ()
    target = tmp_path / "explained.json"
    call = block_call(framework, stride)
    output, status = invoke("explain", call, "--size", "16x16", *channels, "--json", target)
    assert status == 0
    assert "is a residual block, 32 to 64 channels" in output
    assert f"stride {stride}, attention se" in output
    assert "all 15 operations are those of the config" in output
    assert f"{FILES[framework]}.py:" in output
    assert json.loads(target.read_text())["steps"]


def test_explain_what_fails(framework):
    """At stride 2 the addition of the sketch fails; in English and in Chinese."""
    channels = ("--channels", 32) if framework == "tf" else ()
    call = block_call(framework, 2, 2)
    output, status = invoke("explain", call, "--size", "16x16", *channels)
    assert status == 0
    assert "(64, 4, 4) and (64, 8, 8)" in output
    assert "the main path by 4, the shortcut by 2" in output
    assert "has stride 2, ours 1: the main path shrinks by 4, the shortcut by 2, and" in output
    chinese, _ = invoke("explain", call, "--size", "16x16", *channels, "--lang", "zh")
    assert "捷径缩小到 1/2" in chinese
    assert "因此无法相加" in chinese


def test_draw(framework, tmp_path):
    target = tmp_path / "drawn.svg"
    output, status = invoke("draw", net_call(framework), "--size", "32x32", "--to", target)
    assert status == 0
    assert net_call(framework) in output
    picture = target.read_text()
    assert "(N, 7)" in picture
    assert "linear, 64 → 7" in picture
    drawn, status = invoke("draw", net_call(framework), "--size", "32x32")
    assert status == 0
    assert "linear, 64" in drawn


def test_check(framework):
    """With ours of the same weights, in evaluation and in training. What Flax and Keras keep as
    the running variance is another estimate than PyTorch's.
    """
    output, status = invoke("check", net_call(framework), "--frameworks", framework)
    assert "is a residual network of 2 blocks, widths 32, 64, 7 classes, attention se" in output
    assert "decay" not in output  # it was read from the modules
    if framework == "torch":
        assert status == 0
        assert "diverges" not in output
    else:
        assert status == 1
        assert "In evaluation all agree; they differ in training alone." in output
        assert "keeps the biased variance" in output
        assert ", eval" not in output


def test_check_what_is_none_of_ours(framework):
    channels = ("--channels", 32) if framework == "tf" else ()
    output, status = invoke("check", block_call(framework, 2, 2), *channels)
    assert status == 1
    assert "is none of our blocks or networks" in output


def test_port_and_back(framework, tmp_path):
    """A model of a user's own becomes a file of ours, and is compared with it."""
    target = tmp_path / "net.safetensors"
    output, status = invoke("port", net_call(framework), target)
    assert status == 0
    assert "46 arrays" in output
    config, arrays = read(target)
    assert (config.widths, config.classes) == ((32, 64), 7)
    assert arrays["stages.1.0.attention.fc1.weight"].shape == (4, 64, 1, 1)
    with pytest.raises(ArgumentError, match="exists already"):
        invoke("port", net_call(framework), target)


def test_port_a_checkpoint_of_its_own_names(torch, tmp_path):
    """A state dict of the user's class goes through that class. Then the class with these weights
    is compared with the file that was written.
    """
    from shared_tests.handmade import sketch_torch

    torch.manual_seed(3)
    net = sketch_torch.Net(7)
    torch.save(net.state_dict(), tmp_path / "mine.pt")
    output, status = invoke(
        "port", tmp_path / "mine.pt", tmp_path / "ours.safetensors", "--model", net_call("torch")
    )
    assert status == 0, output
    _, arrays = read(tmp_path / "ours.safetensors")
    assert np.array_equal(arrays["stem.conv.weight"], net.stem[0].weight.detach().numpy())
    (tmp_path / "load.py").write_text(
        "import torch\n"
        "from shared_tests.handmade.sketch_torch import Net\n"
        "def load():\n"
        "    net = Net(7)\n"
        f"    net.load_state_dict(torch.load({str(tmp_path / 'mine.pt')!r}))\n"
        "    return net\n"
    )
    words = ("--model", f"{tmp_path / 'load.py'}:load()", "--frameworks", "torch")
    output, status = invoke("check", tmp_path / "ours.safetensors", *words)
    assert status == 0, output
    words = ("--model", net_call("torch"), "--frameworks", "torch")
    output, status = invoke("check", tmp_path / "ours.safetensors", *words)
    assert status == 1, "another net with other weights"
    assert "diverges at stem.conv" in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("explain", "net.py:Net", "--config", "resnet18"), "--config: cannot be combined"),
        (("explain", "net.py:Net", "--code", "torch"), "--code: cannot be combined"),
        (("draw", "net.py:Net", "--as", "resnet18"), "--as: cannot be combined"),
        (("check", "net.py:Net", "--grid"), "--grid: cannot be combined"),
        (("explain", "--channels", "3"), "--channels: is for a model of your own"),
        (("check", "--only", "layer1"), "--only: is for a model of your own"),
        (("check", "--model", "resnet18"), "--model: expected a model of your own as in"),
        (("port", "net.py:Net", "a.npz", "--fold"), "--fold: cannot be combined"),
    ],
)
def test_options_that_exclude_each_other(words, said):
    with pytest.raises(ArgumentError, match=said):
        invoke(*words)


def test_a_keras_layer_without_variables(keras):
    with pytest.raises(
        ArgumentError, match="no variables before it is called; say with --channels"
    ):
        invoke("explain", block_call("tf"))


def test_errors_of_the_file_keep_their_traceback(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text("import no_such_thing\n")
    monkeypatch.setattr("sys.argv", ["resattn", "explain", f"{tmp_path / 'net.py'}:Net"])
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        main()


def test_the_help_says_that_the_file_is_run():
    for command in ("explain", "draw", "check", "port"):
        output, _ = invoke(command, "--help")
        assert "runs the file" in " ".join(output.replace("│", " ").split())


def test_record_and_compare(all_frameworks, tmp_path):
    """The same weights in a user's own PyTorch model and in ours in JAX, recorded apart."""
    ours = tmp_path / "ours.safetensors"
    assert invoke("port", net_call("torch"), ours)[1] == 0
    (tmp_path / "load.py").write_text(
        "import weights\n"
        "from shared_tests.handmade.sketch_torch import Net\n"
        "from resattn import read_model, recognise_model\n"
        "import torch\n"
        "def load():\n"
        "    net = Net(7)\n"
        f"    config, arrays = weights.read({str(ours)!r})\n"
        "    names = recognise_model(read_model(net, (20, 18))).parameters\n"
        "    state = net.state_dict()\n"
        "    for name, array in arrays.items():\n"
        "        own = names[name]\n"
        "        state[own] = torch.tensor(array).reshape(state[own].shape)\n"
        "    net.load_state_dict(state)\n"
        "    return net\n"
    )
    images = tmp_path / "x.npy"
    np.save(images, np.random.default_rng(0).normal(size=(2, 3, 12, 11)).astype("float32"))
    mine, theirs = tmp_path / "mine.safetensors", tmp_path / "theirs.safetensors"
    output, status = invoke(
        "record", f"{tmp_path / 'load.py'}:load", "--to", mine, "--inputs", images
    )
    assert status == 0, output
    assert "is a residual network of 2 blocks" in output
    words = ("--framework", "jax", "--inputs", images, "--steps", "0")
    assert invoke("record", ours, "--to", theirs, *words)[1] == 0
    output, status = invoke("compare", mine, theirs)
    assert status == 0, output
    assert "The same" in output


def test_record_needs_a_framework(tmp_path):
    with pytest.raises(ArgumentError, match="--framework: expected torch, jax or tf"):
        invoke("record", "--to", tmp_path / "run.safetensors")
    with pytest.raises(ArgumentError, match="--steps: cannot be combined"):
        invoke("record", "net.py:Net", "--to", tmp_path / "run.safetensors", "--steps", "2")
