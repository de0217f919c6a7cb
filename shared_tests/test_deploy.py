"""deploy(): the same output as the oracle's, in float64 and float32, and the model as it was."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from typer.testing import CliRunner

from resattn.checking.backends import Backend, implementation, precise
from resattn.checking.cases import KINDS_AND_OPTIONS, attention_block
from resattn.checking.crosscheck import judge_output
from resattn.checking.draws import random_arrays
from resattn.checking.problem import draw_problem
from resattn.cli.app import app
from shared_tests.published_cases import PUBLISHED
from shared_tests.test_own_kinds import block as own_block
from shared_tests.test_own_kinds import register_gain
from weights import (
    BlockConfig,
    BottleneckConfig,
    NetworkConfig,
    attach,
    export,
    fold,
    load,
    preset,
    read,
    save,
    schema,
    write,
)
from weights.config_json import config_from_json
from weights.errors import ArgumentError, ModelError, WeightsError
from weights.fold import fold_model, folded_config
from weights.live import part

UNFOLDED = {
    kind: [each for each in choices if not each.get("folded")][-1]
    for kind, choices in KINDS_AND_OPTIONS.items()
}
OPTIONS = [
    pytest.param(attention_block(kind, options), id=f"{kind} {number}")
    for kind, choices in KINDS_AND_OPTIONS.items()
    for number, options in enumerate(choices)
]
KINDS = [
    pytest.param(attention_block(kind, options), id=kind) for kind, options in UNFOLDED.items()
]
CBAM = BlockConfig(4, 6, 3, (2, 1), attention="cbam", conv_bias=False)


def to_images(backend, x):
    """Canonical images as a user has them."""
    native = part(backend.framework, "bridge.native")
    if backend.framework == "torch":
        return native.from_numpy(x).to(backend.device)
    x = np.moveaxis(x, 1, -1)
    if backend.framework == "tf":
        return native.ops.convert_to_tensor(x)
    return import_module("jax").numpy.asarray(x)


def deployed_output(backend, function, x):
    native = part(backend.framework, "bridge.native")
    return native.to_canonical(function(to_images(backend, x)))


def build(backend, config, dtype="float32"):
    problem = draw_problem(config, random_arrays(config, dtype), (9, 8), 2, dtype)
    return problem, backend.build(config, problem.arrays)


def check_deployed(backend, config, size, dtype):
    problem = draw_problem(config, random_arrays(config, dtype), size, 2, dtype)
    with precise((backend.framework,), dtype):
        model = backend.build(config, problem.arrays)
        function = implementation(backend.framework).deploy(model)
        output = deployed_output(backend, function, problem.x)
    assert output.dtype == dtype
    row = judge_output(problem, output, backend.name)
    assert row.ok, row


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("config", KINDS)
def test_every_kind(backend, config, dtype, monkeypatch):
    """In PyTorch uncompiled, since that compiles for ten seconds; see `test_all_kinds_compiled`."""
    if backend.framework == "torch":
        module = import_module("pytorch_impl.deploy")
        monkeypatch.setattr(module, "_can_compile", lambda model: False)
    check_deployed(backend, config, (9, 8), dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_all_kinds_compiled(torch, dtype):
    """A network with a stage of each kind."""
    options = {kind: dict(given) for kind, given in UNFOLDED.items()}
    for each in options.values():
        each |= {"size": (9, 8)} if "size" in each else {}
    config = NetworkConfig(
        in_channels=3, classes=4, widths=(6,) * len(options), depths=(1,) * len(options),
        strides=(1,) * len(options), stem_channels=6, stem_kernel_size=3, stem_stride=1,
        stem_pool=None, attention=tuple(options), attention_options=tuple(options.values()),
    )  # fmt: skip
    check_deployed(Backend("torch", "cpu"), config, (9, 8), dtype)


@pytest.mark.parametrize("config", OPTIONS)
def test_every_option_folded(backend, config):
    with precise((backend.framework,), "float64"):
        problem, model = build(backend, config, "float64")
        output = backend.adapter.forward(fold_model(model), problem.x)
    row = judge_output(problem, output, backend.name)
    assert row.ok, row


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_folded(backend, name):
    config, size = PUBLISHED[name]
    problem = draw_problem(config, random_arrays(config, "float64"), size, 2, "float64")
    with precise((backend.framework,), "float64"):
        folded = fold_model(backend.build(config, problem.arrays))
        output = backend.adapter.forward(folded, problem.x)
    row = judge_output(problem, output, backend.name)
    assert row.ok, row
    assert not any("running" in name for name in export(folded))


def test_model_stays_as_it_is(backend):
    problem, model = build(backend, CBAM)
    before, config = export(model), model.config
    backend.adapter.set_training(model, True)
    function = implementation(backend.framework).deploy(model)
    output = deployed_output(backend, function, problem.x)
    assert backend.adapter.is_training(model) or backend.framework == "tf"
    assert model.config == config
    after = export(model)
    assert all((after[name] == array).all() for name, array in before.items())
    load(model, {name: array * 2 for name, array in before.items()})
    assert (deployed_output(backend, function, problem.x) == output).all()


def test_another_size_of_image(backend):
    problem, model = build(backend, CBAM)
    function = implementation(backend.framework).deploy(model)
    deployed_output(backend, function, problem.x)
    x = problem.x[:1, :, :7, :6]
    expected = backend.adapter.forward(model, x)
    np.testing.assert_allclose(deployed_output(backend, function, x), expected, rtol=0, atol=1e-5)


def test_functions_are_compiled_apart(torch):
    """torch.compile has a limit for what shares the code of one function, and beyond it compiles no
    more.
    """
    limits = {"recompile_limit": 1, "fail_on_recompile_limit_hit": True}
    config, backend = BlockConfig(2, 2, 1, attention="none"), Backend("torch", "cpu")
    for seed in range(2):
        arrays = random_arrays(config, "float32", seed)
        problem = draw_problem(config, arrays, (3, 2), 1, "float32")
        function = implementation("torch").deploy(backend.build(config, problem.arrays))
        with import_module("torch._dynamo").config.patch(limits):
            output = deployed_output(backend, function, problem.x)
        row = judge_output(problem, output, backend.name)
        assert row.ok, row


def test_weights_are_constants(torch):
    """oneDNN gets them in its own order, once for each size, also when another size was first."""
    counters = import_module("torch._dynamo").utils.counters
    config, backend = BlockConfig(4, 6, 3, 2, attention="none"), Backend("torch", "cpu")
    for size in ((9, 8), (7, 6)):
        problem = draw_problem(config, random_arrays(config, "float32"), size, 2, "float32")
        function = implementation("torch").deploy(backend.build(config, problem.arrays))
        counters.clear()
        for _ in range(2):
            row = judge_output(problem, deployed_output(backend, function, problem.x), backend.name)
            assert row.ok, row
        assert counters["stats"]["unique_graphs"] == 1
        assert counters["inductor"]["mkldnn_conv_weight_pack_matcher_count"] == 3


def test_changed_model(backend):
    _, model = build(backend, CBAM)
    model.config = replace(model.config, bn_eps=0.5)
    with pytest.raises(ModelError, match="was changed after it was made"):
        implementation(backend.framework).deploy(model)


def test_derived_class(backend):
    """It may compute something else."""
    kind = implementation(backend.framework).ResidualBlockWithAttention
    derived = type("Mine", (kind,), {"__module__": "mine"})
    _, model = build(backend, CBAM)
    model.__class__ = derived
    with pytest.raises(ModelError, match="Mine is derived from our class"):
        implementation(backend.framework).deploy(model)


def test_own_kind(backend):
    register_gain([backend.framework])
    problem, model = build(backend, own_block())
    expected = backend.adapter.forward(model, problem.x)
    found = backend.adapter.forward(fold_model(model), problem.x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_mixed_precision_stays(backend):
    problem = draw_problem(CBAM, random_arrays(CBAM), (9, 8), 2, "float32")
    model = backend.build(CBAM, problem.arrays, "bfloat16")
    expected = backend.adapter.forward(model, problem.x)
    found = backend.adapter.forward(fold_model(model), problem.x)
    assert found.dtype == expected.dtype == "bfloat16"
    difference = abs(found.astype("float32") - expected.astype("float32"))
    assert difference.max() < 0.05 * abs(expected.astype("float32")).max()


def test_several_dtypes(torch):
    _, model = build(Backend("torch", "cpu"), CBAM)
    model.attention.double()
    with pytest.raises(ModelError, match="parameters of several dtypes, float32, float64"):
        implementation("torch").deploy(model)


def test_features_for_a_head(torch, monkeypatch):
    """The output has no gradient, but a layer that is trained on it has."""
    module = import_module("pytorch_impl.deploy")
    monkeypatch.setattr(module, "_can_compile", lambda model: False)
    problem, model = build(Backend("torch", "cpu"), CBAM)
    head = import_module("torch").nn.Conv2d(6, 2, 1)
    function = implementation("torch").deploy(model)
    head(function(to_images(Backend("torch", "cpu"), problem.x))).sum().backward()
    assert head.weight.grad.abs().sum() > 0


def test_wrong_images_first(torch, monkeypatch):
    """An error must not leave a function that compiles its parts one by one."""
    dynamo = import_module("torch._dynamo")
    problem, model = build(Backend("torch", "cpu"), CBAM)
    function = implementation("torch").deploy(model)
    with pytest.raises(ArgumentError, match=r"expected \(batch, 4, height, width\), got"):
        deployed_output(Backend("torch", "cpu"), function, problem.x[:, :2])
    dynamo.utils.counters.clear()
    deployed_output(Backend("torch", "cpu"), function, problem.x)
    assert dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_no_compiler(torch, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    problem, model = build(Backend("torch", "cpu"), CBAM)
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler.*install one"):
        function = implementation("torch").deploy(model)
    row = judge_output(
        problem, deployed_output(Backend("torch", "cpu"), function, problem.x), "torch"
    )
    assert row.ok, row


def test_folded_weights_are_saved_and_ported(backend, tmp_path):
    problem, model = build(backend, CBAM)
    folded = fold_model(model)
    save(tmp_path / "folded.safetensors", folded)
    config, arrays = read(tmp_path / "folded.safetensors")
    assert config == folded_config(CBAM)
    again = backend.build(config, arrays)
    one, other = (backend.adapter.forward(each, problem.x) for each in (folded, again))
    assert (one == other).all()


def test_fold_is_the_formula():
    config = BlockConfig(3, 5, (3, 1), 2, attention="none", conv_bias=False, bn_eps=0.25)
    arrays = random_arrays(config)
    target, folded = fold(config, arrays)
    factor = arrays["bn1.weight"] / np.sqrt(arrays["bn1.running_var"].astype("float64") + 0.25)
    weight = arrays["conv1.weight"] * factor[:, None, None, None]
    bias = arrays["bn1.bias"] - arrays["bn1.running_mean"] * factor
    assert (folded["conv1.weight"] == weight.astype("float32")).all()
    np.testing.assert_allclose(folded["conv1.bias"], bias, rtol=1e-6)
    assert target == BlockConfig(3, 5, (3, 1), 2, attention="none", norm="folded")
    assert list(folded) == [parameter.name for parameter in schema(target)]
    assert not any("bn" in name or "running" in name for name in folded)


def test_fold_keeps_what_is_no_batch_norm():
    config = BlockConfig(4, 6, norm="group", norm_groups=2, attention="gc")
    arrays = random_arrays(config)
    target, same = fold(config, arrays)
    assert target == config
    assert all((same[name] == array).all() for name, array in arrays.items())


def test_fold_twice():
    once = fold(CBAM, random_arrays(CBAM))
    target, arrays = fold(*once)
    assert target == once[0]
    assert all((arrays[name] == array).all() for name, array in once[1].items())


def test_fold_stages_of_several_kinds():
    config = NetworkConfig(
        in_channels=1, classes=2, widths=(4, 6), depths=(1, 1), stem_channels=4,
        attention=("bam", "se"), attention_options=({"bn_eps": 1e-3}, None),
    )  # fmt: skip
    target = folded_config(config)
    assert target.attention_options == ({"folded": True}, {})
    assert config_from_json(target.to_json()) == target


@pytest.mark.parametrize("make", [BlockConfig, BottleneckConfig])
def test_folded_norm_needs_biases(make):
    with pytest.raises(ArgumentError, match="conv_bias: expected True with norm 'folded'"):
        make(4, 8, norm="folded", conv_bias=False)


def test_numbers_too_great_for_float16():
    config = BlockConfig(2, 2, 1, attention="none")
    arrays = random_arrays(config, "float16")
    arrays["bn1.weight"] = np.full(2, 300, "float16")
    arrays["bn1.running_var"] = np.zeros(2, "float32")
    with pytest.raises(WeightsError, match=r"conv1.*too great for float16; fold the weights in fl"):
        fold(config, arrays)


def test_dialects_have_batch_norms(tmp_path):
    config = folded_config(replace(preset("resnet18", classes=3), widths=(4, 4, 4, 4)))
    path = tmp_path / "theirs.safetensors"
    with pytest.raises(ArgumentError, match="dialect: the networks of torchvision have batch"):
        write(path, config, random_arrays(config), dialect="torchvision")
    assert not path.exists()
    assert config.describe().endswith("attention none, batch norms folded")


def test_attach_needs_norms():
    with pytest.raises(ArgumentError, match=r"norm: the batch norms are folded"):
        attach(BlockConfig(4, 6, attention="none", norm="folded"), {}, "se")
    config = BlockConfig(4, 6, attention="none")
    with pytest.raises(ArgumentError, match=r"folded: an attached module is trained"):
        attach(config, random_arrays(config), "cbam", {"folded": True})


def test_port_folds(tmp_path):
    arrays = random_arrays(CBAM)
    write(tmp_path / "net.safetensors", CBAM, arrays)
    target, again = tmp_path / "folded.npz", tmp_path / "again.npz"
    command = ["port", str(tmp_path / "net.safetensors"), str(target), "--fold"]
    assert CliRunner().invoke(app, command).exit_code == 0
    config, found = read(target)
    expected = fold(CBAM, arrays)
    assert config == expected[0]
    assert all((found[name] == array).all() for name, array in expected[1].items())
    with pytest.raises(ArgumentError, match="has no batch norms that could be folded"):
        CliRunner().invoke(app, ["port", str(target), str(again), "--fold"], catch_exceptions=False)
    assert not again.exists()
