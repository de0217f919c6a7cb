"""Orbax checkpoints: read and written, against Orbax itself; broken and hostile ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from shared_tests.files_cases import load_state, nest_arrays, save_state
from shared_tests.test_files_flax import BLOCK, NETWORK, draw, same, shapes, with_values
from weights.convert import DTYPES
from weights.errors import (
    ArgumentError,
    FileError,
    MissingFileError,
    MissingFramework,
    WeightsError,
)
from weights.files import folders, orbax
from weights.files.label import CONFIG
from weights.stored import read_arrays

save, load = partial(save_state, orbax), partial(load_state, orbax)


@pytest.fixture(scope="module")
def checkpoint():
    """The module orbax.checkpoint."""
    pytest.importorskip("jax")
    return pytest.importorskip("orbax.checkpoint")


@pytest.fixture(scope="module")
def written(checkpoint, tmp_path_factory) -> Path:
    """A checkpoint of ours, not to be changed."""
    path = tmp_path_factory.mktemp("written") / "block.orbax"
    save(path, BLOCK, draw(BLOCK))
    return path


@pytest.fixture(scope="module")
def in_files(checkpoint, tmp_path_factory) -> Path:
    """A checkpoint that Orbax wrote without a database, not to be changed."""
    path = tmp_path_factory.mktemp("in_files") / "block"
    put(checkpoint, path, nest_arrays(BLOCK, draw(BLOCK)), use_ocdbt=False)
    return path


def put(checkpoint, path, tree, save_args=None, **options):
    with checkpoint.Checkpointer(checkpoint.PyTreeCheckpointHandler(**options)) as writer:
        writer.save(path, args=checkpoint.args.PyTreeSave(tree, save_args=save_args))


@pytest.fixture
def copy(tmp_path):
    """Copies a checkpoint to a place where it can be changed."""
    return lambda path: Path(shutil.copytree(path, tmp_path / "copy" / path.name, symlinks=True))


@pytest.fixture(autouse=True)
def threads():
    """No thread stays. One that ends may take a moment."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_written_is_read(checkpoint, tmp_path, capfd, dtype):
    path, arrays = tmp_path / "net.orbax", draw(NETWORK, dtype)
    label = save(path, NETWORK, arrays)
    header = orbax.read(path)
    assert (header.label, header.layout) == (label, "jax")
    assert same(load(path, NETWORK), arrays)
    assert [each.name for each in tmp_path.iterdir()] == ["net.orbax"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_orbax_restores_what_is_written(checkpoint, tmp_path, dtype):
    import jax
    from flax import nnx

    from weights.live import adapter, build, export

    path, arrays = tmp_path / "net.orbax", draw(NETWORK, dtype)
    save(path, NETWORK, arrays)
    model = adapter("jax").create(NETWORK, dtype=dtype)
    target = nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngState)))
    with checkpoint.StandardCheckpointer() as reader:
        plain, like = reader.restore(path), reader.restore(path, target)
    assert str(shapes(plain)) == str(shapes(nest_arrays(NETWORK, arrays))).replace(
        "0:", "'0':"
    ).replace("1:", "'1':")
    assert isinstance(jax.tree.leaves(like)[0], jax.Array)
    nnx.update(model, nnx.restore_int_paths(plain))
    assert same(export(model), arrays)
    nnx.update(model, like)
    assert same(export(model), export(build(NETWORK, arrays, "jax")))  # in the target's dtypes


@pytest.mark.parametrize(
    "options",
    [{}, {"use_ocdbt": False}, {"use_zarr3": True}, {"use_ocdbt": False, "use_zarr3": True}],
    ids=["database", "files", "zarr3", "zarr3 in files"],
)
def test_what_orbax_writes_is_read(checkpoint, tmp_path, options):
    arrays = draw(NETWORK)
    wrapped = {
        "dropout": {"rngs": {"count": np.uint32(3)}},
        **with_values(nest_arrays(NETWORK, arrays)),
    }
    put(checkpoint, tmp_path / "state", wrapped, **options)
    assert orbax.read(tmp_path / "state").label == {}
    assert same(load(tmp_path / "state", NETWORK), arrays)


