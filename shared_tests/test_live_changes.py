"""Live models that are not what their config says: tied parameters, settings changed afterwards."""

import re
from dataclasses import replace
from types import MethodType

import numpy as np
import pytest

from resattn.checking.draws import random_arrays
from weights import BlockConfig, NetworkConfig, port, register_attention, save
from weights.config import BottleneckConfig
from weights.errors import ModelError, WeightsError
from weights.live import LiveModel, adapter, build, check_unchanged, load
from weights.presets import preset

BLOCK = BlockConfig(4, 4, attention="se")
PUBLISHED = replace(
    preset("resnet50"), widths=(8, 16, 24, 32), depths=(1, 1, 2, 1), stem_channels=4,
    attention=("se", "cbam", "ge", "mhsa"), hidden_widths=None, classes=3,
    attention_options=({}, {}, {"extent": 2}, {"size": (2, 3), "heads": 2}),
)  # fmt: skip
VARIANT = NetworkConfig(
    3, 4, widths=(8, 16), depths=(1, 1), stem_channels=(4, 8), stem_pool="max_blur",
    antialias="blur", shortcut="average", norm="group", norm_groups=2, drop_path=0.1, dropout=0.1,
    relu_before_attention=True, projects_first=True,
)  # fmt: skip
CONFIGS = {
    "block": BLOCK,
    "bottleneck": BottleneckConfig(4, 8, stride=2, groups=2, attention="triplet"),
    "published": PUBLISHED,
    "variant": VARIANT,
}


def made(framework, config=BLOCK):
    return build(config, random_arrays(config), framework)


def other(framework):
    return "jax" if framework == "torch" else "torch"


def refuses(model, framework, *lines, tmp_path=None):
    for call in (
        lambda: port(model, other(framework)),
        *(() if tmp_path is None else (lambda: save(tmp_path / "x.safetensors", model),)),
    ):
        with pytest.raises(ModelError) as caught:
            call()
        message = str(caught.value)
        assert message.startswith("the model was changed after it was made")
        for line in lines:
            assert re.search(line, message), message


# Tied parameters


def names(framework):
    return ("weight" if framework == "torch" else "scale" if framework == "jax" else "gamma",) * 2


@pytest.mark.parametrize("config", [BLOCK, NetworkConfig(3, 2, widths=(4,), depths=(1,))])
def test_tied_parameters_are_refused(framework, config):
    model = made(framework, config)
    if isinstance(config, BlockConfig):
        block, prefix = model, ""
    else:
        stage = model.stages
        stage = stage.layers[0] if framework != "torch" else stage[0]
        block = stage.layers[0] if framework != "torch" else stage[0]
        prefix = "stages.0.0."
    leaf, _ = names(framework)
    if framework == "tf":
        block.bn2._self_setattr_tracking = False  # Keras locks what is built
        object.__setattr__(block.bn2, leaf, getattr(block.bn1, leaf))
    else:
        setattr(block.bn2, leaf, getattr(block.bn1, leaf))
    for call in (LiveModel.of, lambda model: load(model, random_arrays(config))):
        with pytest.raises(WeightsError) as caught:
            call(model)
        message = str(caught.value)
        assert "the model has tied parameters" in message
        assert "give each an array of its own" in message
        assert f"{prefix}bn1.weight and {prefix}bn2.weight: are one array" in message


def test_tensors_with_one_storage_are_tied(torch):
    model = made("torch")
    model.bn2.weight.data = model.bn1.weight.data
    with pytest.raises(WeightsError, match=r"bn1\.weight and bn2\.weight: are one array"):
        LiveModel.of(model)
    model = made("torch")
    both = torch.ones(6)
    model.bn1.weight.data, model.bn2.weight.data = both[:4], both[2:]
    with pytest.raises(WeightsError, match=r"bn1\.weight and bn2\.weight: are parts of one array"):
        LiveModel.of(model)


def test_parts_of_one_storage_that_do_not_overlap_are_not_tied(torch):
    """As trainers keep them, that hold all parameters in one buffer."""
    model = made("torch")
    both = torch.ones(8)
    model.bn1.weight.data, model.bn2.weight.data = both[:4], both[4:]
    assert len(LiveModel.of(model).export()) == len(random_arrays(BLOCK))


