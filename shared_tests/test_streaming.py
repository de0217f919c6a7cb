"""Files into models, models into files, files into files: bytes, memory, roll-back, progress."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file, save

from resattn.checking.draws import random_arrays
from resattn.cli.progress import show_progress
from weights import (
    BlockConfig,
    NetworkConfig,
    build_from,
    export,
    load,
    read,
    read_into,
    write,
)  # fmt: skip
from weights import (
    save as save_model,
)
from weights.convert import DTYPES
from weights.errors import ArgumentError, WeightsError
from weights.files import npz, safetensors
from weights.files.formats import read_header, transfer
from weights.frameworks import FRAMEWORKS
from weights.live import LiveModel, adapter, build
from weights.stored import StoredArray

ROOT = Path(__file__).parent.parent
BLOCK = BlockConfig(3, 5, (3, 1), (2, 1), attention_options={"hidden_channels": 2})
NETWORK = NetworkConfig(2, 7, (40, 72), (1, 2), stem_kernel_size=5, stem_pool=True)
LARGE = BlockConfig(1200, 1500, 3)  # 146 MB


def same(actual, expected):
    return list(actual) == list(expected) and all(
        (actual[name].dtype, actual[name].shape) == (expected[name].dtype, expected[name].shape)
        and actual[name].tobytes() == expected[name].tobytes()
        for name in expected
    )


def of_all_dtypes():
    return {
        f"{dtype} {size}": np.arange(size).reshape(1, size).astype(dtype)
        for size in (0, 1, 5)
        for dtype in map(np.dtype, [*DTYPES, "int8", "uint8", "int64", "bool"])
    }


def test_the_bytes_of_the_safetensors_library():
    arrays = of_all_dtypes()
    ours = b"".join(safetensors.to_pieces({"format": "pt"}, arrays))
    theirs = save(arrays, {"format": "pt"})  # one entry: the order of several would change
    assert ours == theirs


def test_the_bytes_of_numpy(tmp_path):
    arrays = {name: array for name, array in of_all_dtypes().items() if "bfloat16" not in name}
    npz.write(tmp_path / "ours.npz", {}, arrays)
    np.savez(tmp_path / "theirs.npz", **arrays)
    assert (tmp_path / "ours.npz").read_bytes() == (tmp_path / "theirs.npz").read_bytes()


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.msgpack"])
def test_a_transfer_makes_the_bytes_of_a_write(tmp_path, name):
    """From a file in another order of axes, too."""
    arrays = random_arrays(NETWORK)
    (tmp_path / "b").mkdir()
    for source in ("s.safetensors", "s.msgpack"):
        write(tmp_path / source, NETWORK, arrays, origin={"file": "x"})
        seen: list[tuple[str, int]] = []

        def advance(stage, nbytes, seen=seen):
            seen.append((stage, nbytes))

        transfer(read_header(tmp_path / source), tmp_path / name, advance=advance)
        write(tmp_path / "b" / name, NETWORK, arrays, origin={"file": "x"})
        assert (tmp_path / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        total = sum(array.nbytes for array in arrays.values())
        in_one_pass = name.endswith(".safetensors")
        for stage in ("writing",) if in_one_pass else ("checking", "writing"):
            assert sum(nbytes for each, nbytes in seen if each == stage) == total
        assert {stage for stage, _ in seen} == (
            {"writing"} if in_one_pass else {"checking", "writing"}
        )


@pytest.mark.parametrize("target", ["b.npz", "b.safetensors", "b.safetensors.index.json"])
def test_a_damaged_file_is_not_transferred(tmp_path, target):
    path = tmp_path / "a.safetensors"
    write(path, BLOCK, random_arrays(BLOCK))
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.safetensors: is damaged: these arrays are not"):
        transfer(read_header(path), tmp_path / target)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_files_into_models_and_back(all_frameworks, tmp_path, framework):
    arrays, others = random_arrays(NETWORK), random_arrays(NETWORK, seed=7)
    for name in ("a.safetensors", "a.npz", "a.msgpack"):
        write(tmp_path / name, NETWORK, arrays)
        model = build(NETWORK, others, framework)
        assert read_into(model, tmp_path / name).config == NETWORK
        assert same(export(model), arrays)
        assert same(export(build_from(tmp_path / name, framework)), arrays)
    save_model(tmp_path / "b.safetensors", model)
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_a_damaged_file_leaves(all_frameworks, tmp_path, framework):
    path = tmp_path / "a.safetensors"
    write(path, NETWORK, random_arrays(NETWORK))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    before = random_arrays(NETWORK, seed=7)
    model = build(NETWORK, before, framework)
    with pytest.raises(WeightsError, match="is damaged"):
        read_into(model, path)
    with pytest.raises(ArgumentError, match="is another than the one given"):
        read_into(build(BLOCK, random_arrays(BLOCK), framework), path)
    assert same(export(model), before)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_failure_in_the_middle_is_rolled_back(all_frameworks, framework, error):
    """The last array fails, when others are in the model."""
    before, arrays = random_arrays(NETWORK, seed=7), random_arrays(NETWORK)
    model = build(NETWORK, before, framework)

    def fail():
        raise error("the disk is gone")

    last = list(arrays)[-1]
    broken = {**arrays, last: StoredArray(arrays[last].shape, arrays[last].dtype, fail)}
    with pytest.raises(error, match="the disk is gone"):
        load(model, broken)
    assert same(export(model), before)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_that_fails_in_the_middle(all_frameworks, framework, monkeypatch):
    before, arrays = random_arrays(NETWORK, seed=7), random_arrays(NETWORK)
    model = build(NETWORK, before, framework)
    own, calls = adapter(framework).assign, []

    def assign(leaves, values):
        own(leaves, values)
        calls.append(len(leaves))
        if len(calls) == 1:
            raise MemoryError("no room")

    monkeypatch.setattr(adapter(framework), "assign", assign)
    with pytest.raises(MemoryError, match="no room"):
        load(model, arrays)
    assert len(calls) > 1
    assert same(export(model), before)


def test_a_model_gets_its_own_memory(torch):
    """Arrays that are views of the model itself, exchanged."""
    config = BlockConfig(4, 4, 3)
    model = build(config, random_arrays(config), "torch")
    before = export(model)
    views = {name: leaf.detach().numpy() for name, leaf in LiveModel.of(model).leaves.items()}
    views |= {"conv1.weight": views["conv2.weight"], "conv2.weight": views["conv1.weight"]}
    load(model, views)
    after = export(model)
    assert after["conv1.weight"].tobytes() == before["conv2.weight"].tobytes()
    assert after["conv2.weight"].tobytes() == before["conv1.weight"].tobytes()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_model_and_what_is_exported_share_no_memory(all_frameworks, framework):
    arrays = random_arrays(NETWORK)
    model = build(NETWORK, arrays, framework)
    held = export(model)
    for array in (*arrays.values(), *held.values()):
        array[...] = 0
    assert same(export(model), random_arrays(NETWORK))


PEAK = """
import sys, threading
import numpy
from pathlib import Path
from weights.files.formats import read_header, transfer
import weights.files.npz, weights.files.sharded, weights.files.msgpack

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))

