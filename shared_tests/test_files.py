"""Weights files: each format, older and newer versions, checksums, and how files are replaced."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from resattn.checking.draws import random_arrays
from shared_tests.files_cases import FORMATS, FUZZED, SMALL, rewrite_metadata, suffix_of
from weights import (
    BlockConfig,
    BottleneckConfig,
    NetworkConfig,
    Recipe,
    WeightsError,
    read,
    read_checkpoint,
    read_training,
    schema,
    write,
)
from weights.convert import BFLOAT16
from weights.errors import ArgumentError, FileError, MissingFileError
from weights.files.atomic import temporary_name, write_atomically
from weights.files.formats import read_header
from weights.files.hub import INDEX as SUFFIX
from weights.files.label import checksum
from weights.files.training import trainable
from weights.recipe import AdamW

ROOT = Path(__file__).parent.parent
ORIGIN = {"file": "m.pt", "library": "timm", "license": "apache-2.0"}
DTYPES = [BFLOAT16, np.dtype("float16"), np.dtype("float32"), np.dtype("float64")]


def raises(error, message):
    return pytest.raises(error, match=re.escape(message))


def is_same(first, second) -> bool:
    """Whether arrays have the same names, dtypes and bits."""
    return list(first) == list(second) and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


def sort(arrays):
    """In the order in which they are in a training state."""
    return dict(sorted(arrays.items()))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_keeps_every_bit(tmp_path, name, dtype):
    path = tmp_path / name
    arrays = {key: array.astype(dtype) for key, array in random_arrays(SMALL).items()}
    write(path, SMALL, arrays, origin=ORIGIN)
    found = read_checkpoint(path)
    assert found.config == SMALL
    assert found.origin == ORIGIN
    assert is_same(found.arrays, arrays)
    assert all(array.flags.writeable for array in found.arrays.values())


@pytest.mark.parametrize("name", FORMATS)
def test_a_long_label(tmp_path, name):
    """An attribute of HDF5 has less than 64 KiB, and checksums of 2,000 arrays more."""
    origin = {"file": "x" * 200_000}
    write(tmp_path / name, SMALL, random_arrays(SMALL), origin=origin)
    assert read_checkpoint(tmp_path / name).origin == origin


@pytest.mark.parametrize("name", [*FUZZED, "b.weights.h5", "b.keras"])
def test_the_same_arrays_make_the_same_bytes(tmp_path, name):
    """In processes of their own, since the order of a set or of a hash changes between them."""
    code = (
        "import sys; from shared_tests.files_cases import SMALL; "
        "from resattn.checking.draws import random_arrays; from weights import write; "
        "write(sys.argv[1], SMALL, random_arrays(SMALL), origin={'file': 'a', 'library': 'b'})"
    )
    paths = [tmp_path / folder / name for folder in ("first", "second")]
    for path in paths:
        path.parent.mkdir()
        subprocess.run([sys.executable, "-c", code, path], check=True, cwd=ROOT)
    contents = [
        {each.name: each.read_bytes() for each in path.parent.rglob("*") if each.is_file()}
        for path in paths
    ]
    assert contents[0] == contents[1]


def values(parameters, dtype):
    """What the files of version 1 hold: numbers that every dtype has."""
    found = {}
    for number, parameter in enumerate(parameters):
        count = int(np.prod(parameter.shape))
        numbers = ((np.arange(count, dtype=np.int64) * 37 + number * 11) % 61 - 30) / 32
        if parameter.role == "norm variance":
            numbers = np.abs(numbers) + 0.5
        found[parameter.name] = numbers.reshape(parameter.shape).astype(dtype)
    return found


BLOCK = BlockConfig(3, 5, 3, 2, attention="se", attention_options={"reduction": 2})
BOTTLENECK = BottleneckConfig(
    4, 8, 3, 2, attention="cbam", conv_bias=False, groups=2, hidden_channels=4
)
NETWORK = NetworkConfig(3, 3, (4, 6), (1, 1), attention="eca")
FIRST = {"block-float32": BLOCK, "bottleneck-bfloat16": BOTTLENECK, "network-float64": NETWORK}


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt", ".keras"])
@pytest.mark.parametrize("name", FIRST)
def test_files_of_version_1(torch, name, suffix):
    """Written before files had a version; they must load for ever."""
    found = read_checkpoint(ROOT / "shared_tests" / "files_v1" / f"{name}{suffix}")
    dtype = {"bfloat16": BFLOAT16}.get(name.split("-")[1], name.split("-")[1])
    expected = values(schema(FIRST[name]), dtype)
    if suffix == ".keras":  # Keras keeps running statistics in float32 at least
        wide = {p.name for p in schema(FIRST[name]) if not p.trainable and dtype == BFLOAT16}
        expected |= {key: expected[key].astype("float32") for key in wide}
    assert found.config == FIRST[name]
    assert is_same(found.arrays, expected)
    assert found.origin == (ORIGIN if name == "network-float64" and suffix != ".keras" else {})


def test_a_training_state_of_version_1():
    state = read_training(ROOT / "shared_tests" / "files_v1" / "training-float32.safetensors")
    assert (state.config, state.step, state.examples) == (NETWORK, 3, 64)
    assert state.recipe == Recipe(AdamW(0.01))
    assert is_same(state.arrays, sort(values(schema(NETWORK), "float32")))
    for moment in state.recipe.optimizer.moments:
        assert is_same(state.moments[moment], sort(values(trainable(NETWORK), "float32")))


@pytest.mark.parametrize("name", FORMATS)
def test_a_newer_version_is_refused_by_its_number(tmp_path, name, monkeypatch):
    monkeypatch.setattr("weights.files.label.LATEST", 3)
    write(tmp_path / name, SMALL, random_arrays(SMALL))
    monkeypatch.undo()
    message = (
        f"{name}: is a file of version 3, and this resattn reads versions 1 to 2; read it with a "
        "newer resattn"
    )
    with raises(ArgumentError, message):
        read(tmp_path / name)


def test_the_header_is_read_without_the_values(tmp_path):
    """What comes after the header is not touched."""
    path = tmp_path / "net.safetensors"
    write(path, NETWORK, random_arrays(NETWORK))
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    path.write_bytes(content[:start] + bytes(len(content) - start))
    found = read_header(path)
    assert found.config == NETWORK
    assert [each.shape for each in found.arrays.values()] == [p.shape for p in schema(NETWORK)]
    with raises(WeightsError, "net.safetensors: is damaged: these arrays are not the ones that"):
        found.read()


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path):
    """The system would end the process."""
    path = tmp_path / "b.npz"
    write(path, NETWORK, random_arrays(NETWORK))
    found = read_header(path)
    with path.open("rb+") as file:
        file.truncate(100)
    with raises(WeightsError, "b.npz: became shorter while it was read"):
        found.read()


def test_every_checksum_is_compared(tmp_path):
    """One damaged array is named, and no other."""
    path = tmp_path / "block.safetensors"
    arrays = random_arrays(BLOCK)
    write(path, BLOCK, arrays)
    content = bytearray(path.read_bytes())
    place = content.index(arrays["conv2.weight"].tobytes())
    content[place + 3] ^= 4
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read(path)
    assert len(caught.value.faults) == 1
    damaged = np.frombuffer(bytes(content), np.uint8)[place:][: arrays["conv2.weight"].nbytes]
    shape = arrays["conv2.weight"].shape
    assert caught.value.faults[0] == (
        f"conv2.weight: expected CRC-32 {checksum(arrays['conv2.weight'])!r}, got "
        f"{checksum(damaged.view('float32').reshape(shape))!r}"
    )


def test_a_checksum_is_of_dtype_and_shape_as_well():
    zeros = [np.zeros((2, 3), "float32"), np.zeros((3, 2), "float32"), np.zeros((2, 3), "int32")]
    assert len({checksum(array) for array in zeros}) == 3
    array = random_arrays(BLOCK)["conv1.weight"]
    assert checksum(np.asfortranarray(array)) == checksum(array)
    assert checksum(array.astype(">f4")) == checksum(array)


@pytest.mark.parametrize(("change", "message"), [
    ({"resattn": None}, "is damaged: its config is not the one that was written"),
    ({"resattn": '{"model": "ResidualBlockWithAttention", "in_channels": 1, "out_channels": 2}'},
     "is damaged: its config is not the one that was written"),
    ({"origin": "{}"}, "is damaged: its origin is not the one that was written"),
    ({"version": None}, "is damaged: what it says about itself is not whole"),
    ({"version": "2x"}, "is damaged: what it says about itself is not whole"),
    ({"checksums": None}, "the checksums in b.safetensors: expected JSON"),
    ({"checksums": "[]"}, "is damaged: its checksums are no JSON object"),
    ({"checksums": "{}"}, "is damaged: what it says about itself is not whole"),
])  # fmt: skip
def test_a_damaged_label(tmp_path, change, message):
    path = tmp_path / "b.safetensors"
    write(path, SMALL, random_arrays(SMALL), origin=ORIGIN)
    rewrite_metadata(path, change)
    with raises((WeightsError, ArgumentError), message):
        read(path)


def test_shards(tmp_path):
    """Small ones, which replace those before, and only those."""
    path = tmp_path / f"net{SUFFIX}"
    stranger = tmp_path / "net-other.safetensors"
    stranger.write_bytes(b"not ours")
    before = random_arrays(NETWORK)
    write(path, NETWORK, before)
    assert len(list(tmp_path.glob("net-0*"))) == 1
    after = {name: array + 1 for name, array in before.items()}
    write(path, NETWORK, after, shard_bytes=1000)
    index = json.loads(path.read_text())
    shards = set(index["weight_map"].values())
    assert len(shards) > 2
    assert {each.name for each in tmp_path.iterdir()} == {path.name, stranger.name, *shards}
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in after.values())
    assert is_same(read(path)[1], after)
    with raises(ArgumentError, "shard_bytes: expected a positive integer, got 0"):
        write(path, NETWORK, after, shard_bytes=0)
    with raises(ArgumentError, "shard_bytes: a.npz is one file; expected a .safetensors.index"):
        write(tmp_path / "a.npz", NETWORK, after, shard_bytes=1000)


def test_two_writers_of_one_index(tmp_path):
    """Each removes the files that are not its own, so they must wait for each other."""
    path = tmp_path / f"net{SUFFIX}"
    choices = [random_arrays(NETWORK, seed=seed) for seed in (0, 1)]

    def write_often(arrays):
        for _ in range(8):
            write(path, NETWORK, arrays, shard_bytes=2000)

    threads = [threading.Thread(target=write_often, args=(arrays,)) for arrays in choices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(is_same(read(path)[1], arrays) for arrays in choices)


def test_a_failure_between_shards(tmp_path, monkeypatch):
    """Whichever file cannot be written, the checkpoint before is there, and nothing else."""
    from weights.files import sharded

    path = tmp_path / f"net{SUFFIX}"
    before = random_arrays(NETWORK)
    write(path, NETWORK, before, shard_bytes=2000)
    files = set(tmp_path.iterdir())
    after = {name: array + (name.startswith("stages.1")) for name, array in before.items()}
    for calls in range(len(files)):
        left = [None] * calls

        def write_some(target, write_to, left=left):
            if not left:
                raise FileError("full")
            left.pop()
            write_atomically(target, write_to)

        monkeypatch.setattr(sharded, "write_atomically", write_some)
        with raises(FileError, "full"):
            write(path, NETWORK, after, shard_bytes=2000)
        assert set(tmp_path.iterdir()) == files, calls
        assert is_same(read(path)[1], before)
    monkeypatch.undo()
    abandoned = tmp_path / "net-00001-of-00002-01234567.safetensors"  # by a writer that was killed
    abandoned.write_bytes(b"")
    write(path, NETWORK, after, shard_bytes=2000)
    assert not abandoned.exists()
    assert is_same(read(path)[1], after)


@pytest.mark.parametrize(("change", "error", "message"), [
    (lambda files: files.clear(), WeightsError, 'is no index of safetensors files: expected a "we'),
    (lambda files: files.update(x="../a.safetensors"), WeightsError,
     "names '../a.safetensors', and expected are names of .safetensors files in the same folder"),
    (lambda files: files.update(x="a.pt"), WeightsError, "names 'a.pt', and expected are names of"),
    (lambda files: files.update(x=3), WeightsError, "names 3, and expected are names of"),
    (lambda files: files.update(x="a.safetensors"), MissingFileError,
     "names a.safetensors, and there is no such file beside it; get all files of the checkpoint"),
    (lambda files: files.update(x=files["bn1.bias"]), WeightsError, "'x': not in net-00001"),
    (lambda files: files.pop("bn1.bias"), WeightsError, "'bn1.bias': in net-00001"),
])  # fmt: skip
def test_an_index_that_does_not_fit(tmp_path, change, error, message):
    path = tmp_path / f"net{SUFFIX}"
    write(path, BLOCK, random_arrays(BLOCK))
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))
    with raises(error, message):
        read(path)


def test_permissions_are_kept(tmp_path):
    path = tmp_path / "secret.safetensors"
    write(path, SMALL, random_arrays(SMALL))
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    for mode in (0o600, 0o640):
        path.chmod(mode)
        write(path, SMALL, random_arrays(SMALL, seed=1))
        assert path.stat().st_mode & 0o777 == mode


def test_a_symbolic_link_stays(tmp_path):
    real, link = tmp_path / "store" / "real.safetensors", tmp_path / "link.safetensors"
    real.parent.mkdir()
    for points_to in (real, Path("store/real.safetensors")):  # one that does not exist yet, as well
        link.unlink(missing_ok=True)
        link.symlink_to(points_to)
        write(link, SMALL, random_arrays(SMALL))
        assert link.is_symlink()
        assert read(real)[0] == SMALL
        assert [each.name for each in real.parent.iterdir()] == [real.name]
        real.unlink()


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
def test_the_longest_name(torch, tmp_path, suffix):
    path = tmp_path / ("n" * (255 - len(suffix)) + suffix)
    write(path, SMALL, random_arrays(SMALL))
    assert read(path)[0] == SMALL
    with raises(FileError, "cannot be written (File name too long)"):
        write(tmp_path / ("n" * 256 + suffix), SMALL, random_arrays(SMALL))


def test_files_of_killed_writers_are_removed(tmp_path):
    """And no others: of writers that are running, on other machines, of a minute ago."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = {"own": temporary_name(tmp_path / "a.npz")}
    parts = names["own"].name.split("-")
    for kind, host, process in (
        ("dead", parts[1], gone.pid),
        ("fresh", parts[1], gone.pid),
        ("other", "00000000", gone.pid),
    ):
        names[kind] = tmp_path / f".resattn-{host}-{process}-{kind}.npz"
        names[kind].write_bytes(b"half")
    for kind in ("own", "dead", "other"):
        os.utime(names[kind], (time.time() - 100,) * 2)
    write(tmp_path / "b.safetensors", SMALL, random_arrays(SMALL))
    left = {kind for kind, path in names.items() if path.exists()}
    assert left == {"own", "fresh", "other"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_real_full_disk(tmp_path, name):
    """The system's limit of the size of a file has the effect of one, in any place of a write."""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no limit of the size of files")
    path = tmp_path / name
    write(path, SMALL, random_arrays(SMALL))
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    code = """
import resource, signal, sys
if sys.argv[1].endswith(".pt"):
    import torch
from resattn.checking.draws import random_arrays
from shared_tests.files_cases import SMALL
from weights import write
from weights.errors import FileError
arrays = random_arrays(SMALL, seed=1)
write(sys.argv[2], SMALL, arrays)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write(sys.argv[1], SMALL, arrays)
except FileError as error:
    print(error)
"""
    (tmp_path / "other").mkdir()
    command = [sys.executable, "-c", code, path, tmp_path / "other" / name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "cannot be written (File too large)" in done.stdout, done.stdout
    after = {
        each: each.read_bytes()
        for each in tmp_path.rglob("*")
        if each.is_file() and "other" not in each.parts
    }
    assert after == before


def test_a_target_that_is_a_folder(tmp_path):
    (tmp_path / "x.npz").mkdir()
    with raises(FileError, "x.npz: cannot be written (it is a folder)"):
        write(tmp_path / "x.npz", SMALL, random_arrays(SMALL))


def test_a_target_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    with raises(FileError, "x.npz: cannot be written (it is no regular file)"):
        write(tmp_path / "x.npz", SMALL, random_arrays(SMALL))
    assert (tmp_path / "x.npz").is_fifo()


def test_an_error_of_the_system_while_writing(tmp_path):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with raises(FileError, "a.bin: cannot be written (No space left on device)"):
        write_atomically(tmp_path / "a.bin", full)
    assert not list(tmp_path.iterdir())


def test_ten_thousand_arrays(tmp_path):
    """The reader of .npz took a time that grew with the square of their number."""
    config = NetworkConfig(1, 1, (1,), (1000,), attention="none", kernel_size=1)
    arrays = random_arrays(config)
    assert len(arrays) > 10_000
    np.savez(tmp_path / "deep.npz", **arrays)
    threads = threading.active_count()
    assert is_same(read(tmp_path / "deep.npz", config)[1], arrays)
    assert threading.active_count() == threads


def test_suffixes(tmp_path):
    assert suffix_of("NET.SAFETENSORS") == ".safetensors"
    assert suffix_of("a.safetensors.index.json") == SUFFIX
    with raises(ArgumentError, "a.onnx: cannot read .onnx; expected one of .safetensors, .safet"):
        read(tmp_path / "a.onnx")
