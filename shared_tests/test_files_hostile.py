"""Weights files made to harm: each is refused with one error, before anything is allocated."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest

from resattn.checking.draws import random_arrays
from shared_tests.files_cases import SMALL, rewrite_metadata
from weights import BlockConfig, WeightsError, read, read_checkpoint, write
from weights.errors import FileError
from weights.files.formats import read_header
from weights.files.limits import MOST_ARRAYS, MOST_HEADER
from weights.files.npy import read_npy

FLAT = ["b.safetensors", "b.npz", "b.pt"]


def raises(error, message):
    return pytest.raises(error, match=re.escape(message))


def write_plain(path, arrays, torch) -> None:
    """A file without a label, by the library of its format."""
    from safetensors.numpy import save_file

    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".pt":
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    else:
        save_file(arrays, path)


def rezip(path, change):
    """Writes a zip archive again. change: (name, content) -> what writestr takes, or None."""
    with zipfile.ZipFile(path) as archive:
        members = [(member.filename, archive.read(member)) for member in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            if (changed := change(name, content)) is not None:
                archive.writestr(*changed)


def test_expanded_tensors(torch, tmp_path):
    """A file of 2 KB that claims terabytes."""
    path = tmp_path / "b.pt"
    torch.save({"conv1.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}, path)
    assert path.stat().st_size < 6000
    with raises(WeightsError, "b.pt: 'conv1.weight' claims 4,398,046,511,104 bytes of values and "
                "has 4 bytes (an expanded tensor); save tensor.contiguous()"):  # fmt: skip
        read(path, BlockConfig(1 << 20, 1 << 20, 1))


def test_tensors_that_share_their_values(torch, tmp_path):
    """Each is as large as its values, but all together are more than the file."""
    shared = torch.zeros(1000)
    torch.save({f"layer{i}": shared for i in range(1000)}, tmp_path / "b.pt")
    with raises(WeightsError, "b.pt: claims 4,000,000 bytes of values and has "):
        read(tmp_path / "b.pt", SMALL)
    arrays = {name: torch.from_numpy(array) for name, array in random_arrays(SMALL).items()}
    arrays["bn1.bias"] = arrays["bn1.weight"]  # two of one value are no harm
    torch.save(arrays, tmp_path / "b.pt")
    found = read(tmp_path / "b.pt", SMALL)[1]
    assert (found["bn1.bias"] == found["bn1.weight"]).all()
    assert not np.shares_memory(found["bn1.bias"], found["bn1.weight"])


@pytest.mark.parametrize("kind", ["sparse", "quantized", "meta"])
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:TypedStorage")
def test_tensors_that_are_not_plain(torch, tmp_path, kind):
    tensor = torch.ones(2, 2)
    if kind == "sparse":
        tensor = tensor.to_sparse()
    elif kind == "quantized":
        tensor = torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)
    if kind == "meta":
        write_pickle(tmp_path / "b.pt", META)
        with raises(WeightsError, "names torch._utils._rebuild_meta_tensor_no_storage"):
            read(tmp_path / "b.pt", SMALL)
        return
    torch.save({"x": tensor}, tmp_path / "b.pt")
    with raises(WeightsError, "b.pt: 'x' is a sparse, quantized or empty tensor, and expected is"):
        read(tmp_path / "b.pt", SMALL)


def test_lazy_negation(torch, tmp_path):
    """A tensor can say that its values are the negative of those in the file."""
    values = torch.tensor([1 + 2j, 3 + 4j]).conj().imag
    assert values.is_neg()
    arrays = {name: torch.from_numpy(array) for name, array in random_arrays(SMALL).items()}
    torch.save({**arrays, "bn1.bias": values}, tmp_path / "b.pt")
    assert read(tmp_path / "b.pt", SMALL)[1]["bn1.bias"].tolist() == [-2, -4]


def write_pickle(path, words: bytes, *, zipped: bool = True) -> None:
    """A file of torch.save that holds a pickle made by hand."""
    if not zipped:
        head = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {}))
        path.write_bytes(head + words + pickle.dumps([], 2))
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("b/data.pkl", words)
        archive.writestr("b/byteorder", "little")
        archive.writestr("b/version", "3\n")


def named(name: str, arguments: bytes) -> bytes:
    """{"x": name(arguments)}"""
    module, _, name = name.rpartition(".")
    head = b"\x80\x02}X\x01\x00\x00\x00xc" + f"{module}\n{name}\n".encode()
    return head + arguments + b"\x85Rs."


BILLIONS = b"J" + struct.pack("<i", 2_000_000_000)
META = named("torch._utils._rebuild_meta_tensor_no_storage", BILLIONS)
TUPLES = b"\x80\x02})q\x00" + b"".join(
    b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60)
)
PICKLES = {
    "bytearray": (named("builtins.bytearray", BILLIONS), "(this one names builtins.bytearray)"),
    "tensor": (named("torch.FloatTensor", BILLIONS), "(this one names torch.FloatTensor)"),
    "function": (named("os.system", BILLIONS), "(this one names os.system)"),
    "tuples": (TUPLES + b"K\x01s.", "has more than 8 tuples in each other"),
    "short": (b"\x80\x02s.", "is not a whole PyTorch file of plain floating point tensors"),
    "word": (b"\x80\x02}2.", "torch.save does not write the word DUP"),
    "end": (b"\x80\x02}", "is not a whole PyTorch file of plain floating point tensors"),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("kind", PICKLES)
def test_pickles_that_ask_for_much(torch, tmp_path, kind, zipped):
    """A kilobyte that takes gigabytes, or for ever: they are refused before PyTorch reads them."""
    words, message = PICKLES[kind]
    write_pickle(tmp_path / "b.pt", words, zipped=zipped)
    with raises(WeightsError, message):
        read(tmp_path / "b.pt", SMALL)


def test_a_description_in_capitals(torch, tmp_path):
    """PyTorch finds it."""
    write_pickle(tmp_path / "b.pt", PICKLES["bytearray"][0])
    rezip(tmp_path / "b.pt", lambda name, content: (name.replace("data.pkl", "DATA.PKL"), content))
    with raises(WeightsError, "(this one names builtins.bytearray)"):
        read(tmp_path / "b.pt", SMALL)


def test_two_directories_in_one_archive(torch, tmp_path):
    """Python reads the directory before the end, PyTorch the one at the place that the end says."""
    path = tmp_path / "b.pt"
    write(path, SMALL, random_arrays(SMALL))
    whole = path.read_bytes()
    end = whole.rindex(b"PK\5\6")
    place = struct.unpack("<L", whole[end + 16 : end + 20])[0]
    moved = whole[:end] + whole[place:end] + whole[end:]
    path.write_bytes(moved)
    with raises(WeightsError, "b.pt: is not a whole PyTorch file: its directory is not in place"):
        read(path)


@pytest.mark.parametrize("name", [*FLAT, "b.msgpack"])
def test_long_names(torch, tmp_path, name):
    """A long key above many leaves would be a longer name for each of them."""
    path, key = tmp_path / name, "k" * 2000
    if name == "b.msgpack":
        from weights.files.msgpack_items import pack_tree

        tree = {"a" * 900: {"b" * 900: np.zeros(1, "f")}}
        from weights.files.msgpack import _pack_leaf

        path.write_bytes(b"".join(map(bytes, pack_tree(tree, _pack_leaf))))
    else:
        write_plain(path, {key: np.zeros(1, "f")}, torch)
    with raises(WeightsError, f"{name}: has a name of "):
        read(path, SMALL)
    if name == "b.pt":
        nested = torch.ones(1)
        for _ in range(40):
            nested = {"k" * 900: nested}
        torch.save(nested, path)
        with raises(WeightsError, "b.pt: has a name of "):
            read(path, SMALL)


def test_many_other_things_beside_the_weights(torch, tmp_path):
    state = {key: torch.from_numpy(array) for key, array in random_arrays(SMALL).items()}
    torch.save({"state_dict": state, **{f"x{i}": i for i in range(5000)}}, tmp_path / "b.pt")
    note = read_checkpoint(tmp_path / "b.pt", SMALL).notes[0]
    assert note.endswith("x18, x19 and 4,980 more")


def test_names_of_bfloat16_arrays_that_are_none(tmp_path):
    arrays = random_arrays(SMALL)
    np.savez_compressed(tmp_path / "b.npz", **arrays, **{"resattn.bfloat16": np.zeros(10**6)})
    with raises(WeightsError, "b.npz: its resattn.bfloat16 is no list of names"):
        read(tmp_path / "b.npz", SMALL)
    wrong = np.array([f"x{i}" for i in range(1000)])
    np.savez(tmp_path / "b.npz", **arrays, **{"resattn.bfloat16": wrong})
    with pytest.raises(WeightsError) as caught:
        read(tmp_path / "b.npz", SMALL)
    assert len(caught.value.faults) == 6


def test_checksums_that_forge_lines(tmp_path):
    path = tmp_path / "b.safetensors"
    write(path, SMALL, random_arrays(SMALL))
    sums = json.loads(read_header(path).label["checksums"])
    sums["arrays"]["bn1.bias"] = "0\nresattn: all is well\x1b]0;"
    rewrite_metadata(path, {"checksums": json.dumps(sums)})
    with pytest.raises(WeightsError) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 2
    assert all(line.isprintable() for line in str(caught.value).splitlines())


def test_mappings_that_hold_each_other(torch, tmp_path):
    """2^60 paths through 60 mappings, and one that holds itself."""
    nested: dict = {"x": torch.ones(1)}
    for _ in range(60):
        nested = {"a": nested, "b": nested}
    circle: dict = {}
    circle["a"] = circle
    for name, content in (("dag", nested), ("circle", circle)):
        torch.save(content, tmp_path / f"{name}.pt")
        with raises(WeightsError, f"{name}.pt: holds more than 1,000,000 values, or mappings more "
                    "than 50 deep"):  # fmt: skip
            read(tmp_path / f"{name}.pt", SMALL)


def test_old_files_of_pytorch(torch, tmp_path, monkeypatch):
    arrays = random_arrays(SMALL)
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(state, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    found = read(tmp_path / "b.pt", SMALL)[1]
    assert all((found[name] == arrays[name]).all() for name in arrays)
    monkeypatch.setattr("weights.files.pickles._MOST_WORDS", 100)
    with raises(WeightsError, "b.pt: describes its tensors in more words than a weights"):
        read(tmp_path / "b.pt", SMALL)


def test_files_of_pytorch_without_checksums(torch, tmp_path):
    """torch.save can be told to write none."""
    from torch.serialization import get_crc32_options, set_crc32_options

    arrays = random_arrays(SMALL)
    before = get_crc32_options()
    set_crc32_options(False)
    try:
        write_plain(tmp_path / "b.pt", arrays, torch)
    finally:
        set_crc32_options(before)
    found = read(tmp_path / "b.pt", SMALL)[1]
    assert all((found[name] == arrays[name]).all() for name in arrays)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_program_is_no_weights_file(torch, tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "b.pt")
    with raises(WeightsError, "b.pt: is a TorchScript program, not weights; load it with"):
        read(tmp_path / "b.pt", SMALL)


def test_the_refusal_of_a_pickle_advises_nothing_unsafe(torch, tmp_path):
    for zipped in (True, False):
        torch.save(
            {"model": torch.nn.Linear(2, 2)},
            tmp_path / "b.pt",
            _use_new_zipfile_serialization=zipped,
        )
        with pytest.raises(WeightsError) as caught:
            read(tmp_path / "b.pt", SMALL)
        assert "names torch.nn.modules.linear.Linear)" in str(caught.value)
        assert not re.search("weights_only|trust|Re-running|safe_globals", str(caught.value))


@pytest.mark.parametrize("name", ["b.npz", "b.pt"])
def test_archives_that_unpack_to_more(torch, tmp_path, name):
    path = tmp_path / name
    write(path, SMALL, random_arrays(SMALL))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/data/99" if name == "b.pt" else "x.npy", bytes(1 << 27))
    assert path.stat().st_size < 200_000
    message = r"b.npz: claims 134,.* bytes of values and has .* bytes, less than 1/100 of them"
    if name == "b.pt":
        message = "b.pt: has compressed members, and torch.save writes none"
        rezip(path, lambda name, content: None if name.endswith("99") else (name, content, 8))
    with pytest.raises(WeightsError, match=message):
        read(path)


def test_compressed_archives_are_read(tmp_path):
    arrays = random_arrays(SMALL)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    found = read(tmp_path / "b.npz", SMALL)[1]
    assert all((found[name] == arrays[name]).all() for name in arrays)


def npy(shape, dtype="<f4", content=b""):
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content


HEADERS = {
    "claim": (npy((1 << 40,)), "claims 4,398,046,511,104 bytes of values and has 0 bytes"),
    "overflow": (npy((1 << 62, 1 << 62)), "has an array of shape (4611686018427387904, 4611"),
    "negative": (npy((-1, 4)), "has an array of shape (-1, 4)"),
    "wide": (npy((0, 1 << 70)), "has an array of shape (0, 11805916207174113"),
    "deep shape": (npy((1,) * 70), "has an array of shape (1, 1, 1"),
    "truth": (npy("(True,)"), "has an array of shape (True,)"),
    "nothing": (npy((5,), "<U0"), "and expected is an array of numbers"),
    "void": (npy((5,), "|V0"), "and expected is an array of numbers"),
    "object": (npy((1,), "|O", bytes(8)), "holds 'object', and expected is an array of numbers"),
    "token": (npy("(3,"), "has a broken .npy header"),
    "deep": (npy("(" * 4000), "has a broken .npy header"),
    "long": (npy("(3,)" + " " * 20000), "has a broken .npy header"),
    "bytes": (npy("(3, \x00)"), "has a broken .npy header"),
    "call": (npy("exit()"), "has a broken .npy header"),
    "version": (b"\x93NUMPY\x07\x00" + npy((1,))[8:], "has a broken .npy header"),
    "magic": (b"NUMPY", "has a broken .npy header"),
    "short": (npy((3,), content=bytes(11)), "claims 12 bytes of values and has 11 bytes"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_broken_headers_of_numpy(tmp_path, kind):
    content, message = HEADERS[kind]
    (tmp_path / "x.npy").write_bytes(content)
    with raises(WeightsError, message.replace("dtype('O')", "\"dtype('O')\"")[:40]):
        read_npy(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("conv1.weight.npy", content)
    with pytest.raises(WeightsError, match=r"b.npz: (is not a|has a broken|has an array|holds)"):
        read(tmp_path / "b.npz", SMALL)


def test_arrays_of_numpy(tmp_path):
    for array in (
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
        np.float32(3),
        np.zeros((0, 3)),
    ):
        np.save(tmp_path / "x.npy", array)
        found = read_npy(tmp_path / "x.npy")
        assert found.dtype == np.asarray(array).dtype.newbyteorder("=")
        assert found.shape == np.shape(array)
        assert (found == array).all()
    (tmp_path / "x.npy").write_bytes(b"")
    with raises(WeightsError, "x.npy: is not a whole file: it is empty"):
        read_npy(tmp_path / "x.npy")


@pytest.mark.parametrize("name", FLAT)
def test_too_many_arrays(torch, tmp_path, name, monkeypatch):
    monkeypatch.setattr("weights.files.limits.MOST_ARRAYS", 30)
    write_plain(tmp_path / name, {f"x{i}": np.zeros(1, "f") for i in range(40)}, torch)
    with pytest.raises(WeightsError, match=rf"{name}: has 4\d arrays; a weights file has at most"):
        read(tmp_path / name, SMALL)


def test_a_million_arrays(torch, tmp_path):
    """They are refused by the size of what describes them, which takes no time."""
    path = tmp_path / "b.safetensors"
    entry = '"x{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}},'
    text = "{" + "".join(map(entry.format, range(400_000)))[:-1] + "}"
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode())
    assert len(text) > MOST_HEADER
    with raises(
        WeightsError,
        "b.safetensors: its header has 23,488,891 bytes; a weights",
    ):
        read(path, SMALL)
    torch.save({"x": torch.ones(1)}, tmp_path / "b.pt")
    rezip(tmp_path / "b.pt", lambda name, content: (
        (name, content + bytes(MOST_HEADER)) if name.endswith("data.pkl") else (name, content)
    ))  # fmt: skip
    with raises(WeightsError, "b.pt: describes its tensors in 16,777,"):
        read(tmp_path / "b.pt", SMALL)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, MOST_HEADER + 1, 0, 0)
    (tmp_path / "b.npz").write_bytes(bytes(MOST_HEADER + 1) + end)
    with raises(WeightsError, "b.npz: its directory is larger than 16,777,216 bytes"):
        read(tmp_path / "b.npz", SMALL)
    assert MOST_ARRAYS == 100_000


def test_a_directory_with_64_bits(tmp_path):
    """The end of the archive says another size, and that is the one that is used."""
    end = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 9, 9, MOST_HEADER + 1, 0)
    end += struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    end += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, 500, 0, 0)
    (tmp_path / "b.npz").write_bytes(bytes(1000) + end)
    with raises(WeightsError, "b.npz: its directory is larger than 16,777,216 bytes"):
        read(tmp_path / "b.npz", SMALL)


@pytest.mark.parametrize("name", ["b.npz", "b.pt"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_and_encrypted_members(torch, tmp_path, name):
    path = tmp_path / name
    write(path, SMALL, random_arrays(SMALL))
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        last = archive.namelist()[-1]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(last, b"again")
    with raises(WeightsError, f"{name}: has doubled or encrypted members"):
        read(path)
    entry = whole.index(b"PK\1\2")
    path.write_bytes(whole[: entry + 8] + b"\1" + whole[entry + 9 :])
    with raises(WeightsError, f"{name}: has doubled or encrypted members"):
        read(path)


STRANGE = ["a\x1b]0;owned\x07", "a\x1b[2J", "a\nresattn: all is well", "a\u202eb", "a\x00", "a\x7f"]


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", FLAT)
def test_names_that_take_over_the_terminal(torch, tmp_path, name, strange):
    if name == "b.npz" and "\x00" in strange:
        pytest.skip("a zip archive ends names there")
    arrays = {**random_arrays(SMALL), strange: np.zeros(1, "f")}
    write_plain(tmp_path / name, arrays, torch)
    with pytest.raises(WeightsError) as caught:
        read(tmp_path / name, SMALL)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{name}: has 1 names with characters that cannot be printed;")
    assert lines[1:] == [f"  {strange!a}"]
    assert all(line.isprintable() for line in lines)


def test_a_part_of_a_file_with_such_a_name(torch, tmp_path):
    torch.save({"a\x1b[2J": {"x": torch.ones(1)}}, tmp_path / "b.pt")
    with raises(WeightsError, r"'a\x1b[2J'"):
        read(tmp_path / "b.pt", SMALL)


def test_an_origin_that_forges_lines(tmp_path):
    from typer.testing import CliRunner

    from resattn.cli.app import app

    origin = {"license": "mit\nresattn: all is well\x1b[2J", "a\nb": "c"}
    write(tmp_path / "b.npz", SMALL, random_arrays(SMALL), origin=origin)
    output = CliRunner().invoke(app, ["inspect", str(tmp_path / "b.npz")]).output
    assert r"origin: license mit\nresattn: all is well\x1b[2J" in output.splitlines()
    assert r"origin: a\nb c" in output.splitlines()


def test_a_config_of_more_blocks_than_the_file_has(tmp_path):
    from safetensors.numpy import save_file

    values = {"model": "ResidualAttentionNetwork", "widths": [4], "depths": [900]}
    save_file({"x": np.zeros(1)}, tmp_path / "b.safetensors", {"resattn": json.dumps(values)})
    with raises(WeightsError, "b.safetensors: its config asks for 900 blocks, and it has 1 "):
        read(tmp_path / "b.safetensors")
    values["depths"] = [10**9]
    save_file({"x": np.zeros(1)}, tmp_path / "b.safetensors", {"resattn": json.dumps(values)})
    with raises(ValueError, "the config in b.safetensors: depths: expected at most"):
        read(tmp_path / "b.safetensors")


def test_shapes_are_compared_before_values_are_read(tmp_path, monkeypatch):
    """The values of an array that does not fit are never read."""
    arrays = random_arrays(SMALL) | {"conv1.weight": np.zeros((500, 500), "f")}
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    monkeypatch.setattr("weights.files.npy.NpyHeader.parse", lambda *_: pytest.fail("was read"))
    with raises(WeightsError, "conv1.weight: expected (2, 1, 1, 1) (out in row col), got (500"):
        read(tmp_path / "b.npz", SMALL)


def test_files_that_cannot_be_read(torch, tmp_path, monkeypatch):
    """The system refuses: one error that names the file, in every format."""

    def refuse(self, *_):
        raise PermissionError(13, "Permission denied")

    for name in FLAT:
        write(tmp_path / name, SMALL, random_arrays(SMALL))
    monkeypatch.setattr("pathlib.Path.open", refuse)
    for name in FLAT:
        with raises(FileError, f"{name}: cannot be read (Permission denied)"):
            read(tmp_path / name)


def test_a_file_of_another_format(torch, tmp_path):
    """Whatever its suffix says."""
    contents = [b"", b"PK\3\4", b"\x80\x02}q\x00.", b"{}", b"\x89HDF\r\n\x1a\n", bytes(100)]
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(3))
    for content in (*contents, stream.getvalue()):
        for name in (*FLAT, "b.safetensors.index.json"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match=re.escape(name)):
                read(tmp_path / name, SMALL)
