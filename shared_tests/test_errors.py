"""Bad input gets one clear error, and changes nothing."""

import json
import re
import sys

import numpy as np
import pytest

from resattn.checking.backends import implementation, native_arguments
from resattn.checking.crosscheck import crosscheck
from resattn.checking.draws import random_arrays
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS
from weights import (
    BlockConfig,
    MissingFramework,
    NetworkConfig,
    WeightsError,
    difference,
    export,
    load,
    port,
    preset,
    read,
    save,
    schema,
    write,
)
from weights.attention import ATTENTION
from weights.config_json import config_from_json
from weights.live import adapter, build

BLOCK = BlockConfig(3, 5, 3, 2, attention_options={"hidden_channels": 2})


def raises(error, message):
    return pytest.raises(error, match=re.escape(message))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels: expected a positive integer, got 0"),
        ({"out_channels": 2.0}, "out_channels: expected a positive integer, got 2.0"),
        ({"out_channels": True}, "out_channels: expected a positive integer, got True"),
        ({"kernel_size": 4}, "kernel_size: expected odd sizes, got 4"),
        ({"kernel_size": 4}, "Use (5, 5) with padding (2, 2)"),
        ({"kernel_size": (3, 2)}, "Use (3, 3) with padding (1, 1)"),
        (
            {"kernel_size": (3, 3, 3)},
            "kernel_size: expected a positive integer or a (height, width) pair",
        ),
        (
            {"kernel_size": "3"},
            "kernel_size: expected a positive integer or a (height, width) pair",
        ),
        (
            {"stride": 0},
            "stride: expected a positive integer or a (height, width) pair of them, got 0",
        ),
        (
            {"padding": 0},
            "padding: 0 with kernel_size 3 makes main path and shortcut differ in size; the "
            "padding that works is (1, 1)",
        ),
        ({"padding": -1}, "padding: expected an integer of at least 0"),
        (
            {"attention": "sse"},
            f"attention: expected one of {', '.join(ATTENTION)}, got 'sse'",
        ),
        (
            {"attention_options": {"ratio": 4}},
            "'se' has no 'ratio'; its options are: reduction, hidden_channels, divisor, minimum, "
            "gate",
        ),
        (
            {"attention": "none", "attention_options": {"x": 1}},
            "'none' has no 'x'; its options are: none at all",
        ),
        (
            {"attention_options": {"reduction": 0}},
            "attention_options of 'se': reduction: expected a positive integer, got 0",
        ),
        (
            {"attention_options": {"hidden_channels": -2}},
            "hidden_channels: expected a positive integer, got -2",
        ),
        (
            {"attention_options": {"reduction": 2, "hidden_channels": 2}},
            "both set the hidden width; give only one",
        ),
        (
            {"attention_options": 4},
            "attention_options: expected a mapping of option names to values, got 4",
        ),
        ({"conv_bias": 1}, "conv_bias: expected True or False, got 1"),
        (
            {"attention": ["se"]},
            "nonlocal, mhsa, got ['se']; a kind of your own must be registered first, with "
            "weights.register_attention",
        ),
        (
            {"attention_options": {1: 2}},
            "attention_options: expected a mapping of option names to values",
        ),
        (
            {"attention_options": {"gate": np.zeros(2)}},
            "attention_options: gate: expected a number, a word, True, False, None",
        ),
        ({"bn_eps": 10**400}, "bn_eps: expected a positive number"),
        ({"bn_eps": float("nan")}, "bn_eps: expected a positive number, got nan"),
        ({"bn_eps": 0.0}, "bn_eps: expected a positive number, got 0.0"),
        ({"bn_decay": 1.5}, "bn_decay: expected a number from 0 to 1, got 1.5"),
    ],
)
def test_block_config(arguments, message):
    with raises(ValueError, message):
        BlockConfig(**{"in_channels": 3, "out_channels": 5, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": -1}, "classes: expected an integer of at least 0, got -1"),
        ({"widths": 64}, "widths: expected one value for each stage"),
        ({"widths": ()}, "widths: expected one value for each stage"),
        (
            {"depths": (1, 2)},
            "widths, depths, strides: expected as many values in each, one a stage, got 4, 2 and 4",
        ),
        ({"depths": (1, 1, 0, 1)}, "depths: expected a positive integer, got 0"),
        ({"stem_kernel_size": 2}, "stem_kernel_size: expected odd sizes, got 2"),
        ({"stem_channels": 0}, "stem_channels: expected a positive integer, got 0"),
        ({"stem_channels": -3}, "stem_channels: expected a positive integer, got -3"),
        ({"stem_pool": "yes"}, "stem_pool: expected one of max, max_ceil, max_same, max_blur"),
        ({"attention": "?"}, "nonlocal, mhsa, got '?'"),
        (
            {"attention": ("se", "none")},
            "attention: expected one for each of the 4 stages, got 2: ('se', 'none')",
        ),
        ({"attention": ("se", "none", "se", "sse")}, "nonlocal, mhsa, got 'sse'"),
        (
            {"attention_options": [{}]},
            "attention_options: expected one for each of the 4 stages, got 1",
        ),
        (
            {"attention_options": 3},
            "attention_options: expected a mapping of option names to values, got 3",
        ),
        (
            {"attention": ("se",) * 4, "attention_options": {"reduction": 4}},
            "attention_options: expected a tuple with one mapping (or None) for each stage, as "
            "attention is one",
        ),
        ({"attention": 3}, "nonlocal, mhsa, got 3"),
    ],
)
def test_network_config(arguments, message):
    with raises(ValueError, message):
        NetworkConfig(**arguments)


