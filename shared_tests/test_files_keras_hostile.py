"""Keras' files from strangers: all that Keras does not write is refused, each with its message, and
no damaged file raises anything else.
"""

import json
import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from shared_tests.test_files_keras import pack, read
from weights.convert import BFLOAT16
from weights.errors import FileError, ResattnError, WeightsError
from weights.files import hdf5, hdf5_parser, keras_names
from weights.files.hdf5_values import Region
from weights.stored import read_arrays

h5py = pytest.importorskip("h5py")

# What a file of Keras 3 has, written with h5py.


def make(path, change=None, **options):
    """A layer with a kernel and a bias. change: what else happens to the file."""
    with h5py.File(path, "w", **options) as file:
        held = file.create_group("layers/dense/vars")
        held.attrs["name"] = "dense"
        held["0"] = np.arange(6, dtype="float32").reshape(2, 3)
        held["1"] = np.array([1, 2, 3], "float64")
        if change is not None:
            change(file, held)
    return path


def test_types_and_compressed_parts(tmp_path):
    x = np.random.default_rng(0).normal(size=(37, 53))
    expected = {
        "0": x.astype("float32"), "1": x.astype(">f8"), "2": x.astype("float16"),
        "3": np.arange(1001, dtype="uint8"), "4": x[:, :3].astype(BFLOAT16), "5": np.float32(3),
    }  # fmt: skip
    settings = {
        "0": {"chunks": (10, 20), "compression": "gzip", "shuffle": True, "fletcher32": True},
        "1": {"chunks": (7, 53), "fletcher32": True},
        "2": {"chunks": (37, 53), "compression": "gzip"},
        "3": {"chunks": (333,), "fletcher32": True, "shuffle": True},
    }

    def change(file, held):
        del held["0"], held["1"]
        for name, array in expected.items():
            held.create_dataset(name, data=array, **settings.get(name, {}))
        held["4"].attrs["dtype"] = "bfloat16"

    found = read(make(tmp_path / "a.weights.h5", change)).arrays
    for name, array in expected.items():
        stored = found[f"dense/{name}"]
        values = stored.read()
        assert stored.dtype == values.dtype == np.asarray(array).dtype.newbyteorder("=")
        assert stored.shape == values.shape
        np.testing.assert_array_equal(values, array)
        assert values.flags.c_contiguous
        assert values.flags.writeable


def external(file, held):
    held.create_dataset("2", (3,), "float32", external=[("secret", 0, 12)])


def virtual(file, held):
    layout = h5py.VirtualLayout((3,), "float32")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    held.create_virtual_dataset("2", layout)


def nested(file, held):
    group = file
    for _ in range(70):
        group = group.create_group("a")


def shared_type(file, held):
    file["type"] = np.dtype("float32")
    held.create_dataset("2", (3,), dtype=file["type"], data=np.zeros(3, "float32"))


def bomb(file, held):
    held.create_dataset("2", data=np.zeros(2**25), chunks=(2**24,), compression="gzip")