def test_states_of_nnx(checkpoint, tmp_path):
    """As Flax's guide saves them, with the keys of random numbers in them."""
    from flax import nnx

    from weights.live import build, export

    arrays = draw(NETWORK)
    state = nnx.state(build(NETWORK, arrays, "jax"))
    with checkpoint.StandardCheckpointer() as writer:
        writer.save(tmp_path / "state", state)
        writer.save(tmp_path / "all", {"params": state, "opt_state": {"mu": state}, "step": 3})
    assert same(load(tmp_path / "state", NETWORK), arrays)
    assert same(load(tmp_path / "all", NETWORK), arrays)
    assert export(build(NETWORK, arrays, "jax")).keys() == arrays.keys()


@pytest.mark.parametrize("options", [{}, {"use_ocdbt": False}, {"use_zarr3": True}])
def test_arrays_in_pieces(checkpoint, tmp_path, options):
    """What Orbax does to large arrays, and to those that many devices have parts of."""
    import jax

    tree = {"a": jax.numpy.arange(35.0).reshape(5, 7), "b": np.float32(3)}
    small = {"a": checkpoint.SaveArgs(chunk_byte_size=32), "b": checkpoint.SaveArgs()}
    put(checkpoint, tmp_path / "state", tree, small, **options)
    found = read_arrays(orbax.read(tmp_path / "state").arrays)
    assert same(found, {name: np.asarray(array) for name, array in tree.items()})
    if "use_ocdbt" in options:
        pieces = [each for each in (tmp_path / "state" / "a").iterdir() if each.name[0] != "."]
        assert len(pieces) > 3
        pieces[2].unlink()
        with pytest.raises(WeightsError, match=f"'a' has {len(pieces) - 1} of its {len(pieces)} p"):
            orbax.read(tmp_path / "state")


@pytest.mark.parametrize("items", [("default",), ("state",), ("default", "ema")])
def test_folders_of_a_manager(checkpoint, tmp_path, items):
    trees = [nest_arrays(BLOCK, draw(BLOCK, dtype)) for dtype in ("float16", "float32")]
    with checkpoint.CheckpointManager(tmp_path / "run") as manager:
        for step, tree in zip((9, 10), trees, strict=True):
            each = {name: checkpoint.args.StandardSave(tree) for name in items}
            notes = checkpoint.args.JsonSave({"epoch": step})
            manager.save(step, args=checkpoint.args.Composite(**each, notes=notes))
        manager.wait_until_finished()
    (tmp_path / "run" / "11.orbax-checkpoint-tmp").mkdir()
    assert same(load(tmp_path / "run", BLOCK), draw(BLOCK))
    assert same(load(tmp_path / "run" / "9", BLOCK), draw(BLOCK, "float16"))
    assert same(load(tmp_path / "run" / "9" / items[0], BLOCK), draw(BLOCK, "float16"))