# Settings changed afterwards


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_models_as_they_were_made_are_accepted(framework, config):
    model = made(framework, config)
    live = LiveModel.of(model)
    check_unchanged(live)
    adapter(framework).set_training(model, True)
    check_unchanged(live)
    size = config.input_size or (9, 8)
    live.forward(np.ones((2, config.in_channels, *size), "float32"), training=True)
    check_unchanged(live)
    check_unchanged(LiveModel.of(adapter(framework).create(config, dtype="float32")))


@pytest.mark.parametrize("compute", ["bfloat16", "float16"])
def test_mixed_precision_is_accepted(framework, compute):
    model = build(BLOCK, random_arrays(BLOCK), framework, compute=compute)
    check_unchanged(LiveModel.of(model))


def test_other_formats_and_frozen_parameters_are_accepted(framework):
    arrays = {name: each.astype("float16") for name, each in random_arrays(BLOCK).items()}
    model = build(BLOCK, arrays, framework)
    if framework == "torch":
        model.requires_grad_(False)
    if framework == "tf":
        model.trainable = False
    model.note = "a user's own attribute"
    check_unchanged(LiveModel.of(model))


SETTINGS = {
    "torch": [
        ("conv1", "stride", (2, 2), r"conv1\.stride: expected \(1, 1\), got \(2, 2\)"),
        ("conv2", "padding", (0, 0), r"conv2\.padding: expected \(1, 1\), got \(0, 0\)"),
        ("conv1", "dilation", (2, 2), r"conv1\.dilation: expected \(1, 1\), got \(2, 2\)"),
        ("bn1", "eps", 1e-3, r"bn1\.eps: expected 1e-05, got 0\.001"),
        ("bn2", "momentum", 0.5, r"bn2\.momentum: expected 0\.1"),
    ],
    "jax": [
        ("conv1", "strides", (2, 2), r"conv1\.strides: expected \(1, 1\), got \(2, 2\)"),
        ("conv2", "padding", "VALID", r"conv2\.padding: expected .*, got VALID"),
        ("conv1", "kernel_dilation", 2, r"conv1\.kernel_dilation: expected .*, got 2"),
        ("bn1", "eps", 1e-3, r"bn1\.eps: expected 1e-05, got 0\.001"),
    ],
    "tf": [
        ("conv1", "strides", (2, 2), r"conv1\.strides: expected \(1, 1\), got \(2, 2\)"),
        ("conv2", "margins", (), r"conv2\.margins: expected \(\(0, 0\).*, got none"),
        ("conv1", "dilation_rate", (2, 2), r"conv1\.dilation_rate: expected \(1, 1\), got"),
        ("bn1", "eps", 1e-3, r"bn1\.eps: expected 1e-05, got 0\.001"),
    ],
}