def test_config_json():
    for config in (BLOCK, *(config for config, _ in NETWORKS + ATTENTION_VARIANTS)):
        assert config_from_json(config.to_json()) == config
        assert hash(config_from_json(config.to_json())) == hash(config)
    with raises(ValueError, "x.json: expected JSON, got 'not json'"):
        config_from_json("not json", "x.json")
    with raises(
        ValueError,
        'expected "model", one of ResidualBlockWithAttention, ResidualBottleneckWithAttention',
    ):
        config_from_json("{}")
    for text in ('{"model": ["a"]}', "[]", "3", '{"model": 3}'):
        with raises(ValueError, 'expected an object whose "model" is one of'):
            config_from_json(text)
    with raises(ValueError, "the config: expected JSON"):
        config_from_json("[" * 100_000)
    with raises(ValueError, "BlockConfig: missing out_channels"):
        config_from_json('{"model": "ResidualBlockWithAttention", "in_channels": 3}')
    with raises(ValueError, "BlockConfig: no field 'depth'"):
        config_from_json(json.dumps({**json.loads(BLOCK.to_json()), "depth": 3}))
    with raises(ValueError, "preset: expected one of resnet18, resnet34"):
        preset("resnet19")
    with raises(
        TypeError, "config: expected a BlockConfig, a BottleneckConfig or a NetworkConfig, got"
    ):
        schema({})


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "se",
            {"reduction": 16},
            "reduction: 16 leaves no hidden channel of 6; use at most 6, or give hidden_channels",
        ),
        ("se", {"gate": "tanh"}, "gate: expected one of sigmoid, hard_sigmoid, got 'tanh'"),
        ("se", {"divisor": 0}, "divisor: expected a positive integer, got 0"),
        ("se", {"minimum": 0}, "minimum: expected a positive integer, got 0"),
        ("ese", {"gate": None}, "gate: expected one of sigmoid, hard_sigmoid, got None"),
        (
            "eca",
            {"kernel_size": 4},
            "kernel_size: expected an odd size, got 4: an even kernel has no centre",
        ),
        ("eca", {"kernel_size": 4}, "use 3 or 5"),
        ("eca", {"gamma": 0}, "gamma: expected a positive number, got 0"),
        ("eca", {"beta": "1"}, "beta: expected a finite number, got '1'"),
        ("eca", {"padding": "same"}, "padding: expected one of zero, circular, got 'same'"),
        (
            "eca",
            {"padding": "circular", "kernel_size": 15},
            "15 reaches more than once around 6 channels",
        ),
        ("cbam", {"kernel_size": 2}, "kernel_size: expected an odd size, got 2"),
        ("cbam", {"reduction": 7}, "reduction: 7 leaves no hidden channel of 6"),
        ("cbam", {"bias": 1}, "bias: expected True or False, got 1"),
        ("cbam", {"bn_eps": 0}, "bn_eps: expected a positive number, got 0"),
        ("bam", {"dilation": 0}, "dilation: expected a positive integer, got 0"),
        ("bam", {"fusion": "max"}, "fusion: expected one of sum, product, got 'max'"),
        ("bam", {"bn_decay": 1.5}, "bn_decay: expected a number from 0 to 1, got 1.5"),
        ("scse", {"fusion": "product"}, "fusion: expected one of sum, maximum, got 'product'"),
        ("scse", {"hidden_channels": 0}, "hidden_channels: expected a positive integer, got 0"),
        ("ge", {"gather": "max"}, "gather: expected one of average, convolution, got 'max'"),
        ("ge", {"extent": 1}, "extent: expected an integer of at least 2, got 1"),
        (
            "ge",
            {"gather": "convolution", "extent": 6},
            "extent: expected a power of 2 (or None: everywhere)",
        ),
        ("ge", {"gather": "convolution"}, "over the whole of it (extent None); must be given"),
        ("ge", {"size": 4}, "over the whole of it (extent None); is for that alone"),
        (
            "ge",
            {"gather": "convolution", "size": (4, 0)},
            "size: expected a positive integer or a (height, width) pair",
        ),
        (
            "ge",
            {"reduction": 2},
            "reduction, hidden_channels: set the width of the two layers that only mlp=True has",
        ),
        ("ge", {"mlp": True, "reduction": 8}, "reduction: 8 leaves no hidden channel of 6"),
        (
            "gc",
            {"reduction": 4},
            "reduction: 4 leaves 1 hidden channel of 6, and this kind needs at least 2; use at "
            "most 3",
        ),
        ("gc", {"hidden_channels": 1}, "hidden_channels: expected an integer of at least 2, got 1"),
        ("gc", {"pooling": "max"}, "pooling: expected one of attention, average, got 'max'"),
        ("gc", {"fusion": "sum"}, "fusion: expected one of add, scale, both, got 'sum'"),
        ("gc", {"ln_eps": -1}, "ln_eps: expected a positive number, got -1"),
        ("simam", {"e_lambda": 0}, "e_lambda: expected a positive number, got 0"),
        ("coordinate", {"minimum": 0}, "minimum: expected a positive integer, got 0"),
        ("triplet", {"kernel_size": 6}, "kernel_size: expected an odd size, got 6"),
        ("triplet", {"spatial": None}, "spatial: expected True or False, got None"),
        ("nonlocal", {"subsample": 2}, "subsample: expected True or False, got 2"),
        ("nonlocal", {"reduction": 7}, "reduction: 7 leaves no hidden channel of 6"),
        ("mhsa", {"size": 4}, "heads: 4 does not divide 6 channels; one of 1, 2, 3, 6 would"),
        ("mhsa", {"size": 4, "heads": 0}, "heads: expected a positive integer, got 0"),
        (
            "mhsa",
            {"size": "4x4", "heads": 2},
            "size: expected a positive integer or a (height, width) pair",
        ),
        (
            "mhsa",
            {"heads": 2},
            "attention_options: 'mhsa' needs size; as in attention_options={'size': ...}",
        ),
    ],
)
def test_attention_options(framework, kind, options, message):
    """The same error from a config and from a module made directly."""
    with raises(ValueError, message):
        BlockConfig(3, 6, attention=kind, attention_options=options)
    if "size" in options or kind != "mhsa":
        with raises(ValueError, message):
            implementation(framework).ATTENTION[kind](6, **options, **native_arguments(framework))