REFUSED = {
    "external link": (
        lambda file, held: held.__setitem__("2", h5py.ExternalLink("other.h5", "x")),
        "links by name or to other files",
    ),
    "soft link": (lambda file, held: held.__setitem__("2", h5py.SoftLink("/x")), "links by name"),
    "hard link": (lambda file, held: held.__setitem__("2", held["0"]), "two names lead to one"),
    "cycle": (lambda file, held: held.__setitem__("up", file["layers"]), "two names lead to one"),
    "external": (external, "values are in other files"),
    "virtual": (virtual, "another layout of HDF5|made of others"),
    "no values": (
        lambda file, held: held.create_dataset("2", (2**40,), "float32", chunks=(2**29,)),
        "parts without values",
    ),
    "many parts": (
        lambda file, held: held.create_dataset("2", (2**40,), "float32", chunks=(1,)),
        "more than 100,000 parts",
    ),
    "never written": (lambda file, held: held.create_dataset("2", (5,)), "array has no values"),
    "bomb": (bomb, "claims 268,.* less than 1/100 of them"),
    "lzf": (
        lambda file, held: held.create_dataset("2", data=np.zeros(9), compression="lzf"),
        "compressed by filter 32000; read are gzip",
    ),
    "texts": (lambda file, held: held.__setitem__("2", ["a"]), "other values than numbers"),
    "fixed texts": (lambda file, held: held.__setitem__("2", np.bytes_("a")), "than numbers"),
    "records": (
        lambda file, held: held.__setitem__("2", np.zeros(2, "f4,f4")), "other values than numbers"
    ),
    "complex": (lambda file, held: held.__setitem__("2", np.zeros(2, "c8")), "than numbers"),
    "opaque": (lambda file, held: held.__setitem__("2", np.zeros(2, "V2")), "than numbers"),
    "no shape": (
        lambda file, held: held.__setitem__("2", h5py.Empty("float32")), "arrays without a shape"
    ),
    "shared type": (shared_type, "types that several arrays share|no group or array"),
    "deep": (nested, "in each other more than 64 times"),
    "unnumbered": (lambda file, held: held.__setitem__("x", np.zeros(2)), "without numbers"),
    "twice": (
        lambda file, held: file.copy("layers/dense", "layers/dense_1"),
        "two variables called 'dense/kernel'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_keras_does_not_write_is_refused(tmp_path, change, message):
    path = make(tmp_path / "a.weights.h5", change)
    with pytest.raises(WeightsError, match=rf"^a\.weights\.h5: (.*{message})"):
        read(path)


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"track_order": True}])
def test_newer_layouts_are_refused(tmp_path, options):
    path = make(tmp_path / "a.weights.h5", **options)
    with pytest.raises(WeightsError, match=r"newer layout of HDF5"):
        read(path)


def test_files_of_something_else_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(WeightsError, match="but not one of weights that Keras wrote"):
        read(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_text("no")
    with pytest.raises(WeightsError, match=r"^b\.h5: is not an HDF5 file$"):
        read(tmp_path / "b.h5")


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_files_that_the_system_refuses(tmp_path, suffix):
    (tmp_path / f"a{suffix}").mkdir()
    with pytest.raises(FileError, match=rf"a{re.escape(suffix)}: cannot be read \(Is a directory"):
        read(tmp_path / f"a{suffix}")


def test_too_many_groups_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_parser, "_OBJECTS", 50)

    def many(file, held):
        for number in range(60):
            file.create_group(f"g{number}")

    path = make(tmp_path / "a.weights.h5", many)
    with pytest.raises(WeightsError, match="more than 50 groups and arrays"):
        read(path)
    monkeypatch.setattr(hdf5_parser, "_OBJECTS", 100)
    monkeypatch.setattr(hdf5_parser, "_MOST", 5000)
    with pytest.raises(WeightsError, match="too many groups, names and attributes"):
        read(path)


def test_too_many_models_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_names, "_MODELS", 1)

    def two(file, held):
        for name in ("a", "b"):
            for part in ("conv1", "bn1", "conv2", "bn2"):
                file.create_group(f"{name}/{part}")

    with pytest.raises(WeightsError, match="more than 1 models of ours"):
        read(make(tmp_path / "a.weights.h5", two))


def test_arrays_that_share_bytes_are_refused(tmp_path):
    def change(file, held):
        for number in range(2, 8):
            held[str(number)] = np.full(4096, number, "float32")

    path = make(tmp_path / "a.weights.h5", change)
    content = bytearray(path.read_bytes())
    first = struct.pack("<Q", content.index(np.full(4096, 2, "float32").tobytes()))
    for number in range(3, 8):
        place = content.index(np.full(4096, number, "float32").tobytes())
        content = content.replace(struct.pack("<Q", place), first)
    content = content[: content.index(np.full(4096, 3, "float32").tobytes())]
    content[40:48] = struct.pack("<Q", len(content))  # where the file says that it ends
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a whole HDF5 file"):
        read(path)