def test_a_folder_of_several_checkpoints(written, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(written, tmp_path / "all" / name)
    with pytest.raises(ArgumentError) as error:
        orbax.read(tmp_path / "all")
    assert str(error.value) == "all: holds several checkpoints: a, b; give the folder of one"


def test_a_folder_that_is_no_checkpoint(checkpoint, tmp_path):
    (tmp_path / "x" / "7").mkdir(parents=True)
    with pytest.raises(ArgumentError, match=r"^x: is no Orbax checkpoint: expected a folder with"):
        orbax.read(tmp_path / "x")


def test_names_of_other_libraries(checkpoint, tmp_path):
    arrays = {"layer1.0.conv1.weight": np.ones((2, 1), "f4"), "fc.bias": np.zeros(3, "f8")}
    orbax.write(tmp_path / "a", {}, arrays, None)
    assert orbax.read(tmp_path / "a").layout == "torch"
    assert same(read_arrays(orbax.read(tmp_path / "a").arrays), arrays)
    arrays = {"conv1_conv/kernel": np.ones((2, 1), "f4"), "conv1_conv/bias": np.zeros(3, "f8")}
    orbax.write(tmp_path / "b", {}, arrays, None)
    assert same(read_arrays(orbax.read(tmp_path / "b").arrays), arrays)


def test_replacing(checkpoint, tmp_path):
    path = tmp_path / "block.orbax"
    path.mkdir(mode=0o700)
    save(path, BLOCK, draw(BLOCK))
    link = tmp_path / "link"
    link.symlink_to(path)
    save(link, BLOCK, draw(BLOCK, "float16"))
    assert link.is_symlink()
    assert same(load(path, BLOCK), draw(BLOCK, "float16"))
    assert path.stat().st_mode & 0o777 == 0o700
    assert {each.name for each in tmp_path.iterdir()} == {"block.orbax", "link"}


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_failure_leaves_the_old_one(written, copy, monkeypatch, can_exchange):
    path = copy(written)
    if not can_exchange:
        monkeypatch.setattr(folders.ctypes, "CDLL", lambda _: object())
        monkeypatch.setattr(Path, "replace", fail_once(Path.replace, "new"))
    else:
        monkeypatch.setattr(folders.os, "fsync", fail)
    with pytest.raises(FileError, match=r"block\.orbax: cannot be written \(No space left"):
        save(path, BLOCK, draw(BLOCK, "float16"))
    assert same(load(path, BLOCK), draw(BLOCK))
    assert [each.name for each in path.parent.iterdir()] == ["block.orbax"]


def fail(*_):
    raise OSError(28, "No space left on device")


def fail_once(replace, name):
    """Path.replace that fails for a folder of this name."""
    return lambda self, target: fail() if self.name == name else replace(self, target)


def test_replacing_where_the_system_cannot_exchange(written, copy, monkeypatch):
    path = copy(written)
    monkeypatch.setattr(folders.ctypes, "CDLL", lambda _: object())
    save(path, BLOCK, draw(BLOCK, "float16"))
    assert same(load(path, BLOCK), draw(BLOCK, "float16"))
    assert [each.name for each in path.parent.iterdir()] == ["block.orbax"]


KILLED = """
import os, signal, sys
from pathlib import Path
from weights.files.folders import write_folder_atomically

def write_to(folder):
    folder.mkdir()
    (folder / "half").write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)

write_folder_atomically(Path(sys.argv[1]), write_to, lambda folder: True)
"""


def test_what_a_killed_writer_leaves_is_removed(written, copy):
    path = copy(written)
    for _ in range(2):
        command = [sys.executable, "-c", KILLED, path]
        root = Path(folders.__file__).parents[2]
        assert subprocess.run(command, cwd=root, check=False).returncode == -9
        assert same(load(path, BLOCK), draw(BLOCK))
        assert len(list(path.parent.iterdir())) == 2
    save(path, BLOCK, draw(BLOCK, "float16"))
    assert [each.name for each in path.parent.iterdir()] == ["block.orbax"]


def test_what_a_living_writer_has_made_stays(written, copy):
    path = copy(written)

    def write_to(folder):
        shutil.copytree(written, folder)
        save(path, BLOCK, draw(BLOCK, "float16"))

    folders.write_folder_atomically(path, write_to, orbax._is_item)
    assert same(load(path, BLOCK), draw(BLOCK))
    assert [each.name for each in path.parent.iterdir()] == ["block.orbax"]


@pytest.mark.parametrize("step", ["iterdir", "_lock"])
def test_what_another_writer_removes_first(tmp_path, monkeypatch, step):
    left = tmp_path / ".a-abcdefgh"
    (left / "new").mkdir(parents=True)
    owner = folders if step == "_lock" else Path
    do = getattr(owner, step)

    def late(folder):
        if folder == left:
            shutil.rmtree(left)
        return do(folder)

    monkeypatch.setattr(owner, step, late)
    folders.write_folder_atomically(tmp_path / "a", Path.mkdir, orbax._is_item)
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_writers_at_the_same_time(tmp_path):
    """Of one checkpoint, which was not there before: the last one stays, none fails."""

    def write_to(folder):
        folder.mkdir()
        (folder / "_METADATA").touch()
        everyone.wait()

    everyone = threading.Barrier(4)
    target = tmp_path / "a"
    with ThreadPoolExecutor(4) as pool:
        each = [
            pool.submit(folders.write_folder_atomically, target, write_to, orbax._is_item)
            for _ in range(4)
        ]
        assert [one.result() for one in each] == [None] * 4
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_a_kill_where_the_system_cannot_exchange(written, copy):
    """The old folder is aside; the next writer puts it back before it begins."""
    path = copy(written)
    left = path.parent / ".block.orbax-abcdefgh"
    left.mkdir()
    path.rename(left / "old")
    other = path.parent / ".block.orbax-my_notes"
    (other / "diary").mkdir(parents=True)
    with pytest.raises(FileError, match="No space left"):
        folders.write_folder_atomically(path, fail, orbax._is_item)
    assert same(load(path, BLOCK), draw(BLOCK))
    assert {each.name for each in path.parent.iterdir()} == {"block.orbax", other.name}


def test_what_is_not_replaced(checkpoint, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for name in ("folder", "file"):
        with pytest.raises(
            FileError, match=f"{name}: is there and is not a checkpoint of the kind"
        ):
            save(tmp_path / name, BLOCK, draw(BLOCK))
    with pytest.raises(MissingFileError, match=r"the folder .* does not exist"):
        save(tmp_path / "absent" / "a", BLOCK, draw(BLOCK))
    assert (tmp_path / "folder" / "thesis.tex").exists()


def test_without_tensorstore(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(MissingFramework, match=r"reading .*: pip install orbax-checkpoint"):
        orbax.read(written)


def test_without_orbax(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax", None)
    with pytest.raises(MissingFramework, match=r"writing .*: pip install orbax-checkpoint"):
        save(tmp_path / "a", BLOCK, draw(BLOCK))


def test_a_full_disk(checkpoint, tmp_path, monkeypatch):
    """TensorStore raises ValueError for it."""

    def fail_in_store(*_, **__):
        raise ValueError('RESOURCE_EXHAUSTED: Error writing local file "x"')

    monkeypatch.setattr(checkpoint.PyTreeCheckpointHandler, "save", fail_in_store)
    with pytest.raises(FileError, match=r"a: cannot be written \(RESOURCE_EXHAUSTED: "):
        save(tmp_path / "a", BLOCK, draw(BLOCK))
    assert list(tmp_path.iterdir()) == []


def files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file())


def is_refused(path: Path) -> bool:
    """Whether it is refused; if not, the values are the exact ones."""
    try:
        if CONFIG in orbax.read(path).label or not (path / orbax.LABEL).exists():
            assert same(load(path, BLOCK), draw(BLOCK))
            return False
        return True  # without a label `weights.read` asks for a config
    except (WeightsError, ArgumentError):
        return True


# Without them a checkpoint has the same values.
SPARE = {"_CHECKPOINT_METADATA", "commit_success.txt", "process_0", "_sharding"}


@pytest.mark.parametrize("kind", ["written", "in_files"])
@pytest.mark.parametrize("size", [None, 0, 0.5, -1], ids=["removed", "emptied", "half", "short"])
def test_each_file_missing_or_truncated(request, copy, kind, size):
    path = copy(request.getfixturevalue(kind))
    refused = set()
    for each in files(path):
        content = each.read_bytes()
        if size is None:
            each.unlink()
        else:
            each.write_bytes(content[: int(size * len(content)) if size >= 0 else -1])
        if is_refused(path):
            refused.add(each.relative_to(path))
        each.write_bytes(content)
    needed = {each.relative_to(path) for each in files(path) if each.name not in SPARE}
    if kind == "written" and size is None:
        needed.discard(Path(orbax.LABEL))  # then it is any checkpoint
    assert refused >= {each for each in needed if "ocdbt.process_0" not in each.parts}
    assert not is_refused(path)


def test_flipped_bits(written, copy):
    path = copy(written)
    refused = 0
    for each in files(path):
        content = bytearray(each.read_bytes())
        for position in range(0, len(content), max(1, len(content) // 25)):
            content[position] ^= 1 << position % 8
            each.write_bytes(content)
            content[position] ^= 1 << position % 8
            refused += is_refused(path)
        each.write_bytes(content)
    assert refused > 60


def change(path: Path, name: str, **values) -> None:
    """Changes values in a JSON file of a checkpoint."""
    held = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps(held | values))


ARRAY = "conv1.kernel/.zarray"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": [1 << 38] * 4}, "has 1 of its .* pieces"),
        (
            {"shape": [1 << 38] * 4, "chunks": [1 << 38] * 4},
            "claims .* bytes of values and has .* fill the memory",
        ),
        ({"shape": [1, 1, 1, 9999]}, "has 1 of its 5000 pieces"),
        ({"chunks": [1, 1, 1, 9999]}, r"its shape is \[1, 1, 1, 2\], in pieces of \[1, 1, 1, 9999"),
        ({"chunks": [1, 1, 1, 0]}, "its shape is"),
        ({"shape": [-1, 1, 1, 2]}, "its shape is"),
        ({"shape": [True, 1, 1, 2]}, "its shape is"),
        ({"shape": [1 << 50, 1, 1, 0]}, "its shape is"),
        ({"shape": [1] * 99, "chunks": [1] * 99}, "its shape is"),
        ({"shape": [2]}, "metadata of 'conv1.kernel' are broken"),
        ({"shape": None}, "metadata of 'conv1.kernel' are broken"),
        ({"dtype": "|O"}, r"its dtype is '\|O'"),
        ({"dtype": "<U1000000"}, "its dtype is '<U1000000'"),
        ({"dtype": [["a", "<f4"]]}, r"its dtype is \[\['a', '<f4'\]\]"),
        ({"compressor": {"id": "pickle"}}, "its compressor is 'pickle'"),
        ({"compressor": {"id": "blosc"}}, "is 'blosc'; read are bz2, gzip, zlib, zstd"),
        ({"filters": [{"id": "pickle"}]}, "it has filters"),
        ({"zarr_format": 4}, "of another version than 2"),
    ],
)
def test_hostile_metadata_of_an_array(in_files, copy, values, message):
    path = copy(in_files)
    change(path, ARRAY, **values)
    with pytest.raises(WeightsError, match=message) as error:
        orbax.read(path)
    assert str(error.value).startswith(
        ("block: is not a whole Orbax checkpoint (", "block: claims")
    )
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"[" * 50_000, b" " * 200_000, b"\xff", b'{"shape": 1}']
)
def test_metadata_of_an_array_that_are_broken(in_files, copy, content):
    path = copy(in_files)
    (path / ARRAY).write_bytes(content)
    with pytest.raises(WeightsError, match=r"the metadata of 'conv1\.kernel' are broken: "):
        orbax.read(path)