@pytest.mark.parametrize(
    ("kind", "options", "size", "message"),
    [
        (
            "mhsa",
            {"size": (4, 3), "heads": 2},
            (8, 8),
            "mhsa: was made for maps of 4 x 3 (height x width) by its option size",
        ),
        (
            "ge",
            {"gather": "convolution", "size": (4, 3)},
            (8, 8),
            "ge: was made for maps of 4 x 3 (height x width)",
        ),
        (
            "simam",
            {},
            (2, 2),
            "simam: expected maps of 2 or more positions, got 1 x 1 (height x width)",
        ),
        (
            "nonlocal",
            {"subsample": True},
            (2, 4),
            "nonlocal with subsample: expected 2 or more along each axis, got 1 x 2",
        ),
        ("bam", {}, (1, 1), "batch norm in training: expected more than one value per channel"),
    ],
    ids=str,
)
def test_maps_that_an_attention_module_cannot_use(framework, kind, options, size, message):
    config = BlockConfig(3, 6, 3, 2, attention=kind, attention_options=options)
    model = build(config, random_arrays(config), framework)
    with raises(ValueError, message):
        adapter(framework).forward(model, np.ones((1, 3, *size), "f"), training=kind == "bam")


def broken(**changes):
    """Arrays with a fault of every kind."""
    arrays = random_arrays(BLOCK)
    kernel = arrays["conv1.weight"]
    del arrays["bn1.running_var"]
    return {
        **arrays,
        "conv1.weight": kernel.transpose(2, 3, 1, 0),
        "extra": np.zeros(2, "f"),
        "bn2.bias": [0.0] * 5,
        **changes,
    }


