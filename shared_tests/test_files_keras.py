"""Keras' files: .weights.h5, legacy .h5 and .keras, read without Keras and without HDF5's library.

What the HDF5 library and Keras write, we read; what we write, Keras reads. Everything else in such
a file is refused, each with its message, and no damaged file raises anything else.
"""

import zipfile

import numpy as np
import pytest

from resattn.checking.cases import KINDS_AND_OPTIONS, attention_block
from shared_tests.test_own_kinds import gain_parameters, tf_gain
from weights import BlockConfig, NetworkConfig, register_attention, register_role
from weights.attention import ATTENTION
from weights.config import BottleneckConfig
from weights.config_json import config_from_json
from weights.convert import to_canonical
from weights.dialects.back import find_architectures
from weights.dialects.keras_applications import DIALECT
from weights.dialects.recognise import to_dialect_names
from weights.errors import ArgumentError, ResattnError, WeightsError
from weights.files import hdf5, keras_names
from weights.files import keras as archives
from weights.files.label import check_arrays, check_label, make_label
from weights.frameworks import FRAMEWORKS
from weights.parameters import ROLES, layer_norm
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
        depths=(1, 1), widths=(8, 8), form="bottleneck", stem_channels=(3, 4, 5),
        stem_pool="convolution", norm="group", norm_groups=1, classes=0,
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
    model.optimizer.build(model.trainable_variables)
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
    with pytest.raises(WeightsError, match=r"does not say what the layer '.*' is called"):
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


def test_networks_of_keras_applications(keras, tmp_path):
    from tf_impl.bridge.foreign import foreign_arrays

    config = DIALECT.architecture("ResNet50")
    assert find_architectures(DIALECT, config) == ("ResNet50",)
    own = draw(config)
    arrays = to_dialect_names(DIALECT, config, own)
    path = tmp_path / "a.weights.h5"
    hdf5.write(path, {}, arrays, None)
    assert_same(read_arrays(read(path).arrays), arrays)
    model = keras.applications.ResNet50(weights=None)
    model.load_weights(path)
    assert_same(foreign_arrays(model), arrays)


@SUFFIXES
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"layer1.0.conv1.weight": np.zeros(3)},
            r"^dialect: .* only those of ResNet50, ResNet101, ResNet152",
        ),
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
    with pytest.raises(
        ArgumentError, match=r"^dialect: keras\.applications loads float32, got arrays in float16"
    ):
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


@SUFFIXES
def test_a_kind_with_its_arrays_in_another_order_is_not_written(keras, tmp_path, suffix):
    class Swapped(keras.layers.Layer):
        def __init__(self, channels, **options):
            super().__init__(**options)
            self.beta = self.add_weight(shape=(channels,), name="beta")
            self.gamma = self.add_weight(shape=(channels,), name="gamma")
            self.built = True

        def call(self, x):
            return x * self.gamma + self.beta

    register_attention("swapped", lambda channels: layer_norm("", channels), tf=Swapped)
    try:
        config = BlockConfig(2, 3, attention="swapped")
        with pytest.raises(
            WeightsError, match=r"^a\.\S+: was not written, .*\n  attention\.beta\n"
        ):
            write(tmp_path / f"a{suffix}", config, draw(config))
    finally:
        del ATTENTION["swapped"]
    assert not list(tmp_path.iterdir())


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


@SUFFIXES
def test_a_flipped_bit_in_a_file_of_ours(keras, tmp_path, suffix):
    """It is an error, or changes nothing that is read."""
    path = tmp_path / f"a{suffix}"
    arrays = draw(SMALL)
    write(path, SMALL, arrays)
    content = path.read_bytes()
    seen = 0
    for place in range(0, len(content), 173):
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
    assert seen > 5