@pytest.mark.parametrize(
    ("change_in", "message"),
    [
        (lambda codec: codec.update(name="python"), "its codec is 'python'"),
        (lambda codec: codec.update(name="blosc"), "is 'blosc'; read are bytes, crc32c, gzip, "),
        (lambda codec: codec.update(configuration=None), "its codec {'.* has no settings"),
        (
            lambda codec: codec["configuration"]["codecs"][0].update(name="x\n"),
            r"its codec is 'x\\\\n'",
        ),
        (lambda codec: codec["configuration"].update(chunk_shape=[1 << 40]), "are broken"),
    ],
)
def test_hostile_metadata_of_zarr3(checkpoint, tmp_path, change_in, message):
    put(checkpoint, tmp_path / "a", {"a": np.ones(4)}, use_ocdbt=False, use_zarr3=True)
    held = json.loads((tmp_path / "a" / "a" / "zarr.json").read_text())
    change_in(held["codecs"][0])
    (tmp_path / "a" / "a" / "zarr.json").write_text(json.dumps(held))
    with pytest.raises(WeightsError, match=message):
        orbax.read(tmp_path / "a")


def places(values, before=()):
    """The keys that lead to each value in JSON."""
    yield before
    if isinstance(values, dict | list):
        for key in values if isinstance(values, dict) else range(len(values)):
            yield from places(values[key], (*before, key))


