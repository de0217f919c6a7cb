"""Each implementation does what people of its framework expect."""

import functools

import numpy as np
import pytest

from resattn.checking.backends import Backend, implementation, native_arguments
from resattn.checking.cases import attention_block
from resattn.checking.draws import random_arrays, random_input
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, name_of
from weights import BlockConfig, NetworkConfig, export
from weights.attention import attention_parameters
from weights.live import LiveModel, adapter, build

BLOCK = BlockConfig(3, 5, 3, 2, attention_options={"hidden_channels": 2})
NETWORK = NetworkConfig(3, 4, (4, 6), (1, 1), attention_options={"reduction": 2})
MAXIMA = attention_block("triplet", {"spatial": False, "kernel_size": 3})
CONFIGS = pytest.mark.parametrize("config", [BLOCK, NETWORK], ids=["block", "network"])


def images(config, batch=2, size=(9, 8)):
    return random_input(config, size, batch, "float32")


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_the_same_start(framework):
    """Convolutions start normal with variance 2 / fan out, biases at 0, batch norms as the identity
    (He et al. 2015).
    """
    config = BlockConfig(24, 48, 5, 2)
    arrays = export(fresh(framework, config))
    kernel = arrays["conv2.weight"]
    assert kernel.std() == pytest.approx((2 / (48 * 25)) ** 0.5, rel=0.03)
    assert abs(kernel.mean()) < 0.03 * kernel.std()
    assert np.abs(kernel).max() > 3 * kernel.std()  # not cut off
    assert (arrays["conv1.bias"] == 0).all()
    assert (arrays["bn1.weight"] == 1).all()
    assert (arrays["bn1.running_var"] == 1).all()
    assert (arrays["bn2.bias"] == 0).all()


def test_members(framework):
    model = build(BLOCK, random_arrays(BLOCK), framework)
    for member in ("conv1", "bn1", "conv2", "bn2", "attention", "shortcut"):
        assert hasattr(model, member)
    assert model.config == BLOCK


def test_attention_alone(framework):
    package, options = implementation(framework), native_arguments(framework)
    x = np.ones((2, 32, 4, 5) if framework == "torch" else (2, 4, 5, 32), "float32")
    if framework == "torch":
        import torch

        x = torch.tensor(x)
    for kind in package.ATTENTION:
        module = package.AttentionModule(
            32, kind, {"size": (4, 5)} if kind == "mhsa" else None, **options
        )
        if framework == "jax":
            import jax

            module.eval()
            module = functools.partial(jax.eval_shape, module)  # faster than running it
        assert module(x).shape == x.shape
    assert type(package.AttentionModule(32, **options)) is package.SqueezeExcite
    assert package.AttentionModule(32, "se", {"reduction": 4}, **options).fc1 is not None
    with pytest.raises(ValueError, match=r"attention: expected one of none, se, .*, got 'sse'"):
        package.AttentionModule(32, "sse", **options)


# PyTorch


def test_torch_train_and_eval(torch):
    model = build(BLOCK, random_arrays(BLOCK), "torch")
    x = torch.tensor(images(BLOCK))
    before = export(model)["bn1.running_mean"]
    model.eval()(x)
    assert (export(model)["bn1.running_mean"] == before).all()
    model.train()(x)
    assert (export(model)["bn1.running_mean"] != before).all()
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.double().eval()(x.double())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("mode", ["aot_eager", "inductor"])
@pytest.mark.parametrize("config", [BLOCK, MAXIMA], ids=["se", "triplet"])
def test_torch_compile(torch, mode, config):
    torch.compiler.reset()
    model = build(config, random_arrays(config), "torch")
    compiled = torch.compile(model, backend=mode, fullgraph=True)
    x = torch.tensor(images(config))
    with torch.no_grad():
        close(compiled(x).numpy(), model(x).numpy())
    slopes = []
    for run in (compiled, model):
        run.zero_grad()
        (run(x) ** 2).sum().backward()
        slopes.append(model.conv1.weight.grad.numpy().copy())
    assert np.abs(slopes[0] - slopes[1]).max() < 1e-5 * np.abs(slopes[1]).max()
    model.train()
    compiled(x).sum().backward()