FAULTS = (
    "bn1.running_var: missing, expected (5,) (channel)",
    "bn2.bias: expected a NumPy array, got builtins.list",
    "conv1.weight: expected (5, 3, 3, 3) (out in row col), got (3, 3, 3, 5)",
    "extra: unexpected",
)


def test_load_reports_every_fault_and_changes_nothing(framework):
    model = build(BLOCK, random_arrays(BLOCK), framework)
    before = export(model)
    with pytest.raises(WeightsError) as caught:
        load(model, broken())
    assert caught.value.faults == FAULTS
    assert "(4 faults)" in str(caught.value)
    assert all((after == before[name]).all() for name, after in export(model).items())


def test_a_failure_while_loading_changes_nothing(framework, monkeypatch):
    """Whatever goes wrong in the framework itself, after all checks."""
    model = build(BLOCK, random_arrays(BLOCK), framework)
    before = export(model)
    module, calls = adapter(framework), []
    assign = module.assign

    def fail_once(leaves, arrays):
        calls.append(leaves)
        if len(calls) > 1:
            assign(leaves, arrays)
            return
        assign(leaves[:15], arrays[:15])
        raise RuntimeError("out of memory")

    monkeypatch.setattr(module, "assign", fail_once)
    with pytest.raises(RuntimeError, match="out of memory"):
        load(model, random_arrays(BLOCK, seed=1))
    assert all((after == before[name]).all() for name, after in export(model).items())


def test_modes_are_left_as_they_were(torch, jax):
    from resattn.checking.draws import random_input

    for name, part in (
        ("torch", lambda model: model.bn1.training),
        ("jax", lambda model: not model.bn1.use_running_average),
    ):
        model = build(BLOCK, random_arrays(BLOCK), name)
        adapter(name).set_training(model, True)
        model.bn1.eval()
        adapter(name).forward(model, random_input(BLOCK, (6, 5), 2, "float32"), training=True)
        assert not part(model)
        with pytest.raises(ValueError, match="input: expected"):
            adapter(name).forward(model, np.zeros((2, 9, 4, 4), "f"), training=False)
        assert adapter(name).is_training(model)


def test_other_dtypes_are_not_exported(torch):
    model = build(BLOCK, random_arrays(BLOCK), "torch").to(torch.float8_e4m3fn)
    dtypes = "bfloat16, float16, float32, float64"
    with raises(
        WeightsError, f"cannot export a PyTorch model with parameters in other dtypes than {dtypes}"
    ):
        export(model)


def test_a_derived_class_is_not_ported(torch):
    from pytorch_impl import ResidualBlockWithAttention

    class Doubled(ResidualBlockWithAttention):
        def forward(self, x):
            return 2 * super().forward(x)

    with raises(TypeError, "Doubled is derived from our class and may compute something else"):
        port(Doubled(3, 4), "jax")
    assert len(export(Doubled(3, 4))) == 22


def test_a_kernel_in_another_order_is_recognised():
    arrays = random_arrays(config := BlockConfig(3, 5, (1, 7), attention="none"))
    arrays["conv1.weight"] = arrays["conv1.weight"].transpose(2, 3, 1, 0)
    with raises(WeightsError, "got (1, 7, 3, 5), which would fit as row col in out"):
        write("unwritten.npz", config, arrays)


def test_load_wants_the_dtype_of_the_model(framework):
    model = build(BLOCK, random_arrays(BLOCK), framework)
    with raises(WeightsError, "conv1.weight: expected float32, got float16"):
        load(model, {name: array.astype("float16") for name, array in random_arrays(BLOCK).items()})