@pytest.mark.parametrize("number", range(5))
def test_changed_settings_are_refused(framework, number, tmp_path):
    if number >= len(SETTINGS[framework]):
        number = 0
    module, name, value, line = SETTINGS[framework][number]
    model = made(framework)
    setattr(getattr(model, module), name, value)
    refuses(model, framework, line, tmp_path=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (BLOCK, {"attention_options": {"gate": "hard_sigmoid"}}),
        (BLOCK, {"stride": 2, "in_channels": 3}),
        (BLOCK, {"bn_eps": 1e-3}),
        (BLOCK, {"bn_decay": 0.5}),
        (replace(BLOCK, attention="gc"), {"attention_options": {"ln_eps": 1e-3}}),
        (replace(BLOCK, attention="gc"), {"attention_options": {"fusion": "scale"}}),
        (replace(BLOCK, attention="bam"), {"attention_options": {"dilation": 2}}),
        (replace(BLOCK, attention="bam"), {"attention_options": {"fusion": "product"}}),
        (replace(BLOCK, attention="eca"), {"attention_options": {"padding": "circular"}}),
        (replace(BLOCK, attention="nonlocal"), {"attention_options": {"subsample": True}}),
        (replace(BLOCK, attention="nonlocal"), {"attention_options": {"scale": True}}),
        (replace(BLOCK, attention="scse"), {"attention_options": {"fusion": "maximum"}}),
        (replace(BLOCK, attention="ge"), {"attention_options": {"extent": 4}}),
        (replace(BLOCK, attention="simam"), {"attention_options": {"e_lambda": 0.5}}),
        (VARIANT, {"relu_before_attention": False}),
        (VARIANT, {"stem_pool": "max"}),
        (VARIANT, {"antialias": "average"}),
        (VARIANT, {"norm_groups": 4}),
        (VARIANT, {"strides": (1, 1)}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_another_config_is_refused(framework, config, changes):
    model = made(framework, config)
    model.config = replace(config, **changes)
    with pytest.raises((ModelError, WeightsError)):
        port(model, other(framework))


def test_replaced_modules_are_refused(framework):
    model = made(framework, VARIANT)
    inner = model.stages.layers[0].layers[0] if framework != "torch" else model.stages[0][0]
    inner.drop_path = made(framework, VARIANT).dropout
    refuses(model, framework, r"stages\.0\.0\.drop_path: expected .*, got .*Dropout")


def test_hooks_and_replaced_methods_are_refused(torch, tmp_path):
    def double(module, inputs, output):
        return 2 * output

    for register in ("register_forward_hook", "register_forward_pre_hook"):
        model = made("torch")
        handle = getattr(model.conv1, register)(double)
        refuses(model, "torch", r"conv1\.\(hooks\): expected none, got .*double", tmp_path=tmp_path)
        handle.remove()
        check_unchanged(LiveModel.of(model))
    model = made("torch")
    model.bn1.register_full_backward_hook(lambda module, first, last: None)
    refuses(model, "torch", r"bn1\.\(hooks\): expected none")
    model = made("torch")
    model.bn1.forward = MethodType(lambda self, x: x, model.bn1)
    refuses(model, "torch", r"bn1\.\(replaced methods\): expected none, got \('forward',\)")


def test_autocast_around_another_forward_is_refused(torch):
    """Mixed precision replaces `forward`, too, but calls ours."""
    autocast = torch.autocast("cpu", torch.bfloat16)
    model = made("torch")
    model.conv1.forward = autocast(lambda x: x * 0)
    refuses(model, "torch", r"conv1\.\(replaced methods\): expected none, got \('forward',\)")
    model = made("torch")
    model.forward = autocast(lambda x: x * 0)
    refuses(model, "torch", r"\(replaced methods\): expected none, got \('forward',\)")


def test_an_attribute_within_itself(torch):
    model = made("torch")
    model.conv1.mine = {"deep": []}
    model.conv1.mine["deep"].append(model.conv1.mine)
    check_unchanged(LiveModel.of(model))


def test_a_replaced_call_of_keras_is_refused(keras):
    model = made("tf")
    model.bn1.call = lambda x, training=None: x
    refuses(model, "tf", r"bn1\.\(replaced methods\): expected .*, got .*'call'")


def test_compiled_models_are_accepted(torch):
    model = made("torch", VARIANT)
    check_unchanged(LiveModel.of(torch.compile(model, backend="eager")))
    model.stem = torch.compile(model.stem, backend="eager")
    check_unchanged(LiveModel.of(model))


def test_a_kind_of_a_user_may_keep_anything_in_its_module(torch):
    """Its settings are not compared; those of the block around it are."""

    class Half(torch.nn.Module):
        def __init__(self, channels, dtype=None, device=None):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x / 2

    register_attention("half of live changes", torch=Half)
    model = made("torch", BlockConfig(3, 4, attention="half of live changes"))
    LiveModel.of(model).forward(np.ones((1, 3, 4, 5), "float32"))
    assert model.attention.calls == 1
    check_unchanged(LiveModel.of(model))
    model.conv1.padding = (0, 0)
    with pytest.raises(ModelError, match=r"conv1\.padding: expected \(1, 1\), got \(0, 0\)"):
        check_unchanged(LiveModel.of(model))


def test_the_comparison_draws_no_random_numbers(torch):
    model = made("torch", replace(BLOCK, bn_eps=0.125))
    before = torch.random.get_rng_state()
    check_unchanged(LiveModel.of(model))
    assert (torch.random.get_rng_state() == before).all()


def test_a_model_of_many_changes_shows_ten(framework):
    model = made(framework, PUBLISHED)
    model.config = replace(PUBLISHED, bn_eps=0.25)
    refuses(model, framework, r"bn1\.eps: expected 0\.25, got", r"and \d+ more$")