def test_torch_export(torch):
    model = build(NETWORK, random_arrays(NETWORK), "torch")
    x = torch.tensor(images(NETWORK))
    with torch.no_grad():
        exported = torch.export.export(model, (x,))
        close(exported.module()(x).numpy(), model(x).numpy())


GRAPHS = pytest.mark.parametrize(("config", "size"), [*ATTENTION_VARIANTS, *NETWORKS], ids=name_of)
MODES = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])


def same_in_torch(torch, changed, model, config, size):
    """Both give the same bits, again and again, also for another batch and, where it has one, size
    of image; and the same statistics. TorchScript changes what it runs after the first calls.
    """
    sizes = [(3, size)] * 4 + [(2, size)]
    sizes += [] if any(block.has_fixed_size for block in config.blocks()) else [(3, (12, 15))]
    for batch, size in sizes:
        x = torch.tensor(images(config, batch, size))
        with torch.no_grad():
            assert torch.equal(changed(x), model(x))
    held = dict(model.named_buffers())
    moved = dict(changed.named_buffers())
    assert all(torch.equal(buffer, held[name]) for name, buffer in moved.items())
    assert any("running_mean" in name for name in moved)


@MODES
@GRAPHS
def test_torch_fx(torch, config, size, training):
    """What it traces knows no sizes, so none of them is a number in the graph."""
    traced, model = (
        build(config, random_arrays(config), "torch").train(training) for _ in range(2)
    )
    same_in_torch(torch, torch.fx.symbolic_trace(traced), model, config, size)


@pytest.mark.filterwarnings("ignore:`torch.jit")
@MODES
@GRAPHS
def test_torch_script(torch, config, size, training, tmp_path):
    """No kind needs an exception: each is compiled as it stands, and saved, and loaded."""
    scripted, model = (
        build(config, random_arrays(config), "torch").train(training) for _ in range(2)
    )
    torch.jit.script(scripted).save(tmp_path / "model.pt")
    same_in_torch(torch, torch.jit.load(tmp_path / "model.pt"), model, config, size)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torch_script_and_fx_do_not_check_sizes(torch):
    """They do not know them; a model does."""
    config = attention_block("ge", {"gather": "convolution", "size": (5, 4)})
    model = build(config, random_arrays(config), "torch").eval()
    x = torch.tensor(images(config, size=(12, 10)))
    with pytest.raises(ValueError, match="was made for maps of 5 x 4"):
        model(x)
    for changed in (torch.fx.symbolic_trace(model), torch.jit.script(model)):
        assert changed(x).shape == (2, 6, 6, 5)


# Flax


@CONFIGS
def test_nnx_jit_and_jax_jit(jax, config):
    from flax import nnx

    model = build(config, random_arrays(config), "jax")
    x = np.moveaxis(images(config), 1, -1)
    expected = np.asarray(model(x))
    close(np.asarray(nnx.jit(lambda model, x: model(x))(model, x)), expected)
    graph, state = nnx.split(model)
    close(np.asarray(jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, x)), expected)


def test_nnx_jit_moves_the_statistics(jax):
    from flax import nnx

    model = build(BLOCK, random_arrays(BLOCK), "jax")
    eager = build(BLOCK, random_arrays(BLOCK), "jax")
    x = np.moveaxis(images(BLOCK), 1, -1)
    model.train()
    eager.train()
    nnx.jit(lambda model, x: model(x))(model, x)
    eager(x)
    assert (export(model)["bn1.running_var"] != random_arrays(BLOCK)["bn1.running_var"]).all()
    close(export(model)["bn1.running_var"], export(eager)["bn1.running_var"])


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@CONFIGS
def test_nnx_grad(jax, config, training):
    from flax import nnx

    model = build(config, random_arrays(config), "jax")
    adapter("jax").set_training(model, training)
    x = np.moveaxis(images(config), 1, -1)
    gradient = nnx.grad(lambda model: (model(x) ** 2).sum())(model)
    jitted = nnx.jit(nnx.grad(lambda model, x: (model(x) ** 2).sum()))(model, x)
    names = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(gradient)}
    assert names == {".".join(map(str, path)) for path, _ in nnx.to_flat_state(jitted)}
    assert names == {
        name
        for name, leaf in adapter("jax").variables(model).items()
        if isinstance(leaf, nnx.Param)
    }


