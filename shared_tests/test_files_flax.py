"""Flax's msgpack files: read and written, against Flax itself; broken and hostile ones."""

from __future__ import annotations

import struct
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from shared_tests.files_cases import load_state, nest_arrays, save_state
from weights.config import BlockConfig, Config, NetworkConfig
from weights.convert import BFLOAT16, DTYPES, Arrays, to_canonical, to_native
from weights.errors import ArgumentError, FileError, WeightsError
from weights.files import msgpack
from weights.files.label import CONFIG
from weights.files.msgpack_items import (
    Items,
    MalformedError,
    Span,
    pack_bytes,
    pack_extension,
    pack_item,
    pack_list,
    pack_map,
    pack_text,
)
from weights.schema import schema
from weights.stored import read_arrays

NETWORK = NetworkConfig(in_channels=3, widths=(4, 6), depths=(1, 2), classes=5, dropout=0.5)
BLOCK = BlockConfig(1, 2, kernel_size=1, attention="none")


def draw(config: Config, dtype: str = "float32") -> Arrays:
    rng = np.random.default_rng(5)
    return {each.name: rng.normal(size=each.shape).astype(dtype) for each in schema(config)}


save, load = partial(save_state, msgpack), partial(load_state, msgpack)


def same(found: Arrays, expected: Arrays) -> bool:
    return set(found) == set(expected) and all(
        array.dtype == expected[name].dtype
        and array.shape == expected[name].shape
        and array.tobytes() == expected[name].tobytes()
        for name, array in found.items()
    )


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "model.msgpack"


@pytest.fixture
def serialization(jax):
    return pytest.importorskip("flax.serialization")


@pytest.fixture
def pure(jax) -> dict:
    """A state of Flax NNX as nested dicts, positions as integers, as `nnx.to_pure_dict` gives."""
    tree = nest_arrays(NETWORK, draw(NETWORK))
    assert tree["stages"]["layers"][1]["layers"][0]["conv1"]["kernel"].shape == (3, 3, 4, 6)
    return tree


@pytest.mark.parametrize("config", [NETWORK, BLOCK], ids=["network", "block"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_written_is_read(file, config, dtype):
    arrays = draw(config, dtype)
    label = save(file, config, arrays)
    assert msgpack.read(file).label == label
    assert same(load(file, config), arrays)


def test_the_same_arrays_make_the_same_bytes(file, tmp_path):
    save(file, NETWORK, draw(NETWORK))
    save(tmp_path / "again.msgpack", NETWORK, draw(NETWORK))
    assert file.read_bytes() == (tmp_path / "again.msgpack").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_flax_restores_what_is_written(file, serialization, dtype):
    from flax import nnx

    from weights.live import adapter, export

    arrays = draw(NETWORK, dtype)
    label = save(file, NETWORK, arrays)
    restored = serialization.msgpack_restore(file.read_bytes())
    assert {name: restored[name] for name in label} == label
    model = adapter("jax").create(NETWORK, dtype=dtype)
    expected = nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngState)))
    assert str(shapes(restored["state"])) == str(shapes(expected))
    nnx.update(model, restored["state"])
    assert same(export(model), arrays)


def shapes(tree):
    """Nested dicts, sorted, with shapes for arrays."""
    if isinstance(tree, dict):
        return {key: shapes(tree[key]) for key in sorted(tree, key=str)}
    return tree.shape


def with_values(tree):
    return {
        key: with_values(value) if isinstance(value, dict) else {"value": value}
        for key, value in tree.items()
    }


def without(tree, leaves):
    """The same nested dicts without these leaves."""
    kept = {
        key: without(value, leaves) if isinstance(value, dict) else value
        for key, value in tree.items()
        if key not in leaves
    }
    return {key: value for key, value in kept.items() if not isinstance(value, dict) or value}


STATISTICS, TRAINED = ("mean", "var"), ("kernel", "scale", "bias")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tree: tree,
        with_values,
        lambda tree: {"params": without(tree, STATISTICS), "batch_stats": without(tree, TRAINED)},
        lambda tree: {"params": with_values(tree)},
        lambda tree: {"params": tree, "opt_state": {0: {"mu": tree}}, "step": np.int32(7)},
        lambda tree: {
            "dropout": {"rngs": {"count": np.uint32(3), "key": np.ones(2, "u4")}},
            **tree,
        },
    ],
    ids=["pure", "value", "collections", "params of values", "train state", "random numbers"],
)
@pytest.mark.parametrize("how", ["to_bytes", "msgpack_serialize"])
def test_what_flax_writes_is_read(file, serialization, pure, wrap, how):
    file.write_bytes(getattr(serialization, how)(wrap(pure)))
    assert msgpack.read(file).label == {}
    assert same(load(file, NETWORK), draw(NETWORK))