def replaced(values, place, value):
    """JSON with another value at a place."""
    if not place:
        return value
    made = values.copy()
    made[place[0]] = replaced(values[place[0]], place[1:], value)
    return made


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("_METADATA", {}),
        ("_METADATA", {"use_ocdbt": False}),
        ("a.b/.zarray", {"use_ocdbt": False}),
        ("a.b/zarr.json", {"use_ocdbt": False, "use_zarr3": True}),
    ],
)
def test_every_value_of_the_metadata_replaced(checkpoint, tmp_path, name, options):
    """One error, or exact values; without those of an array that they say is none."""
    path, expected = tmp_path / "a", {"a.b": np.arange(6.0).reshape(2, 3), "c": np.ones(4, "f4")}
    put(checkpoint, path, {"a": {"b": expected["a.b"]}, "c": expected["c"]}, **options)
    held, messages, passed = json.loads((path / name).read_text()), [], 0
    for place in places(held):
        for value in (None, [], ["x"], "x", 1, -1.5, 10**30, True, {}, {"name": "x"}):
            (path / name).write_text(json.dumps(replaced(held, place, value)))
            try:
                found = read_arrays(orbax.read(path).arrays)
            except (WeightsError, ArgumentError) as error:
                messages.append(str(error))
            else:
                passed += 1
                assert same(found, {each: expected[each] for each in found}), (place, value)
    assert all(each.startswith("a: ") and each.isprintable() for each in messages)
    assert len(messages) > 40
    assert passed > 2