def test_nnx_train_and_eval(jax):
    model = build(BLOCK, random_arrays(BLOCK), "jax")
    x = np.moveaxis(images(BLOCK), 1, -1)
    before = export(model)["bn1.running_mean"]
    model(x)
    assert (export(model)["bn1.running_mean"] == before).all()
    model.train()
    assert not model.shortcut.layers[1].use_running_average
    model(x)
    assert (export(model)["bn1.running_mean"] != before).all()


def test_optax_step(jax):
    """A training step as Flax users write it."""
    import optax
    from flax import nnx

    model = build(NETWORK, random_arrays(NETWORK), "jax")
    model.train()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    x = np.moveaxis(images(NETWORK), 1, -1)

    @nnx.jit
    def step(model, optimizer, x):
        loss, gradient = nnx.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
        optimizer.update(model, gradient)
        return loss

    first, second = step(model, optimizer, x), step(model, optimizer, x)
    assert second < first


# Keras


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@CONFIGS
def test_tf_function(keras, config, jit):
    tensorflow = _tensorflow(keras)
    model = build(config, random_arrays(config), "tf")
    x = tensorflow.constant(np.moveaxis(images(config), 1, -1))
    expected = model(x).numpy()
    compiled = tensorflow.function(
        lambda x, training: model(x, training=training), jit_compile=jit, autograph=False
    )
    close(compiled(x, False).numpy(), expected)
    before = export(model)
    compiled(x, True)
    after = export(model)
    assert all((after[name] != before[name]).all() for name in before if "running_mean" in name)


def test_tf_function_of_unknown_shape(keras):
    """The number of values is then a tensor; the statistics must be the same."""
    tensorflow = _tensorflow(keras)
    model = build(BLOCK, random_arrays(BLOCK), "tf")
    eager = build(BLOCK, random_arrays(BLOCK), "tf")
    x = tensorflow.constant(np.moveaxis(images(BLOCK), 1, -1))
    shape = tensorflow.TensorSpec((None, None, None, 3), tensorflow.float32)
    compiled = tensorflow.function(
        lambda x: model(x, training=True), input_signature=[shape], autograph=False
    )
    close(compiled(x).numpy(), eager(x, training=True).numpy())
    for name, array in export(eager).items():
        close(export(model)[name], array)


@CONFIGS
def test_a_functional_model_of_unknown_size(keras, tmp_path, config):
    model = build(config, random_arrays(config), "tf")
    inputs = keras.Input((None, None, 3))
    functional = keras.Model(inputs, model(inputs))
    for size in ((9, 8), (16, 12)):
        x = np.moveaxis(images(config, size=size), 1, -1)
        close(keras.ops.convert_to_numpy(functional(x)), keras.ops.convert_to_numpy(model(x)))
    functional.save(tmp_path / "functional.keras")
    again = keras.models.load_model(tmp_path / "functional.keras")
    close(keras.ops.convert_to_numpy(again(x)), keras.ops.convert_to_numpy(functional(x)))
    close(again.predict(x, verbose=0), functional.predict(x, verbose=0))


def test_symbolic_shapes(keras):
    import tf_impl

    block = tf_impl.ResidualBlockWithAttention(3, 5, 3, 2)
    assert block(keras.Input((None, None, 3))).shape == (None, None, None, 5)
    assert block(keras.Input((9, 8, 3))).shape == (None, 5, 4, 5)


@CONFIGS
def test_config_round_trip(keras, config):
    model = build(config, random_arrays(config), "tf")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert type(again) is type(model)
    assert again.config == config
    assert again.dtype == model.dtype