def test_integers_are_not_weights():
    with raises(
        WeightsError, "conv1.bias: expected one of bfloat16, float16, float32, float64, got int64"
    ):
        write("unwritten.npz", BLOCK, {**random_arrays(BLOCK), "conv1.bias": np.arange(5)})


def test_float64_without_x64(jax):
    import jax.numpy as jnp
    from flax import nnx

    from jax_impl import ResidualBlockWithAttention

    with raises(ValueError, "jax.config.update('jax_enable_x64', True)"):
        ResidualBlockWithAttention(3, 5, dtype=jnp.float64, rngs=nnx.Rngs(0))
    with raises(ValueError, "jax.config.update('jax_enable_x64', True)"):
        build(BLOCK, random_arrays(BLOCK, "float64"), "jax")
    model = build(BLOCK, random_arrays(BLOCK), "jax")
    with raises(WeightsError, "cannot load float64 arrays: JAX computes in 32 bits by default"):
        load(model, random_arrays(BLOCK, "float64"))


def test_other_objects_are_not_models():
    for call in (
        export,
        lambda it: load(it, {}),
        lambda it: save("unwritten.npz", it),
        lambda it: port(it, "jax"),
    ):
        with raises(
            TypeError, "expected a ResidualBlockWithAttention or a ResidualAttentionNetwork"
        ):
            call(object())


def test_a_block_whose_part_was_replaced(torch):
    from pytorch_impl import ResidualBlockWithAttention

    model = ResidualBlockWithAttention.from_config(BLOCK)
    model.attention = torch.nn.Conv2d(5, 5, 1)
    with pytest.raises(WeightsError, match="was a part of it replaced") as caught:
        export(model)
    assert "attention.weight: unexpected" in caught.value.faults
    assert "attention.fc1.weight: missing" in caught.value.faults


def test_frameworks_that_do_not_exist_or_are_not_installed(monkeypatch, torch):
    from pytorch_impl import ResidualBlockWithAttention

    model = ResidualBlockWithAttention(3, 4)
    with raises(ValueError, "framework: expected one of torch, jax, tf, got 'mxnet'"):
        port(model, "mxnet")
    for name in [name for name in sys.modules if name.split(".")[0] in ("jax_impl", "flax")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "flax", None)
    with raises(
        MissingFramework, "Flax NNX is not installed (flax was not found): pip install jax flax"
    ):
        port(model, "jax")


def test_inputs_of_another_shape(framework):
    module = adapter(framework)
    model = build(BLOCK, random_arrays(BLOCK), framework)
    with raises(ValueError, "input: expected (batch, "):
        module.forward(model, np.zeros((2, 4, 8, 6), "f"))
    with raises(ValueError, "input: expected (batch, "):
        module.forward(model, np.zeros((2, 3), "f"))


@pytest.mark.parametrize("batch", [0, 1])
def test_one_value_a_channel_cannot_be_normalised(framework, batch):
    model = build(BLOCK, random_arrays(BLOCK), framework)
    before = export(model)
    empty = "input: expected one image or more, of one pixel or more, got batch 0, height 1, width"
    with raises(
        ValueError,
        "batch norm in training: expected more than one value" if batch else empty,
    ):
        adapter(framework).forward(model, np.zeros((batch, 3, 1, 1), "f"), training=True)
    assert all((after == before[name]).all() for name, after in export(model).items())


# Files


def test_writing_bad_arrays_leaves_the_old_file(tmp_path):
    path = tmp_path / "block.safetensors"
    write(path, BLOCK, random_arrays(BLOCK))
    content = path.read_bytes()
    with raises(
        WeightsError, "block.safetensors was not written: the arrays do not fit the config"
    ):
        write(path, BLOCK, broken())
    assert path.read_bytes() == content


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, suffix
):
    path = tmp_path / f"block{suffix}"
    write(path, BLOCK, random_arrays(BLOCK))
    content = path.read_bytes()

    def fail(handle):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write(path, BLOCK, random_arrays(BLOCK, seed=1))
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be(tmp_path):
    with raises(FileNotFoundError, "missing.safetensors: there is no such file"):
        read(tmp_path / "missing.safetensors")
    with raises(FileNotFoundError, "does not exist"):
        write(tmp_path / "no" / "folder.npz", BLOCK, random_arrays(BLOCK))
    with raises(ValueError, "x: cannot write a file without suffix"):
        write("x", BLOCK, random_arrays(BLOCK))


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
def test_broken_files(tmp_path, suffix, torch):
    path = tmp_path / f"block{suffix}"
    write(path, BLOCK, random_arrays(BLOCK))
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"not weights at all"):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"block\.\w+: is not a"):
            read(path)