def test_a_file_that_changes_is_seen(tmp_path):
    path = make(tmp_path / "a.weights.h5")
    found = read(path).arrays["dense/kernel"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match="became shorter while it was read"):
        found.read()


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_a_file_that_is_replaced(folder, suffix):
    """The values are those of the file whose header was read."""
    path = folder / f"a{suffix}"

    def put(change):
        new = make(folder / "model.weights.h5", change)
        if suffix == ".keras":
            new = folder / "new"
            pack(new, folder, zipfile.ZIP_STORED)
        new.rename(path)

    put(None)
    found = read(path).arrays["dense/kernel"]
    put(lambda file, held: held["0"].write_direct(np.zeros((2, 3), "float32")))
    np.testing.assert_array_equal(found.read(), np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(read(path).arrays["dense/kernel"].read(), np.zeros((2, 3)))


def test_parts_are_counted_while_they_are_listed(tmp_path):
    """60 times the same node of 65,535 parts, for an array of two."""

    def change(file, held):
        held.create_dataset("2", data=np.zeros(8, "float32"), chunks=(4,))

    content = make(tmp_path / "a.weights.h5", change).read_bytes()
    end, many, times = len(content), 65_535, 60
    old = struct.pack("<Q", content.index(b"TREE\x01"))
    node = b"\xff" * 16 + struct.pack("<IIQQQ", 16, 0, 0, 0, 64) * many
    root = b"\xff" * 16 + struct.pack("<IIQQQ", 16, 0, 0, 0, end) * times
    added = struct.pack("<4sBBH", b"TREE", 1, 0, many) + node
    new = struct.pack("<Q", end + len(added))
    assert content.count(old) == 1
    content = content.replace(old, new) + added
    content += struct.pack("<4sBBH", b"TREE", 1, 1, times) + root
    content += bytes(2**24 - len(content))  # the larger a file, the more it may list
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="has parts without values"):
            hdf5.read_region(Region(content, 0, len(content)), "a.h5")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def damage(content):
    """The file cut off at every byte, and with a bit flipped in every byte."""
    for place in range(len(content)):
        yield content[:place]
    for place in range(len(content)):
        yield content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]


def attempt(header, *arguments):
    """Whether a file can be read. If not, the error is one of ours and names the file."""
    try:
        for each in header(*arguments).arrays.values():
            each.read()
    except ResattnError as error:
        message = str(error)
    else:
        return True
    assert message.startswith("a.")
    assert message.replace("\n", "").isprintable()
    return False