def test_fit(keras):
    """Keras' own training loop: compile, fit, predict, with the statistics moving."""
    keras.utils.set_random_seed(0)
    model = build(NETWORK, random_arrays(NETWORK), "tf")
    model.compile(
        keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    x, labels = np.moveaxis(images(NETWORK, batch=12), 1, -1), np.arange(12, dtype="int32") % 4
    before = export(model)["stem.bn.running_mean"]
    losses = model.fit(x, labels, epochs=4, batch_size=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert (export(model)["stem.bn.running_mean"] != before).all()


def test_a_frozen_batch_norm_infers(keras):
    """As in Keras' own: trainable = False means inference mode too."""
    model = build(BLOCK, random_arrays(BLOCK), "tf")
    model.trainable = False
    x = np.moveaxis(images(BLOCK), 1, -1)
    frozen = keras.ops.convert_to_numpy(model(x, training=True))
    assert (frozen == keras.ops.convert_to_numpy(model(x, training=False))).all()


def test_a_frozen_model_stays_frozen_in_a_file(keras, tmp_path):
    model = build(NETWORK, random_arrays(NETWORK), "tf")
    model.trainable = False
    model.save(tmp_path / "frozen.keras")
    again = keras.models.load_model(tmp_path / "frozen.keras")
    assert not again.trainable_variables
    x = np.moveaxis(images(NETWORK), 1, -1)
    outputs = [
        keras.ops.convert_to_numpy(again(x, training=training)) for training in (False, True)
    ]
    assert (outputs[0] == outputs[1]).all()


def test_every_public_layer_saves_and_loads(keras, tmp_path):
    import tf_impl

    layers = [
        tf_impl.BatchNorm(3, 1e-3, 0.8),
        tf_impl.SqueezeExcite(3, hidden_channels=2),
        tf_impl.Identity(3),
        tf_impl.ResidualBlockWithAttention(3, 5, 3, 2),
    ]
    inputs = y = keras.Input((6, 5, 3))
    for layer in layers:
        y = layer(y)
    model = keras.Model(inputs, y)
    model.save(tmp_path / "layers.keras")
    again = keras.models.load_model(tmp_path / "layers.keras")
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype("float32")
    assert (keras.ops.convert_to_numpy(again(x)) == keras.ops.convert_to_numpy(model(x))).all()
    assert (again.layers[1].eps, again.layers[1].decay) == (1e-3, 0.8)


SIZED = pytest.mark.parametrize("config", [config for config, _ in ATTENTION_VARIANTS], ids=name_of)


@SIZED
def test_every_attention_kind_saves_and_loads(keras, tmp_path, config):
    model = build(config, random_arrays(config), "tf")
    known = "size" in config.attention_options
    inputs = keras.Input((9, 8, 4) if known else (None, None, 4))
    functional = keras.Model(inputs, model(inputs))
    x = np.moveaxis(images(config), 1, -1)
    close(keras.ops.convert_to_numpy(functional(x)), keras.ops.convert_to_numpy(model(x)))
    functional.save(tmp_path / "functional.keras")
    again = keras.models.load_model(tmp_path / "functional.keras")
    assert again.layers[-1].config == config
    assert (keras.ops.convert_to_numpy(again(x)) == keras.ops.convert_to_numpy(functional(x))).all()


@SIZED
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_every_attention_module_alone_saves_and_loads(keras, tmp_path, config, policy):
    """With every option, frozen or not, and whatever computes in bfloat16."""
    import tf_impl

    for trainable in (True, False):
        options = {"dtype": policy, "trainable": trainable}
        module = tf_impl.AttentionModule(6, config.attention, config.attention_options, **options)
        inputs = keras.Input((5, 4, 6))
        model = keras.Model(inputs, module(inputs))
        model.save(tmp_path / "module.keras")
        again = keras.models.load_model(tmp_path / "module.keras")
        held, given = (layer.get_config() for layer in (again.layers[-1], module))
        assert {
            name: tuple(value) if isinstance(value, list) else value for name, value in held.items()
        } == given
        x = np.random.default_rng(0).normal(size=(3, 5, 4, 6)).astype("float32")
        outputs = [
            keras.ops.convert_to_numpy(keras.ops.cast(made(x, training=True), "float32"))
            for made in (again, model)
        ]
        assert (outputs[0] == outputs[1]).all()
        assert bool(module.trainable_variables) == (
            trainable and any(p.trainable for p in _attention(config))
        )
        assert bool(again.trainable_variables) == bool(module.trainable_variables)


def _attention(config):
    return attention_parameters(config.attention, 6, config.attention_options)


def test_the_same_start_of_attention_modules(framework):
    """Depthwise and 1-d kernels, position tables and the batch norm of nonlocal; a bias or an
    offset starts at 0.
    """
    starts = [
        ("ge", {"gather": "convolution", "extent": 2}, 512, "gather.conv1.weight", (2 / 9) ** 0.5),
        ("eca", {"kernel_size": 1001}, 2000, "conv.weight", (2 / 1001) ** 0.5),
        ("mhsa", {"size": 32, "heads": 1}, 64, "pos_embed.height_rel", 64**-0.5),
        ("mhsa", {"size": 32, "heads": 1}, 64, "pos_embed.width_rel", 64**-0.5),
        ("nonlocal", {}, 8, "bn.weight", 0),
        ("gc", {}, 64, "norm.bias", 0),
    ]
    for kind, options, channels, name, deviation in starts:
        arrays = export(
            fresh(framework, BlockConfig(1, channels, 1, attention=kind, attention_options=options))
        )
        array = next(array for full, array in arrays.items() if full.endswith(name))
        assert array.std() == pytest.approx(deviation, rel=0.1), (kind, name)
        assert abs(array.mean()) <= 0.1 * deviation
    weights = export(fresh(framework, BlockConfig(1, 64, 1, attention="gc")))
    assert (weights["attention.mlp_add.norm.weight"] == 1).all()


def fresh(framework, config):
    """A block with its initial values."""
    if framework == "torch":
        __import__("torch").manual_seed(0)
    elif framework == "tf":
        __import__("keras").utils.set_random_seed(0)
    return implementation(framework).ResidualBlockWithAttention.from_config(
        config, **native_arguments(framework)
    )


def test_torch_resets_to_the_start(torch):
    from pytorch_impl import ResidualBlockWithAttention

    for kind, options in (("nonlocal", {}), ("gc", {}), ("mhsa", {"size": 4, "heads": 1})):
        with torch.device("meta"):
            model = ResidualBlockWithAttention(3, 8, attention=kind, attention_options=options)
        model.to_empty(device="cpu")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(float("nan"))
        model.apply(
            lambda module: (
                module.reset_parameters() if hasattr(module, "reset_parameters") else None
            )
        )
        assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
        assert kind != "nonlocal" or (model.attention.bn.weight == 0).all()


@SIZED
def test_every_attention_kind_in_a_graph_of_unknown_shape(keras, config):
    tensorflow = _tensorflow(keras)
    model, eager = (build(config, random_arrays(config), "tf") for _ in range(2))
    x = tensorflow.constant(np.moveaxis(images(config, batch=4), 1, -1))
    shape = tensorflow.TensorSpec((None, None, None, 4), tensorflow.float32)
    compiled = tensorflow.function(
        lambda x: model(x, training=True), input_signature=[shape], autograph=False
    )
    close(compiled(x).numpy(), eager(x, training=True).numpy())
    for name, array in export(eager).items():
        close(export(model)[name], array)


def test_summary(keras, capsys):
    build(NETWORK, random_arrays(NETWORK), "tf").summary()
    assert "stem" in capsys.readouterr().out


def _tensorflow(keras):
    if keras.backend.backend() != "tensorflow":
        pytest.skip(f"Keras runs on {keras.backend.backend()} here")
    import tensorflow

    return tensorflow


# Devices


def test_cuda_is_used_where_it_is_seen(framework):
    """The other tests run on CUDA too wherever a framework sees it; here it says so where it does
    not.
    """
    if "cuda" not in adapter(framework).devices():
        pytest.skip(f"{framework} sees no CUDA device")
    backend = Backend(framework, "cuda")
    model = backend.build(BLOCK, random_arrays(BLOCK))
    assert LiveModel.of(model).forward(images(BLOCK), training=False).shape == (2, 5, 5, 4)


def test_precise_switches_back(framework):
    """TF32 is off within `precise`, and as before behind it."""
    module = adapter(framework)

    def setting():
        if framework == "torch":
            import torch

            return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        if framework == "jax":
            import jax

            return jax.config.jax_default_matmul_precision, jax.config.jax_enable_x64
        import keras

        if keras.backend.backend() != "tensorflow":
            pytest.skip(f"Keras runs on {keras.backend.backend()} here")
        import tensorflow

        return tensorflow.config.experimental.tensor_float_32_execution_enabled()

    before = setting()
    with module.precise("float64"):
        within = setting()
    assert setting() == before
    assert within == {"torch": (False, False), "jax": ("highest", True), "tf": False}[framework]
    assert within != before