def test_arrays_in_parts(file, serialization, monkeypatch):
    """What Flax does to arrays of over a GiB."""
    monkeypatch.setattr(msgpack, "_CHUNK", 100)
    arrays = draw(NETWORK)
    label = save(file, NETWORK, arrays)
    assert file.read_bytes().count(b"__msgpack_chunked_array__") > 5
    restored = serialization.msgpack_restore(file.read_bytes())
    assert same(load(file, NETWORK), arrays)
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 60)
    file.write_bytes(serialization.msgpack_serialize(restored))
    assert msgpack.read(file).label == label
    assert same(load(file, NETWORK), arrays)


TORCH = ("layer1.0.conv1.weight", "layer1.0.bn1.num_batches_tracked", "fc.bias")
KERAS = ("conv1_conv/kernel:0", "conv2_block1.1/beta", "predictions/bias")


@pytest.mark.parametrize("names", [TORCH, KERAS], ids=["dots", "slashes"])
def test_names_of_other_libraries(file, serialization, names):
    arrays = {name: np.array(number, "i8") for number, name in enumerate(names)}
    msgpack.write(file, {}, arrays, None)
    header = msgpack.read(file)
    assert (header.layout, header.label) == ("torch", {})
    assert same(read_arrays(header.arrays), arrays)
    restored = serialization.msgpack_restore(file.read_bytes())
    expected = 0 if names is KERAS else {"0": {"conv1": {"weight": 0}, "bn1": {names[1][13:]: 1}}}
    assert restored[names[0] if names is KERAS else "layer1"] == expected


def test_the_architecture_that_a_file_says(file):
    file.write_bytes(pack_map(2) + pack_text("arch") + pack_text("resnet18") + array_named("a"))
    assert msgpack.read(file).architecture == "resnet18"


def test_dtypes_that_flax_writes(file, serialization):
    arrays = {name: np.ones((2, 3), dtype) for name, dtype in msgpack.FLAX_DTYPES.items()}
    file.write_bytes(serialization.msgpack_serialize({**arrays, "scalar": np.float16(2), "i": 1j}))
    assert same(read_arrays(msgpack.read(file).arrays), {**arrays, "scalar": np.array(2, "f2")})


def test_the_header_holds_no_values(file):
    msgpack.write(file, {}, {"a": np.zeros((1 << 11, 1 << 10))}, None)
    tracemalloc.start()
    try:
        array = msgpack.read(file).arrays["a"]
        assert (array.shape, array.dtype.name) == ((1 << 11, 1 << 10), "float64")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_values_are_read_anew_from_any_thread(file):
    save(file, NETWORK, draw(NETWORK))
    stored = msgpack.read(file).arrays["classifier.kernel"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: stored.read(), range(20)))
    assert len({each.ctypes.data for each in found}) == 20
    assert all(each.flags.c_contiguous and each.flags.writeable for each in found)
    expected = to_native("jax", schema(NETWORK), draw(NETWORK))["classifier.kernel"]
    assert all(np.array_equal(each, expected) for each in found)


def test_a_file_that_becomes_shorter(file):
    save(file, NETWORK, draw(NETWORK))
    arrays = msgpack.read(file).arrays
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(
        WeightsError, match=r"^model\.msgpack: .*it became shorter while it was read"
    ):
        read_arrays(arrays)


def test_a_file_that_is_gone(file):
    with pytest.raises(FileError, match=r"model\.msgpack: cannot be read \(No such file"):
        msgpack.read(file)


def test_a_file_that_is_replaced(file):
    """The values are those of the file whose header was read."""
    save(file, NETWORK, draw(NETWORK))
    found = msgpack.read(file).arrays
    save(file, NETWORK, {name: array + 1 for name, array in draw(NETWORK).items()})
    assert same(to_canonical("jax", schema(NETWORK), read_arrays(found)), draw(NETWORK))


def test_names_that_cannot_be_nested(file):
    for names in (("a", "a.b"), ("a.b", "a"), ("a.b.c", "a.b")):
        with pytest.raises(WeightsError, match="it begins with the name of another array"):
            msgpack.write(file, {}, dict.fromkeys(names, np.ones(1)), None)
    assert not file.exists()


def test_dtypes_that_cannot_be_written(file):
    with pytest.raises(WeightsError, match="Flax's msgpack has no arrays of dtype str96"):
        msgpack.write(file, {}, {"a": np.array("abc")}, None)
    assert not file.exists()


