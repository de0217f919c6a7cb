"""Keras' files: .weights.h5, legacy .h5 and .keras, read without Keras and without HDF5's library.

What the HDF5 library and Keras write, we read; what we write, Keras reads. Everything else in such
a file is refused, each with its message, and no damaged file raises anything else.
"""

import json
import re
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from resattn.checking.cases import KINDS_AND_OPTIONS, attention_block
from shared_tests.test_own_kinds import gain_parameters, tf_gain
from weights import BlockConfig, NetworkConfig, register_attention, register_role
from weights.attention import ATTENTION
from weights.config import BottleneckConfig, config_from_json
from weights.convert import BFLOAT16, to_canonical
from weights.dialects.back import find_architectures
from weights.dialects.keras_applications import DIALECT
from weights.dialects.recognise import to_dialect_names
from weights.errors import ArgumentError, ResattnError, WeightsError
from weights.files import hdf5, hdf5_parser, keras_names
from weights.files import keras as archives
from weights.files.label import check_arrays, check_label, make_label
from weights.frameworks import FRAMEWORKS
from weights.parameters import ROLES
from weights.schema import schema
from weights.stored import read_arrays

h5py = pytest.importorskip("h5py")

FORMATS = {".weights.h5": hdf5, ".keras": archives}
SUFFIXES = pytest.mark.parametrize("suffix", FORMATS)
SMALL = BlockConfig(2, 3, kernel_size=1, attention="none")
NETWORK = NetworkConfig(
    depths=(1, 2), widths=(3, 4), classes=2, stem_channels=3, drop_path=0.3, dropout=0.5
)
MODELS = {
    **{
        f"{kind}-{number}": attention_block(kind, options)
        for kind, cases in KINDS_AND_OPTIONS.items()
        for number, options in enumerate(cases)
    },
    "bottleneck": BottleneckConfig(4, 8, groups=2, norm="group", norm_groups=2, stride=2),
    "variant": BlockConfig(4, 6, stride=2, shortcut="average", relu_before_attention=True),
    "network": NETWORK,
    "published": NetworkConfig(
        depths=(1, 1), widths=(8, 8), form="bottleneck", stem=(3, 4, 5), stem_pool="convolution",
        norm="group", norm_groups=1, classes=0,
    ),
}  # fmt: skip


def draw(config, dtype="float32", statistics=None):
    """Random arrays of a config. statistics: the dtype of running statistics, if it is another."""
    rng = np.random.default_rng(0)
    return {
        each.name: rng.uniform(0.5, 1.5, each.shape).astype(
            dtype if each.trainable else statistics or dtype
        )
        for each in schema(config)
    }


def read(path):
    return archives.read(path) if path.suffix == ".keras" else hdf5.read(path)


def write(path, config, arrays):
    label = make_label(config.to_json(), arrays, '{"file": "x"}')
    FORMATS[".keras" if path.suffix == ".keras" else ".weights.h5"].write(
        path, label, arrays, config
    )
    return label


def canonical(header, config):
    return to_canonical("tf", schema(config), read_arrays(header.arrays))


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def live(keras, config, dtype="float32"):
    """A model of ours with random arrays, those arrays, and a keras.Model of it."""
    from weights.live import build

    arrays = draw(config, dtype, "float32" if dtype in ("bfloat16", "float16") else dtype)
    model = whole = build(config, arrays, "tf")
    if not isinstance(model, keras.Model):
        inputs = keras.Input((*(config.input_size or (None, None)), config.in_channels))
        whole = keras.Model(inputs, model(inputs))
    return model, arrays, whole


@SUFFIXES
@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_what_we_write_we_read(keras, tmp_path, suffix, config):
    arrays = draw(config)
    label = write(tmp_path / f"a{suffix}", config, arrays)
    found = read(tmp_path / f"a{suffix}")
    assert (found.layout, found.architecture, dict(found.label)) == ("tf", None, label)
    assert_same(canonical(found, config), arrays)
    check_label(found.label, "a")
    check_arrays(found.label, canonical(found, config), "a")


@SUFFIXES
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("statistics", ["float32", None])
def test_dtypes_survive(keras, tmp_path, suffix, dtype, statistics):
    if dtype == "float64" and statistics:
        statistics = None
    arrays = draw(NETWORK, dtype, statistics)
    write(tmp_path / f"a{suffix}", NETWORK, arrays)
    assert_same(canonical(read(tmp_path / f"a{suffix}"), NETWORK), arrays)


@SUFFIXES
def test_the_same_arrays_make_the_same_bytes(keras, tmp_path, suffix):
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        write(path, NETWORK, draw(NETWORK))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == paths  # and nothing is left beside them