def test_torch_files_of_something_else(tmp_path, torch):
    torch.save({"conv1.weight": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "quarter.pt")
    with raises(WeightsError, "expected one of bfloat16, float16, float32, float64, got float8_e4"):
        read(tmp_path / "quarter.pt", BLOCK)
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with raises(WeightsError, "list.pt: is not a whole PyTorch file of plain floating point"):
        read(tmp_path / "list.pt", BLOCK)
    torch.save({"state_dict": torch.zeros(2)}, tmp_path / "odd.pt")
    with raises(WeightsError, "odd.pt does not fit its config"):
        read(tmp_path / "odd.pt", BLOCK)


class Malice:
    """Unpickled, it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_in_a_file_is_executed(tmp_path, torch):
    trace = tmp_path / "trace"
    torch.save({"state_dict": {}, "config": Malice(trace)}, tmp_path / "evil.pt")
    np.savez(tmp_path / "evil.npz", evil=np.array([Malice(trace)], dtype=object))
    for name in ("evil.pt", "evil.npz"):
        with pytest.raises(WeightsError, match="evil"):
            read(tmp_path / name, BLOCK)
    assert not trace.exists()


def test_files_that_do_not_say_what_they_are(tmp_path):
    from safetensors.numpy import save_file

    save_file(random_arrays(BLOCK), tmp_path / "bare.safetensors")
    with raises(
        ValueError, "bare.safetensors: holds no config, so it does not say what it is; pass config="
    ):
        read(tmp_path / "bare.safetensors")
    assert read(tmp_path / "bare.safetensors", BLOCK)[0] == BLOCK
    write(tmp_path / "block.safetensors", BLOCK, random_arrays(BLOCK))
    with raises(ValueError, "holds a config of its own that is another than the one given"):
        read(tmp_path / "block.safetensors", BlockConfig(3, 5))
    with raises(WeightsError, "bare.safetensors does not fit its config (5 faults):"):
        read(tmp_path / "bare.safetensors", BlockConfig(3, 5, 5, 2))


# The cross-check and comparisons


def test_crosscheck_inputs(framework):
    def run(**options):
        return crosscheck(BLOCK, frameworks=(framework,), **options)

    with raises(
        ValueError,
        "device 'cuda'" if "cuda" not in adapter(framework).devices() else "device 'tpu'",
    ):
        run(devices=("tpu",) if "cuda" in adapter(framework).devices() else ("cuda",))
    with raises(ValueError, "inputs: expected (batch, 3, height, width), got (2, 8, 6, 3)"):
        run(inputs=np.zeros((2, 8, 6, 3), "f"))
    with raises(ValueError, "inputs: expected finite numbers in float32"):
        run(inputs=np.full((2, 3, 8, 6), np.nan, "f"))
    with raises(ValueError, "dtype: expected one of float32, float64, got 'float16'"):
        run(dtype="float16")
    with raises(ValueError, "framework: expected one of torch, jax, tf, got 'mxnet'"):
        crosscheck(BLOCK, frameworks=("mxnet",))
    with raises(ValueError, "frameworks: expected at least one, got none"):
        crosscheck(BLOCK, frameworks=())
    with raises(ValueError, "devices: expected at least one, got none"):
        run(devices=())
    with raises(ValueError, "inputs: expected a NumPy array of real numbers, got list"):
        run(inputs=[[1]])
    with raises(
        ValueError, "inputs: expected a NumPy array of real numbers, got an array of complex64"
    ):
        run(inputs=np.zeros((2, 3, 8, 6), "complex64"))
    with raises(ValueError, "inputs: expected (batch, 3, height, width), got (0, 3, 8, 6)"):
        run(inputs=np.zeros((0, 3, 8, 6), "f"))
    with raises(ValueError, "inputs: expected finite numbers in float32"):
        run(inputs=np.full((2, 3, 8, 6), 1e300))
    with raises(ValueError, "size: expected a positive integer or a (height, width) pair"):
        run(size=(0, 4))
    with raises(ValueError, "batch: expected a positive integer, got 0"):
        run(batch=0)
    assert crosscheck(BLOCK, frameworks=framework, devices="cpu", size=6, batch=3).ok
    with raises(WeightsError, "the arrays do not fit the config"):
        run(arrays=broken())


def test_comparisons():
    with raises(ValueError, "array: actual has shape (2,), expected (3,)"):
        difference(np.zeros(2), np.zeros(3), tolerance=1)
    with raises(ValueError, "empty arrays"):
        difference(np.zeros(0), np.zeros(0), tolerance=1)


def test_an_empty_batch_in_evaluation(framework):
    """TensorFlow's convolutions fail on one, so that no framework takes it."""
    model = build(BLOCK, random_arrays(BLOCK), framework)
    with raises(
        ValueError,
        "input: expected one image or more, of one pixel or more, got batch 0, height 6, width 5",
    ):
        adapter(framework).forward(model, np.zeros((0, 3, 6, 5), "f"), training=False)


@pytest.mark.parametrize("channels", [0, 2.5, "3", None, True])
def test_channels_of_an_attention_module(torch, channels):
    from pytorch_impl import AttentionModule

    for kind in ("se", "eca", "mhsa", "simam"):
        with raises(ValueError, f"channels: expected a positive integer, got {channels!r}"):
            AttentionModule(channels, kind, {"size": 3} if kind == "mhsa" else None)


def test_maps_that_no_image_gives():
    shared = {"attention": "mhsa", "attention_options": {"size": 14}}
    with raises(
        ValueError,
        "attention_options: no image gives every stage a map of its size: 14 x 14 where maps are "
        "1/1",
    ):
        NetworkConfig(**shared)
    assert NetworkConfig(strides=(1, 1, 1, 1), **shared).input_size == (14, 14)
    last = {
        "attention": ("none", "se", "mhsa"),
        "attention_options": (None, None, {"size": (4, 3)}),
    }
    network = NetworkConfig(3, 5, (8, 8, 8), (1, 1, 1), stem_stride=2, stem_pool=True, **last)
    assert network.input_size == (64, 48)
    assert BlockConfig(
        3, 4, 3, (2, 3), attention="mhsa", attention_options={"size": (4, 3)}
    ).input_size == (8, 9)
    assert BlockConfig(3, 4).input_size is None


def test_the_oracle_refuses_the_same_maps(torch):
    for kind, options, message in (
        ("mhsa", {"size": (4, 3), "heads": 2}, "mhsa: was made for maps of 4 x 3"),
        ("ge", {"size": (4, 3), "gather": "convolution"}, "ge: was made for maps of 4 x 3"),
    ):
        config = BlockConfig(3, 6, attention=kind, attention_options=options)
        with raises(ValueError, message):
            crosscheck(config, frameworks="torch", size=(6, 5))
        assert crosscheck(
            config, frameworks="torch", batch=4
        ).ok  # the size that fits is the default
    with raises(ValueError, "simam: expected maps of 2 or more positions"):
        crosscheck(BlockConfig(3, 6, attention="simam"), frameworks="torch", size=(1, 1))


def test_numpy_options_are_plain_in_files(torch, tmp_path):
    from pytorch_impl import ResidualBlockWithAttention

    options = {
        "gather": "convolution",
        "extent": np.int64(4),
        "bn_eps": np.float64(1e-3),
        "mlp": np.bool_(True),
    }
    block = ResidualBlockWithAttention(3, 5, attention="ge", attention_options=options)
    plain = {"gather": "convolution", "extent": 4, "bn_eps": 1e-3, "mlp": True}
    assert block.config == BlockConfig(3, 5, attention="ge", attention_options=plain)
    assert hash(block.config) == hash(BlockConfig(3, 5, attention="ge", attention_options=plain))
    save(tmp_path / "block.safetensors", block)
    assert read(tmp_path / "block.safetensors")[0] == block.config
    assert BlockConfig(3, 5, attention="eca", attention_options={"beta": np.int64(1)})


def test_numpy_numbers_are_numbers():
    given = BlockConfig(
        np.int64(3),
        np.int32(5),
        3,
        (np.int64(2), 2),
        attention_options={"hidden_channels": np.int64(2)},
    )
    assert given == BLOCK
    assert given.to_json() == BLOCK.to_json()