def packed(shape, dtype="float32", values=b"", code=1) -> bytes:
    """An array with whatever it says."""
    said = shape if isinstance(shape, bytes) else pack_list(shape)
    said += dtype if isinstance(dtype, bytes) else pack_text(dtype)
    content = b"\x93" + said + pack_bytes(len(values)) + values
    return pack_extension(len(content), code) + content


def array_named(name: str) -> bytes:
    return pack_text(name) + packed([1], "float32", b"\0\0\0\0")


def one(item: bytes) -> bytes:
    """A file with one entry."""
    return pack_map(1) + pack_text("a") + item


def parts(shape: bytes, chunks: bytes) -> bytes:
    said = pack_text("__msgpack_chunked_array__") + b"\xc3"
    return one(pack_map(3) + said + pack_text("shape") + shape + pack_text("chunks") + chunks)


SIZES = pack_map(1) + pack_text("0") + pack_item(2)
FOUR = b"\0" * 4

HOSTILE = {
    "empty": (b"", "is not a whole file: it is empty"),
    "no map": (pack_item(1), "expected a map of names to arrays"),
    "a list": (pack_list([1, 2]), "expected a map of names to arrays"),
    "another format": (b"PK\x03\x04", "bytes follow after its end"),
    "no item": (one(b"\xc1"), "byte C1 begins no item"),
    "trailing bytes": (pack_map(1) + array_named("a") + b"\0", "1 bytes follow after its end"),
    "entries": (b"\xdf\xff\xff\xff\xff", "it claims 4294967295 entries and has fewer bytes"),
    "items": (one(b"\xdd\xff\xff\xff\xff"), "it claims 4294967295 entries and has fewer bytes"),
    "bytes": (one(b"\xc6\xff\xff\xff\xff"), "it ends at byte 8, within an item"),
    "text": (one(b"\xdb\xff\xff\xff\xff"), "it has a text of 4294967295 bytes"),
    "extension": (one(b"\xc9\xff\xff\xff\xff\x01"), "it ends at byte 9, within an item"),
    "many keys": (pack_map(10**6) + b"\xa1a\x01" * 10**6, "it claims 1000000 entries, more than"),
    "many maps": (b"\xdd\0\0\x27\x10" + (b"\xdc\0\x63" + b"\x01" * 99) * 10**4, "more than any"),
    "deep maps": (b"\x81\xa1a" * 10**6, "it is nested deeper than 64 levels"),
    "deep lists": (one(b"\x91" * 10**6), "it is nested deeper than 64 levels"),
    "deep list as shape": (one(packed(b"\x91" * 99)), "more than any weights have"),
    "key twice": (pack_map(2) + array_named("a") * 2, "it has the key 'a' twice in one map"),
    "1 and '1'": (pack_map(2) + b"\x01\x01\xa11\x01", "it has the key '1' twice in one map"),
    "no key": (b"\x81\xc0\x01", "and positions as keys, got None"),
    "negative key": (b"\x81\xff\x01", "and positions as keys, got -1"),
    "map as key": (b"\x81\x80\x01", "and positions as keys, got {}"),
    "bytes as key": (b"\x81\xc4\x01a\x01", "and positions as keys, got Span"),
    "long key": (b"\x81" + pack_text("a" * 1001) + b"\x01", "expected texts of at most 1000"),
    "no UTF-8": (b"\x81\xa1\xff\x01", "it has a text that is no UTF-8"),
    "escapes": (pack_map(2) + array_named("\x1b[2J\n") * 2, r"the key '\\x1b\[2J\\n' twice"),
    "other extension": (one(pack_extension(1, 5) + b"a"), "an extension of type 5, which Flax"),
    "time": (one(pack_extension(4, -1) + FOUR), "an extension of type -1, which Flax"),
    "empty array": (one(pack_extension(1, 1) + b"\x90"), "an array is not a list of shape, dtype"),
    "objects": (one(packed([1], "O", b"\0" * 8)), "it has an array of dtype 'O'; expected one of"),
    "texts": (one(packed([1], "<U1", FOUR)), "it has an array of dtype '<U1'"),
    "records": (one(packed([1], "f4,f4", FOUR * 2)), "it has an array of dtype 'f4,f4'"),
    "long dtype": (one(packed([1], "f" * 9999)), "it has an array of dtype 'ffff"),
    "number as dtype": (one(packed([1], b"\x01")), "it has an array of dtype 1"),
    "no bytes": (one(pack_extension(11, 1) + b"\x93\x90\xa7float32\xc0"), "are no byte string"),
    "few values": (one(packed([2], values=FOUR)), r"shape \(2,\) and dtype float32 has 4 bytes"),
    "many values": (one(packed([1], values=FOUR * 2)), r"shape \(1,\) and dtype float32 has 8"),
    "no axes": (one(packed([])), r"shape \(\) and dtype float32 has 0 bytes"),
    "negative": (one(packed(b"\x92\xff\xff", values=FOUR)), r"an array of shape \[-1, -1\]"),
    "huge": (one(packed([1 << 40, 1 << 40, 0])), "an array of shape .* has 0 bytes"),
    "overflow": (one(packed([1 << 32, 1 << 32], values=FOUR)), "dtype float32 has 4 bytes"),
    "true": (one(packed(b"\x91\xc3", values=FOUR)), r"an array of shape \[True\]"),
    "text as shape": (one(packed(b"\xa11", values=FOUR)), "an array of shape '1'"),
    "many axes": (one(packed(b"\xdc\0\x10" + b"\1" * 16, values=FOUR)), r"shape \[1, 1, 1, 1"),
    "no parts": (parts(SIZES, b"\x80"), "an array in parts has no shape or no parts"),
    "no shape": (parts(b"\x01", one(packed([2], values=FOUR * 2))), "has no shape or no parts"),
    "numbers as parts": (parts(SIZES, b"\x81\xa10\x01"), "are not flat arrays of one dtype"),
    "part missing": (parts(SIZES, one(packed([2], values=FOUR * 2))), "are not flat arrays of one"),
    "small parts": (parts(SIZES, b"\x81\xa10" + packed([1], values=FOUR)), r"\(2,\) .* 4 bytes"),
    "same name": (
        pack_map(2) + array_named("a.b") + pack_text("a") + pack_map(1) + array_named("b"),
        "model.msgpack: holds two arrays named 'a.b'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files(file, content, message):
    file.write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=message) as error:
        msgpack.read(file)
    assert time.perf_counter() - start < 5
    text = str(error.value)
    assert text.startswith("model.msgpack: ")
    assert text.isprintable()
    assert len(text) < 500


def test_more_arrays_than_a_file_may_have(file, monkeypatch):
    monkeypatch.setattr(msgpack, "MOST_ARRAYS", 3)
    file.write_bytes(pack_map(3) + b"".join(map(array_named, "abc")))
    assert len(msgpack.read(file).arrays) == 3
    file.write_bytes(pack_map(4) + b"".join(map(array_named, "abcd")))
    with pytest.raises(WeightsError, match="it has more than 3 arrays"):
        msgpack.read(file)


def test_many_arrays_are_read_fast(file):
    names = [f"layer{number}.weight" for number in range(8000)]
    msgpack.write(file, {}, dict.fromkeys(names, np.ones(1, "f4")), None)
    start = time.perf_counter()
    assert len(read_arrays(msgpack.read(file).arrays)) == 8000
    assert time.perf_counter() - start < 10


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(content):
    """A tree of plain values, or one error."""
    found, message = None, ""
    try:
        found = Items(content, 0, len(content)).only()
    except MalformedError as error:
        message = str(error)
    assert message.isprintable()
    assert isinstance(found, (dict, list, str, int, float, Span, type(None)))


def test_every_truncation_is_refused(file):
    save(file, BLOCK, draw(BLOCK))
    content = file.read_bytes()
    for size in range(len(content)):
        file.write_bytes(content[:size])
        with pytest.raises(WeightsError, match=r"^model\.msgpack: is not a whole (msgpack )?file"):
            msgpack.read(file)


def test_a_flipped_bit_in_every_byte_is_refused(file):
    """Or makes no difference; never other values."""
    arrays = draw(BLOCK)
    save(file, BLOCK, arrays)
    content = bytearray(file.read_bytes())
    refused = 0
    for position in range(len(content)):
        flip = 1 << position % 8
        content[position] ^= flip
        file.write_bytes(content)
        content[position] ^= flip
        try:
            if CONFIG in msgpack.read(file).label:  # without it `weights.read` asks for a config
                assert same(load(file, BLOCK), arrays)
            else:
                refused += 1
        except (WeightsError, ArgumentError):
            refused += 1
    assert refused > 0.99 * len(content)


def test_bfloat16_is_little_endian_bits(file):
    values = np.array([1.5, -2.25], BFLOAT16)
    msgpack.write(file, {}, {"a": values}, None)
    assert struct.pack("<HH", *values.view(np.uint16)) in file.read_bytes()