def test_every_damaged_hdf5_file_is_one_error(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("vars").attrs["name"] = "dense"
        file["vars/0"] = np.arange(6, dtype="float32").reshape(2, 3)
    content = (tmp_path / "a.h5").read_bytes()
    passed = [
        attempt(hdf5.read_region, Region(each, 0, len(each)), "a.h5")
        for each in (content, *damage(content))
    ]
    assert passed[0]
    assert not any(passed[1 : len(content)])  # none that was cut off


def make_newer_group(file, name):
    """A group with links in its header, not in a tree."""
    properties = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    properties.set_link_creation_order(h5py.h5p.CRT_ORDER_TRACKED)
    return h5py.Group(h5py.h5g.create(file.id, name.encode(), gcpl=properties))


@pytest.mark.parametrize("size", [2**64 - 1, 2**63, 2**62])
def test_links_with_names_of_impossible_sizes(tmp_path, size):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make_newer_group(file, "vars")["0"] = np.zeros(3)
    content = (tmp_path / "a.h5").read_bytes()
    link = b"\1\4" + bytes(8) + b"\1" + b"0"  # version, flags, order, size and name
    assert content.count(link) == 1
    content = content.replace(link, struct.pack("<BBQH", 1, 3, size, 0))
    with pytest.raises(WeightsError, match=r"^a\.h5: is not a whole .* entry in it is too short"):
        hdf5.read_region(Region(content, 0, len(content)), "a.h5")


@pytest.mark.parametrize("number", [b"\xff" * 8, bytes(8)], ids=["largest", "zero"])
def test_every_number_of_an_hdf5_file_at_its_limit(tmp_path, number):
    """One error, or exact values of all arrays whose own bytes are not those that changed."""
    x, y = np.arange(6, dtype="float32").reshape(2, 3), np.arange(7, 10, dtype="float32")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make_newer_group(file, "vars").attrs["name"] = "dense"
        file["vars"].create_dataset("0", data=x, chunks=(2, 2), shuffle=True, compression="gzip")
        file["vars/1"] = y
        file["vars/1"].attrs["text"] = ["one", "two"]
    content = (tmp_path / "a.h5").read_bytes()
    places = range(0, len(content) - 8, 4)
    own = range(content.index(y.tobytes()) - 7, content.index(y.tobytes()) + y.nbytes)
    changed = [content[:place] + number + content[place + 8 :] for place in places]
    passed, messages = 0, []
    for place, each in zip(places, changed, strict=True):
        try:
            found = read_arrays(hdf5.read_region(Region(each, 0, len(each)), "a.h5").arrays)
        except WeightsError as error:
            messages.append(str(error))
        else:
            passed += 1
            for name, array in found.items():
                exact = array.tobytes() in (x.tobytes(), y.tobytes())
                assert exact or (name == "dense/bias" and place in own), (name, place)
    assert all(each.startswith("a.h5: ") and each.isprintable() for each in messages)
    assert len(messages) > 150
    assert passed > 1000  # in most of the file nothing is


def test_every_damaged_archive_is_one_error(folder):
    (folder / "config.json").write_text('{"config": {"name": "a", "layers": []}}')
    pack(folder / "a.keras", folder)
    content = (folder / "a.keras").read_bytes()
    passed = []
    for each in (content, *damage(content)):
        (folder / "a.keras").write_bytes(each)
        passed.append(attempt(read, folder / "a.keras"))
    assert passed[0]
    assert not any(passed[1 : len(content)])


# Archives.


@pytest.fixture
def folder(tmp_path):
    """The members of a .keras file."""
    make(tmp_path / "model.weights.h5")
    (tmp_path / "metadata.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"config": {}}')
    return tmp_path


def broken(message):
    return pytest.raises(WeightsError, match=rf"^a\.keras: .*{message}")


@pytest.mark.parametrize("name", ["metadata.json", "config.json", "model.weights.h5"])
def test_missing_members(folder, name):
    pack(folder / "b.keras", folder)
    with (
        zipfile.ZipFile(folder / "b.keras") as old,
        zipfile.ZipFile(folder / "a.keras", "w") as new,
    ):
        for each in old.namelist():
            if each != name:
                new.writestr(each, old.read(each))
    with broken(f"has no {re.escape(name)}"):
        read(folder / "a.keras")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "has doubled or encrypted members"),
        ("/etc/passwd", "has a member called '/etc/passwd', outside"),
        ("a/../../b", "outside of the archive"),
    ],
)
def test_odd_members(folder, name, message):
    pack(folder / "a.keras", folder)
    with zipfile.ZipFile(folder / "a.keras", "a") as archive:
        archive.writestr(name, b"{}")
    with broken(message):
        read(folder / "a.keras")


def test_odd_compression(folder):
    pack(folder / "a.keras", folder, zipfile.ZIP_BZIP2)
    with broken("compressed by method 12"):
        read(folder / "a.keras")