def entry(*keys, kind="np.ndarray"):
    said = [{"key": key, "key_type": 2} for key in keys]
    return {"key_metadata": said, "value_metadata": {"value_type": kind}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (None, "does not say which arrays there are"),
        ([], "does not say which arrays there are"),
        ({"a": 1}, "has an array without a name"),
        ({"a": {"key_metadata": []}}, "has an array without a name"),
        ({"a": entry()}, "has an array without a name"),
        ({"a": entry("")}, "has an array without a name"),
        ({"a": entry(1)}, "has an array without a name"),
        ({"a": entry("a" * 1001)}, "has an array without a name"),
        ({"a": entry(*"a" * 65)}, "has an array without a name"),
        ({"a": entry("a"), "b": entry("a")}, "it has two arrays named 'a'"),
        ({"a": entry("absent\x1b[2J")}, r"'absent\\x1b\[2J' is missing"),
        ({"a": entry("../../outside")}, r"'../../outside' is missing"),
        ({"a": entry("/etc/passwd")}, "'/etc/passwd' is missing"),
        ({"a": entry("https://x/")}, "'https://x/' is missing"),
        ({"a": entry("conv1"), "b": entry("conv1", "kernel")}, "'conv1' is missing"),
        (
            {str(each): entry(str(each)) for each in range(100_001)},
            "it has more than 100000 arrays",
        ),
        (dict.fromkeys(map(str, range(200_001))), "does not say which arrays there are"),
    ],
)
def test_hostile_names(in_files, copy, tmp_path, tree, message):
    path = copy(in_files)
    shutil.copytree(path / "conv1.kernel", tmp_path / "outside")
    change(path, "_METADATA", tree_metadata=tree)
    with pytest.raises(WeightsError, match=message) as error:
        orbax.read(path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 50_000, b"1" * 5000])
@pytest.mark.parametrize("name", ["_METADATA", "resattn.json"])
def test_json_that_is_broken(written, copy, name, content):
    path = copy(written)
    (path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        orbax.read(path)


def test_a_folder_that_cannot_be_read(written, tmp_path, monkeypatch):
    with pytest.raises(MissingFileError, match="there is no such folder"):
        orbax.read(tmp_path / "absent")
    monkeypatch.setattr(folders.os, "scandir", fail)
    with pytest.raises(FileError, match=r"block\.orbax: cannot be read \(No space left"):
        orbax.read(written)


def test_large_metadata(written, monkeypatch):
    monkeypatch.setattr(orbax, "_JSON_BYTES", 1000)
    with pytest.raises(WeightsError, match="its _METADATA has over 1000 bytes"):
        orbax.read(written)


def test_what_a_folder_must_not_hold(in_files, copy, tmp_path, monkeypatch):
    path = copy(in_files)
    (path / "inside").symlink_to(path / "conv1.kernel")
    assert not is_refused(path)
    (tmp_path / "outside").touch()
    (path / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(WeightsError, match="block: 'link' is a symbolic link that points out of"):
        orbax.read(path)
    (path / "link").unlink()
    (path / "dangling").symlink_to(path / "absent")
    with pytest.raises(WeightsError, match="block: 'dangling' cannot be read"):
        orbax.read(path)
    (path / "dangling").unlink()
    os.mkfifo(path / "pipe\n")
    with pytest.raises(WeightsError, match=r"block: 'pipe\\n' is neither a file nor a folder"):
        orbax.read(path)
    (path / "pipe\n").unlink()
    monkeypatch.setattr(folders, "_ENTRIES", 5)
    with pytest.raises(WeightsError, match="block: holds more than 5 files"):
        orbax.read(path)


def test_folders_in_folders(in_files, copy, monkeypatch):
    path = copy(in_files)
    deep = path
    for _ in range(100):
        deep = deep / "a"
    deep.mkdir(parents=True)
    monkeypatch.setattr(folders, "_DEPTH", 50)
    with pytest.raises(WeightsError, match="block: its folders are nested too deep"):
        orbax.read(path)


def test_a_piece_that_unpacks_to_more(in_files, copy):
    """TensorStore stops where the array ends."""
    path = copy(in_files)
    piece = path / "conv2.kernel" / "0.0.0.0"
    (path / "conv1.kernel" / "0.0.0.0").write_bytes(piece.read_bytes())
    stored = orbax.read(path).arrays["conv1.kernel"]
    with pytest.raises(
        WeightsError, match=r"block: the values of 'conv1\.kernel' are not whole \("
    ):
        stored.read()


def test_a_piece_that_is_gone_when_it_is_read(in_files, copy):
    path = copy(in_files)
    stored = orbax.read(path).arrays["conv1.kernel"]
    (path / "conv1.kernel" / "0.0.0.0").unlink()
    with pytest.raises(WeightsError, match=r"block: the values of 'conv1\.kernel' are not whole"):
        stored.read()