before = peak = anonymous()
done = threading.Event()
def look():
    global peak
    while not done.wait(0.002):
        peak = max(peak, anonymous())
sampler = threading.Thread(target=look)
sampler.start()
transfer(read_header(sys.argv[1]), sys.argv[2])
done.set()
sampler.join()
print(peak - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what is anonymous")
def test_the_memory_of_a_transfer(tmp_path):
    """146 MB of weights, of which one array has 81. Those that need no other order of axes are
    never in anonymous memory; of those that do, one is for each core.
    """
    write(tmp_path / "a.safetensors", LARGE, random_arrays(LARGE))
    for source, target, most in (
        ("a.safetensors", "b.safetensors", 30),
        ("a.safetensors", "a.safetensors.index.json", 30),
        ("b.safetensors", "a.npz", 30),
        ("a.npz", "b.npz", 30),
    ):
        command = [sys.executable, "-c", PEAK, tmp_path / source, tmp_path / target]
        done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
        assert int(done.stdout) < most, (source, target)
    assert same(read(tmp_path / "b.npz")[1], read(tmp_path / "a.safetensors")[1])
    assert len(load_file(tmp_path / "b.safetensors")) == len(random_arrays(LARGE))


def test_what_inspect_imports(tmp_path):
    """The header alone is read, by few modules."""
    write(tmp_path / "a.safetensors", BLOCK, random_arrays(BLOCK))
    code = (
        "import sys; from weights.files.formats import read_header; read_header(sys.argv[1]); "
        "print(*(name for name in sys.modules if name.startswith('weights')))"
    )
    command = [sys.executable, "-c", code, tmp_path / "a.safetensors"]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    names = set(done.stdout.split())
    assert "weights.files.safetensors" in names
    others = ("hdf5", "keras", "msgpack", "npz", "orbax", "pytorch", "sharded", "training")
    assert not names & {f"weights.files.{name}" for name in others}
    assert "weights.dialects" not in names


def show(stages, *, terminal, delay=0.0):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)
    with show_progress("[bold]a -> b", 2_000_000, console, delay) as advance:
        for stage in stages:
            advance(stage, 500_000)
            advance(stage, 1_500_000)
        if not delay:
            console_is_live(console)
    return console.file.getvalue()


def console_is_live(console):
    """Waits for the first picture."""
    for _ in range(1000):
        if console.file.getvalue():
            return
        time.sleep(0.005)


def test_a_bar_with_bytes_and_rate():
    output = show(["checking", "writing"], terminal=True)
    assert "[bold]a -> b: checking" in output
    assert "[bold]a -> b: writing" in output
    assert "2.0/2.0 MB" in output
    assert re.search(r"[MG]B/s", output)


def test_no_bar_for_what_is_quick_or_without_a_terminal():
    assert show(["checking"], terminal=True, delay=60.0) == ""
    assert show(["checking"], terminal=False, delay=0.001) == ""


def test_a_bar_ends_with_an_error():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)

    def work():
        with show_progress("a", 1, console, delay=0.0) as advance:
            advance("checking", 1)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert "\x1b[?25h" in console.file.getvalue() or not console.file.getvalue()  # the cursor


def test_a_model_on_several_devices(keras):
    """Each replica of a tf.distribute strategy gets the weights."""
    code = """
import tensorflow as tf
one = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(one, [tf.config.LogicalDeviceConfiguration()] * 2)
from resattn.checking.draws import random_arrays
from tf_impl import ResidualBlockWithAttention
from weights import BlockConfig, load
config = BlockConfig(4, 6)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = ResidualBlockWithAttention.from_config(config)
arrays = random_arrays(config)
load(model, arrays)
kernel = arrays["conv1.weight"].transpose(2, 3, 1, 0)
assert [(each.numpy() == kernel).all() for each in model.conv1.kernel.value.values] == [True, True]
"""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
