"""Weights go from any framework to any other and to files and back without a bit changed."""

from itertools import permutations

import numpy as np
import pytest

from resattn.checking.backends import precise
from resattn.checking.draws import random_arrays, random_input
from weights import BlockConfig, NetworkConfig, export, load, port, read, save, schema, write
from weights.convert import reorder, to_canonical, to_native
from weights.frameworks import FRAMEWORKS
from weights.live import adapter, build

BLOCK = BlockConfig(3, 5, (3, 1), (2, 1), attention_options={"hidden_channels": 2})
FIXED = BlockConfig(3, 4, 3, 2, attention="mhsa", attention_options={"size": (4, 3), "heads": 2})
NETWORK = NetworkConfig(2, 7, (3, 4), (1, 2), stem_kernel_size=5, stem_pool=True)


def same(actual, expected):
    assert list(actual) == list(expected)
    for name in expected:
        assert actual[name].dtype == expected[name].dtype, name
        assert actual[name].tobytes() == expected[name].tobytes(), name


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("config", [BLOCK, NETWORK], ids=["block", "network"])
def test_names_and_axes_there_and_back(config, framework):
    """Needs no framework: the layouts alone."""
    arrays = random_arrays(config)
    natives = to_native(framework, schema(config), arrays)
    assert all(
        not np.shares_memory(native, array)
        for native in natives.values()
        for array in arrays.values()
    )
    same(to_canonical(framework, schema(config), natives), arrays)


def test_reorder_names_axes():
    array = np.arange(24).reshape(2, 3, 4, 1)
    moved = reorder(array, "out in row col", "row col in out")
    assert moved.shape == (4, 1, 3, 2)
    assert moved[3, 0, 2, 1] == array[1, 2, 3, 0]
    with pytest.raises(ValueError, match="cannot reorder 4 axes named 'out in' to 'in out'"):
        reorder(array, "out in", "in out")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("config", [BLOCK, NETWORK], ids=["block", "network"])
@pytest.mark.parametrize(("source", "target"), list(permutations(FRAMEWORKS, 2)))
def test_every_ordered_pair(all_frameworks, source, target, config, dtype):
    arrays = random_arrays(config, dtype, seed=3)
    with precise(FRAMEWORKS, dtype):
        first = build(config, arrays, source)
        second = port(first, to=target)
        back = port(second, to=source)
        for model in (first, second, back):
            same(export(model), arrays)
        x = random_input(config, (17, 18), 2, dtype)
        y = adapter(source).forward(first, x)
        assert (adapter(source).forward(back, x) == y).all()
        assert (
            np.abs(adapter(target).forward(second, x) - y).max()
            <= (1e-13 if dtype == "float64" else 2e-6) * np.abs(y).max()
        )


def test_export_is_a_copy(framework):
    model = build(BLOCK, random_arrays(BLOCK), framework)
    before = export(model)
    for array in export(model).values():
        array += 1
    same(export(model), before)


def test_load_copies(framework):
    arrays = random_arrays(BLOCK)
    model = build(BLOCK, arrays, framework)
    kept = {name: array.copy() for name, array in arrays.items()}
    for array in arrays.values():
        array += 1
    same(export(model), kept)


def test_port_keeps_the_mode(all_frameworks):
    from pytorch_impl import ResidualBlockWithAttention

    model = ResidualBlockWithAttention(3, 4)
    assert adapter("jax").is_training(port(model, "jax"))
    model.eval()
    ported = port(model, "jax")
    assert not adapter("jax").is_training(ported)
    assert not port(ported, "torch").training
    assert not port(port(model, "tf"), "torch").training


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".NPZ", ".SafeTensors"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("config", [BLOCK, NETWORK], ids=["block", "network"])
def test_files(tmp_path, config, dtype, suffix):
    arrays = random_arrays(config, dtype)
    write(tmp_path / f"file{suffix}", config, arrays)
    held, back = read(tmp_path / f"file{suffix}")
    assert held == config
    same(back, arrays)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th"])
def test_torch_files(torch, tmp_path, suffix):
    arrays = random_arrays(BLOCK)
    write(tmp_path / f"file{suffix}", BLOCK, arrays)
    held, back = read(tmp_path / f"file{suffix}")
    assert held == BLOCK
    same(back, arrays)


def test_a_plain_state_dict_with_its_counters(torch, tmp_path):
    from pytorch_impl import ResidualBlockWithAttention

    model = ResidualBlockWithAttention.from_config(BLOCK)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    config, arrays = read(tmp_path / "state.pt", BLOCK)
    assert config == BLOCK
    same(arrays, export(model))
    other = ResidualBlockWithAttention.from_config(BLOCK)
    load(other, arrays)
    same(export(other), arrays)


def test_our_names_are_pytorchs(torch):
    from pytorch_impl import ResidualAttentionNetwork

    model = ResidualAttentionNetwork(NETWORK)
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    assert names == [parameter.name for parameter in schema(NETWORK)]


def test_save_takes_a_model(framework, tmp_path):
    model = build(BLOCK, random_arrays(BLOCK), framework)
    save(tmp_path / "block.safetensors", model)
    config, arrays = read(tmp_path / "block.safetensors")
    assert config == BLOCK
    same(arrays, export(model))


@pytest.mark.parametrize("config", [BLOCK, NETWORK, FIXED], ids=["block", "network", "fixed"])
def test_keras_files(keras, tmp_path, config):
    arrays = random_arrays(config)
    write(tmp_path / "model.keras", config, arrays)
    model = keras.models.load_model(tmp_path / "model.keras")
    x = random_input(config, config.input_size or (17, 18), 2, "float32")
    expected = adapter("tf").forward(build(config, arrays, "tf"), x)
    assert (adapter("tf").forward(model, x) == expected).all()
    ours = model if isinstance(config, NetworkConfig) else model.layers[-1]
    save(tmp_path / "again.safetensors", ours)
    same(read(tmp_path / "again.safetensors")[1], arrays)


def test_other_byte_orders(framework, tmp_path):
    arrays = random_arrays(BLOCK)
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    model = build(BLOCK, swapped, framework)
    same(export(model), arrays)
    load(model, swapped)
    same(export(model), arrays)
    write(tmp_path / "swapped.npz", BLOCK, swapped)
    same(read(tmp_path / "swapped.npz")[1], arrays)


def test_the_same_bytes_every_time(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.safetensors", NETWORK, random_arrays(NETWORK))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_compiled_model_is_exported_as_what_it_wraps(torch):
    from pytorch_impl import ResidualBlockWithAttention

    model = ResidualBlockWithAttention.from_config(BLOCK)
    same(export(torch.compile(model, backend="eager")), export(model))