@pytest.mark.parametrize("config", [SMALL, NETWORK, MODELS["mhsa-1"]], ids=["block", "net", "mhsa"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_keras_reads_what_we_write(keras, tmp_path, config, dtype):
    from weights.live import export

    model, arrays, whole = live(keras, config, dtype)
    others = {name: array + array.dtype.type(1) for name, array in arrays.items()}
    write(tmp_path / "a.weights.h5", config, others)
    write(tmp_path / "a.keras", config, others)
    whole.load_weights(tmp_path / "a.weights.h5")
    assert_same(export(model), others)
    loaded = keras.models.load_model(tmp_path / "a.keras")
    assert_same(export(loaded if isinstance(config, NetworkConfig) else loaded.layers[-1]), others)


@SUFFIXES
@pytest.mark.parametrize("name", ["network", "variant", "bottleneck", "triplet-0", "ge-3"])
def test_we_read_what_keras_writes(keras, tmp_path, suffix, name):
    config = MODELS[name]
    _, arrays, whole = live(keras, config)
    whole.save_weights(tmp_path / "a.weights.h5")
    whole.save(tmp_path / "a.keras")
    found = read(tmp_path / f"a{suffix}")
    assert_same(canonical(found, config), arrays)
    if suffix == ".keras":
        assert config_from_json(found.label["config"]) == config
        assert set(found.label) == {"config"}
    else:
        assert found.label == {}


def test_a_trained_model_in_another(keras, tmp_path):
    """The state of optimizers is left out; what is beside our model stays apart from it."""
    from weights.live import export

    model, _, _ = live(keras, NETWORK)
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    model.fit(np.ones((2, 8, 8, 3), "float32"), np.zeros((2, 2)), verbose=0)
    model.save_weights(tmp_path / "a.weights.h5")
    assert_same(canonical(read(tmp_path / "a.weights.h5"), NETWORK), export(model))
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(3, name="head")(model(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "b.keras")
    found = read(tmp_path / "b.keras")
    place = "layers/residual_attention_network"
    assert set(found.arrays) == {"head/kernel", "head/bias", place}
    assert_same(
        to_canonical("tf", schema(NETWORK), read_arrays(found.arrays[place])), export(model)
    )
    assert config_from_json(found.label["config"]) == NETWORK


def strip_names(path):
    """Makes a file as older versions of Keras 3 wrote it."""
    with h5py.File(path, "r+") as file:
        places = []
        file.visititems(lambda name, item: places.append(name) if "name" in item.attrs else None)
        for place in places:
            del file[place].attrs["name"]


def test_files_without_names_of_layers(keras, tmp_path):
    _, arrays, whole = live(keras, NETWORK)
    whole.save_weights(tmp_path / "a.weights.h5")
    strip_names(tmp_path / "a.weights.h5")
    assert_same(canonical(read(tmp_path / "a.weights.h5"), NETWORK), arrays)


def test_files_that_do_not_say_an_order_are_refused(keras, tmp_path):
    config = NetworkConfig(depths=(3,), widths=(3,), stem_channels=3, drop_path=0.3)
    _, _, whole = live(keras, config)  # without drop path the first block is of another class
    whole.save_weights(tmp_path / "a.weights.h5")
    strip_names(tmp_path / "a.weights.h5")
    with pytest.raises(WeightsError, match="does not say in which order the layers in 'layers/seq"):
        read(tmp_path / "a.weights.h5")


def functional(keras):
    """A small model with layers as keras.applications has them, and a model in it."""
    layers = keras.layers
    x = inputs = keras.Input((8, 8, 3))
    for number in range(2):
        x = layers.Conv2D(4, 3, name=f"conv{number}_conv", use_bias=number == 0)(x)
        x = layers.BatchNormalization(name=f"conv{number}_bn")(x)
        x = layers.ReLU()(x)
    backbone = keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name="backbone")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.Dense(2, name="predictions")(backbone(inputs)))
    model.name = "resnet50"
    rng = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_models_of_others(keras, tmp_path, suffix):
    from tf_impl.bridge.foreign import foreign_arrays

    model = functional(keras)
    path = tmp_path / f"a{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    found = read(path)
    assert (found.layout, found.architecture, found.label) == ("torch", "ResNet50", {})
    assert_same(read_arrays(found.arrays), foreign_arrays(model))


def test_names_of_layers_come_from_the_config(keras, tmp_path):
    from tf_impl.bridge.foreign import foreign_arrays

    model = functional(keras)
    model.save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        archive.extractall(tmp_path)
    strip_names(tmp_path / "model.weights.h5")
    pack(tmp_path / "b.keras", tmp_path)
    assert_same(read_arrays(read(tmp_path / "b.keras").arrays), foreign_arrays(model))
    with pytest.raises(WeightsError, match="does not say what the layer '.*' is called"):
        read(tmp_path / "model.weights.h5")


def pack(path, folder, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.write(folder / name, name)


def test_legacy_names(tmp_path):
    """As TensorFlow 1 and Keras 2 wrote them, a long list in pieces."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names0"] = np.array([b"conv1"])
        file.attrs["layer_names1"] = np.array([b"model_1", b"relu"])
        file.create_group("relu").attrs["weight_names"] = np.zeros(0)
        for layer, paths in {
            "conv1": ["conv1/conv1_2/kernel:0", "bias"],
            "model_1": ["model_1/block_2/gamma:0"],
        }.items():
            file.create_group(layer).attrs["weight_names"] = np.array([p.encode() for p in paths])
            for number, each in enumerate(paths):
                file[layer][each] = np.full(number + 1, 2.0, "float32")
    found = read_arrays(read(tmp_path / "a.h5").arrays)
    assert {name: len(array) for name, array in found.items()} == {
        "conv1/kernel": 1, "conv1/bias": 2, "block_2/gamma": 1,
    }  # fmt: skip


def test_legacy_files_of_ours_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["model_config"] = '{"class_name": "resattn>ResidualBlockWithAttention"}'
        file.attrs["layer_names"] = [b"a"]
        file.create_group("a")
    with pytest.raises(WeightsError, match=r"^a\.h5: holds a model of ours in Keras' legacy form"):
        read(tmp_path / "a.h5")


@pytest.mark.parametrize("suffix", FORMATS)
def test_networks_of_keras_applications(keras, tmp_path, suffix):
    from tf_impl.bridge.foreign import foreign_arrays

    rng = np.random.default_rng(0)
    config = DIALECT.architecture("ResNet50")
    assert find_architectures(DIALECT, config) == ("ResNet50",)
    own = {
        each.name: np.broadcast_to(rng.uniform(0.5, 1.5, each.shape[:1] + (1,) * (
            len(each.shape) - 1)).astype("float32"), each.shape) for each in schema(config)
    }  # fmt: skip
    arrays = to_dialect_names(DIALECT, config, own)
    path = tmp_path / f"a{suffix}"
    FORMATS[suffix].write(path, {}, arrays, None)
    assert_same(read_arrays(read(path).arrays), arrays)
    if suffix == ".keras":
        model = keras.models.load_model(path)
    else:
        model = keras.applications.ResNet50(weights=None)
        model.load_weights(path)
    assert_same(foreign_arrays(model), arrays)


@SUFFIXES
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"layer1.0.conv1.weight": np.zeros(3)}, "only those of ResNet50, ResNet101, ResNet152"),
        ({"conv1_conv/kernel": np.zeros((7, 7, 3, 64))}, "know layers by their order in a model"),
    ],
)
def test_other_networks_are_not_written(keras, tmp_path, suffix, arrays, message):
    with pytest.raises(ArgumentError, match=message):
        FORMATS[suffix].write(tmp_path / f"a{suffix}", {}, arrays, None)
    assert not list(tmp_path.iterdir())


def test_networks_in_other_dtypes_are_not_written(keras, tmp_path):
    config = DIALECT.architecture("ResNet50")
    arrays = {
        name: np.zeros(3 * (name == "conv1_conv/kernel") and (7, 7, 3, 64), "float16")
        for name in DIALECT.names(config)
        if not name.startswith("predictions")
    }
    with pytest.raises(ArgumentError, match="loads float32, got arrays in float16"):
        hdf5.write(tmp_path / "a.weights.h5", {}, arrays, None)


def test_legacy_files_are_not_written(tmp_path):
    with pytest.raises(ArgumentError, match=r"cannot write Keras' legacy .* ends in \.weights\.h5"):
        hdf5.write(tmp_path / "a.h5", {}, {}, None)


@SUFFIXES
def test_kinds_of_a_users_own(keras, tmp_path, suffix):
    register_role("gain", "gain", "channel")
    register_attention("gain", gain_parameters, tf=tf_gain())
    try:
        config = BlockConfig(2, 3, attention="gain")
        arrays = draw(config)
        write(tmp_path / f"a{suffix}", config, arrays)
        assert_same(canonical(read(tmp_path / f"a{suffix}"), config), arrays)
    finally:
        del ATTENTION["gain"], ROLES["gain"]
        for row in FRAMEWORKS.values():
            del row.leaves["gain"]


def test_names_of_classes():
    config = {
        "config": {
            "layers": [
                {"class_name": kind, "config": {"name": name}}
                for kind, name in [("Conv2D", "a"), ("ReLU", "b"), ("Conv2D", "c"),
                                   ("BatchNormalization", "d"), ("ZeroPadding2D", "e"), (3, "f")]
            ]
        }
    }  # fmt: skip
    keys = ["conv2d", "re_lu", "conv2d_1", "batch_normalization", "zero_padding2d"]
    expected = {("layers", key): name for key, name in zip(keys, "abcde", strict=True)}
    assert keras_names.names_in_config(config) == expected


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
        lambda file, held: held.create_dataset("2", (2**40,), "float32", chunks=(2**30,)),
        "parts without values",
    ),
    "many parts": (
        lambda file, held: held.create_dataset("2", (2**40,), "float32", chunks=(1,)),
        "more than 100,000 parts",
    ),
    "never written": (lambda file, held: held.create_dataset("2", (5,)), "has 0 in the file|no val"),
    "bomb": (bomb, "more than 100 times the"),
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


def test_too_many_groups_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_parser, "_OBJECTS", 50)

    def many(file, held):
        for number in range(60):
            file.create_group(f"g{number}")

    path = make(tmp_path / "a.weights.h5", many)
    with pytest.raises(WeightsError, match="more than 50 groups and arrays"):
        read(path)
    monkeypatch.setattr(hdf5_parser, "_LEAST", -7 * path.stat().st_size)
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


def attempts(content):
    """The file cut off at every byte, and with a bit flipped in every byte."""
    for place in range(len(content)):
        yield content[:place]
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        yield bytes(flipped)


def attempt(path, content):
    """Reads a damaged file. What it raises is ours and names the file."""
    path.write_bytes(content)
    try:
        read_arrays(read(path).arrays)
    except ResattnError as error:
        assert path.name in str(error), repr(error)
        assert str(error).isprintable() or "\n" in str(error)
        return False
    return True


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_every_damaged_file_is_one_error(tmp_path, suffix):
    path = make(tmp_path / "a.weights.h5")
    if suffix == ".keras":
        path.rename(tmp_path / "model.weights.h5")
        (tmp_path / "metadata.json").write_text("{}")
        (tmp_path / "config.json").write_text('{"config": {"name": "a", "layers": []}}')
        pack(tmp_path / "a.keras", tmp_path)
        path = tmp_path / "a.keras"
    content = path.read_bytes()
    assert attempt(path, content)
    passed = [attempt(path, each) for each in attempts(content)]
    assert not any(passed[: len(content)])  # none that was cut off


@SUFFIXES
def test_a_flipped_bit_in_a_file_of_ours(keras, tmp_path, suffix):
    """It is an error, or changes nothing that is read."""
    path = tmp_path / f"a{suffix}"
    arrays = draw(SMALL)
    write(path, SMALL, arrays)
    content = path.read_bytes()
    seen = 0
    for place in range(0, len(content), 61):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            found = read(path)
            check_label(found.label, path.name)
            values = canonical(found, config_from_json(found.label["config"]))
            check_arrays(found.label, values, path.name)
            assert_same(values, arrays)
        except KeyError:  # the label is gone, which formats.py says
            seen += 1
        except ResattnError:
            seen += 1
    assert seen > 10


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
        ("config.json", "has two members called 'config.json'"),
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
    with broken("has an encrypted member, 'metadata.json'"):
        read(folder / "a.keras")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_archives_that_unpack_to_far_more(folder, name):
    with (folder / name).open("wb") as file:
        file.truncate(2**26 + 2**20)
    pack(folder / "a.keras", folder)
    assert (folder / "a.keras").stat().st_size < 2**17
    with broken(f"bytes in {re.escape(name)}, more than 67,108,864"):
        read(folder / "a.keras")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{", '{"a": ' * 5000 + "1" + "}" * 5000, "\udcff", '{"a": 1' + "0" * 5000],
)
def test_configs_that_are_no_json(folder, text):
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
    with broken("model.weights.h5 has another size than the archive says"):
        read(folder / "a.keras")


def test_long_lists_of_members(folder):
    pack(folder / "a.keras", folder)
    with zipfile.ZipFile(folder / "a.keras", "a") as archive:
        for number in range(40):
            archive.writestr(f"{number:030000}", b"")
    with broken("has too many members"):
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


def test_a_copied_file_is_the_same(keras, tmp_path):
    """Nothing in a file depends on its own name."""
    write(tmp_path / "a.keras", SMALL, draw(SMALL))
    shutil.copy(tmp_path / "a.keras", Path(tmp_path / "b.keras"))
    assert_same(canonical(read(tmp_path / "b.keras"), SMALL), draw(SMALL))