def test_encrypted_members(folder):
    pack(folder / "a.keras", folder, zipfile.ZIP_STORED)
    content = bytearray((folder / "a.keras").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (folder / "a.keras").write_bytes(content)
    with broken("has doubled or encrypted members"):
        read(folder / "a.keras")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_archives_that_unpack_to_far_more(folder, name):
    with (folder / name).open("wb") as file:
        file.truncate(2**26 + 2**20)
    pack(folder / "a.keras", folder)
    assert (folder / "a.keras").stat().st_size < 2**17
    with broken("claims 68,.* bytes of values and has .* bytes, less than 1/100 of them"):
        read(folder / "a.keras")


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
@pytest.mark.parametrize(
    ("count", "compression", "message"),
    [
        (400_000, zipfile.ZIP_DEFLATED, r"1,200,\d{3} bytes in {}, more than 100 times the \d,"),
        (5_600_000, zipfile.ZIP_STORED, r"16,800,\d{3} bytes in {}, more than 16,777,216, which"),
    ],
)
def test_json_that_takes_far_more_in_memory(folder, name, count, compression, message):
    (folder / name).write_text("[" + "[]," * count + "[]]")
    pack(folder / "a.keras", folder, compression)
    with broken(f"cannot be read: it has {message.replace('{}', name)}"):
        read(folder / "a.keras")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{",
        '{"a": ' * 5000 + "1" + "}" * 5000,
        "\udcff",
        '{"a": 1' + "0" * 5000 + "}",
    ],
)
def test_configs_that_are_no_json(folder, text):
    if text.isascii():
        with h5py.File(folder / "a.h5", "w") as file:
            file.attrs["model_config"] = text
        with pytest.raises(WeightsError, match=r"^a\.h5: is damaged: "):
            read(folder / "a.h5")
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    pack(folder / "a.keras", folder)
    with pytest.raises(WeightsError, match=r"a\.keras"):
        read(folder / "a.keras")


@pytest.mark.parametrize("text", ["3", "[]", '{"config": 3}', '{"config": {"layers": [[], 3]}}'])
def test_configs_of_another_form(folder, text):
    (folder / "config.json").write_text(text)
    pack(folder / "a.keras", folder)
    assert set(read(folder / "a.keras").arrays) == {"dense/kernel", "dense/bias"}


def test_sizes_that_are_lies(folder):
    pack(folder / "a.keras", folder, zipfile.ZIP_STORED)
    content = bytearray((folder / "a.keras").read_bytes())
    place = content.rindex(b"PK\1\2")
    content[place + 20 : place + 28] = struct.pack("<II", 2**30, 2**30)
    (folder / "a.keras").write_bytes(content)
    with broken("claims 1,073,.* bytes of values and has"):
        read(folder / "a.keras")


def test_weights_of_another_crc(folder):
    """Foreign archives have one for all weights, compared before the first array is read."""
    pack(folder / "a.keras", folder, zipfile.ZIP_STORED)
    content = bytearray((folder / "a.keras").read_bytes())
    content[content.index(np.arange(6, dtype="float32").tobytes())] ^= 1
    (folder / "a.keras").write_bytes(content)
    found = read(folder / "a.keras").arrays
    with broken("is damaged: its weights are not those that were written"):
        found["dense/kernel"].read()


def test_nothing_in_a_config_is_made(folder):
    """Neither lambdas nor classes by their names."""
    marker = folder / "marker"
    layer = {
        "module": "builtins", "class_name": "exec", "registered_name": "exec",
        "config": {"name": "x", "function": f"open({str(marker)!r}, 'w')"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"config": {"layers": [layer]}}))
    pack(folder / "a.keras", folder)
    assert set(read(folder / "a.keras").arrays) == {"dense/kernel", "dense/bias"}
    assert not marker.exists()


def test_metadata_of_another_form(folder):
    (folder / "metadata.json").write_text('{"resattn": {"config": 3, "other": "x"}}')
    pack(folder / "a.keras", folder)
    assert read(folder / "a.keras").label == {}
