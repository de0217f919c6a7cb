"""Checkpoints of other libraries are recognised from their names and shapes, or refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from resattn.checking.draws import random_arrays
from resattn.cli.app import app
from shared_tests.interop import (
    COLLISIONS,
    TABLE,
    list_collisions,
    list_networks,
    read_rows,
    their_shapes,
)
from weights import BlockConfig, WeightsError, preset, read, read_checkpoint, schema, write
from weights.dialects import DIALECTS, dialect_named
from weights.dialects.back import find_architectures
from weights.dialects.derive import derive
from weights.dialects.recognise import recognise, to_canonical_names, to_dialect_names
from weights.errors import ArgumentError

NETWORKS = list(list_networks([]))
ROWS = list_collisions()
COLLIDING = {name for row in ROWS for name in re.findall(r"`(\w+)`", row[0])}


def raises(error, message):
    return pytest.raises(error, match=re.escape(message))


def shapes_only(shapes):
    """Arrays of these shapes that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def published(dialect, name, **changes):
    """What a checkpoint of an architecture has."""
    config = replace(DIALECTS[dialect].architecture(name), **changes)
    return config, shapes_only(their_shapes(dialect, config))


@pytest.mark.parametrize(("dialect", "name"), NETWORKS)
def test_every_network_is_recognised(dialect, name):
    config, arrays = published(dialect, name)
    if name in COLLIDING:
        with pytest.raises(ArgumentError) as caught:
            recognise(arrays, "net.pth")
        candidates = re.findall(r"^  (\w+): ", str(caught.value), re.MULTILINE)
        row = next(row for row in ROWS if f"`{name}`" in row[0])
        assert candidates == re.findall(r"`(\w+)`", row[0])
    elif "pruned" not in name:
        found = recognise(arrays, "net.pth")
        assert found.config == config
        assert found.reason == "no other network that we know has these names and shapes"
        assert DIALECTS[dialect].title in found.libraries
    said = recognise(arrays, "net.pth", name)
    assert said.config == config or "pruned" in name
    assert schema(said.config) == schema(config)
    assert said.architectures == (name,)
    assert said.reason == "as asked for"


def test_the_collisions_are_those_of_the_page():
    assert len(COLLIDING) > 10
    assert read_rows(TABLE.read_text(encoding="utf-8"), COLLISIONS) == ROWS


def test_an_ambiguous_file():
    _, arrays = published("timm", "resnet50")
    with pytest.raises(ArgumentError) as caught:
        recognise(arrays, "x.pth")
    assert str(caught.value) == (
        "x.pth: 3 networks have these names and shapes but compute different things, so the file "
        "alone does not say which one it is; say it, as in --as resnet50 (in Python: "
        "architecture=):\n"
        "  resnet50: stem_pool max, antialias none\n"
        "  resnetblur50: stem_pool max_blur, antialias blur\n"
        "  resnetaa50: stem_pool average, antialias average"
    )


@pytest.mark.parametrize(
    ("dialect", "name", "changes"),
    [
        ("timm", "seresnet50", {"classes": 7}),
        ("timm", "seresnet50", {"classes": 0}),
        ("timm", "seresnet50", {"in_channels": 1}),
        ("timm", "ecaresnet26t", {"in_channels": 4, "classes": 11}),
        ("legacy-senet", "legacy_senet154", {"classes": 0}),
        ("keras-applications", "ResNet101", {"classes": 0}),
        ("keras-hub", "resnet_vd_34", {"classes": 3}),
        ("cifar-resnet", "cifar_resnet32", {"classes": 100}),
    ],
)
def test_other_classes_heads_and_images(dialect, name, changes):
    config, arrays = published(dialect, name, **changes)
    found = recognise(arrays, "net.pth", name if name in COLLIDING else None)
    assert found.config == config
    assert found.architectures == (name,)


def cut(dialect, name, stages):
    """A checkpoint without the last stages and the classifier."""
    config, arrays = published(dialect, name)
    known = DIALECTS[dialect].recognise({key: each.shape for key, each in arrays.items()})
    kept = ("stem", *(f"stages.{stage}." for stage in range(stages)))
    return config, {key: arrays[key] for key, (ours, _) in known.items() if ours.startswith(kept)}


@pytest.mark.parametrize("dialect_and_name", [("timm", "seresnet101"), ("timm", "test_resnet"),
                                              ("keras-applications", "ResNet152")])  # fmt: skip
def test_a_backbone_cut_off(dialect_and_name):
    config, arrays = cut(*dialect_and_name, 3)
    found = recognise(arrays, "net.pth")
    assert dialect_and_name[1] in found.architectures
    assert found.config.stages() == config.stages()[:3]
    assert found.config.classes == 0


def test_a_backbone_cut_off_can_be_of_several():
    _, arrays = cut("timm", "wide_resnet50_2", 2)
    found = recognise(arrays, "net.pth")
    assert found.architectures == ("wide_resnet50_2", "wide_resnet101_2")
    _, arrays = cut("timm", "resnet18", 2)
    with raises(ArgumentError, "2 networks have these names and shapes"):
        recognise(arrays, "net.pth")


def test_pruned_networks_have_any_widths():
    config, arrays = published("timm", "ecaresnet50d", widths=(128, 320, 512, 1024))
    found = recognise(arrays, "net.pth")
    assert found.architectures == ("ecaresnet50d_pruned",)
    assert schema(found.config) == schema(config)
    assert found.config.shortcut == "average"


def test_the_tag_of_a_name_is_left_out():
    _, arrays = published("timm", "resnet50")
    assert recognise(arrays, "x", "resnet50.a1_in1k").architectures == ("resnet50",)


def test_what_is_said_of_a_network():
    _, arrays = published("legacy-senet", "legacy_senet154")
    assert recognise(arrays, "x").describe() == (
        "legacy_senet154 of timm's legacy SENets (no other network that we know has these names "
        "and shapes): bottleneck blocks 3-8-36-3; widths 256-512-1024-2048; attention se; stem 3x3 "
        "64-64-128, max_ceil pooling; shortcut convolution; 64 groups; 1000 classes"
    )
    _, arrays = published("timm", "resnet34", classes=0)
    said = recognise(arrays, "x").describe()
    assert said.startswith("resnet34 of torchvision and timm (")
    assert said.endswith("; no classifier")
    _, arrays = published("timm", "resnetaa50")
    assert "antialias average" in recognise(arrays, "x", "resnetaa50").describe()
    _, arrays = published("timm", "resnet50_gn")
    assert "group norm" in recognise(arrays, "x").describe()


# What is refused


@pytest.mark.parametrize(("name", "said", "error", "message"), [
    ("resnet50", "resnet51", ArgumentError,
     "architecture: we know no network 'resnet51' of torchvision and timm; what fits is "
     "resnet50, resnetblur50, resnetaa50"),
    ("seresnet50", "legacy_seresnet50", ArgumentError,
     "x.pth: 'legacy_seresnet50' has the names of timm's legacy SENets, but here are those of "
     "timm; what fits is seresnet50"),
    ("seresnet50", "seresnet101", WeightsError,
     "x.pth is not a seresnet101; what fits is seresnet50:\n"
     "  stages.2.10.attention.fc1.bias: expected (64,), missing"),
    ("resnet50d", "resnet50c", WeightsError,
     "x.pth is not a resnet50c; what fits is resnet50d, resnetblur50d, resnetaa50d:\n"
     "  its modules have other names in timm"),
])  # fmt: skip
def test_a_wrong_architecture(name, said, error, message):
    _, arrays = published("timm", name)
    with raises(error, message):
        recognise(arrays, "x.pth", said)


def test_an_architecture_that_was_meant():
    _, arrays = published("timm", "seresnet50", widths=(4, 8, 12, 16))
    with raises(ArgumentError, "timm; did you mean seresnet50 or"):
        recognise(arrays, "x.pth", "se-resnet50")


def test_the_nearest_network():
    _, arrays = published("timm", "seresnet18", widths=(64, 128, 256, 500))
    with pytest.raises(WeightsError) as caught:
        recognise(arrays, "x.pth")
    message = str(caught.value)
    assert message.startswith(
        "x.pth: none of the networks that we know; the nearest is seresnet18 of timm. If it is a "
        "network of your own, describe it with --config (in Python: config=): basic blocks "
        "2-2-2-2; widths 64-128-256-500; attention se;"
    )
    assert "shapes do not say strides, stem_stride, stem_pool" in message
    assert "Differences from seresnet18 (the first 6 of " in message
    assert "stages.3.0.conv2.weight: expected (512, 512, 3, 3), got (500, 500, 3, 3)" in message


def test_forms_that_no_network_has():
    _, arrays = published(
        "timm", "test_resnet", form=("bottleneck", "basic", "basic", "bottleneck"),
        hidden_widths=(8, 8, 8, 8),
    )  # fmt: skip
    with raises(WeightsError, "x.pth: no network of torchvision and timm is like it"):
        recognise(arrays, "x.pth")


def test_strangers():
    _, arrays = published("timm", "seresnet18")
    arrays["layer1.0.gate.weight"] = np.zeros((2, 3), "f")
    with raises(
        WeightsError,
        "x.pth: most of its names are those of timm, but 1 are not, so it may compute something "
        "else:\n  layer1.0.gate.weight: (2, 3)",
    ):
        recognise(arrays, "x.pth")


def test_names_that_nobody_knows():
    arrays = {f"encoder.{i}.kernel": np.zeros(i, "f") for i in range(9)}
    with raises(
        WeightsError,
        "x.pth: its names are neither ours nor those of "
        f"{', '.join(each.title for each in DIALECTS.values())}; its first names are "
        "encoder.0.kernel, "
        "encoder.1.kernel, encoder.2.kernel, encoder.3.kernel",
    ):
        recognise(arrays, "x.pth")


@pytest.mark.parametrize(("name", "message"), [
    ("layer1.0.conv2.0.weight", "a ResNet of ZjjConan/SimAM, which has SimAM between"),
    ("module.bam1.channel_att.gate_c.0.weight", "Jongchan/attention-module with BAM between"),
    ("layer1.0.cbam.ChannelGate.mlp.1.weight", "Jongchan/attention-module with CBAM"),
    ("layer3.1.se.fc.0.weight", "linear layers without biases, as moskomule/senet.pytorch"),
    ("stage1_unit1_bn1/gamma", "a Keras ResNet of qubvel/classification_models"),
    ("conv2_block1_preact_bn/gamma", "a ResNet v2, whose blocks have norm and relu before"),
    ("layer2.0.bn3_pre.weight", "a pre-activation ResNet (He et al. 2016)"),
])  # fmt: skip
def test_networks_that_compute_something_else(name, message):
    _, arrays = published("timm", "resnet18")
    with raises(WeightsError, "net.pth: has ") as caught:
        recognise({**arrays, name: np.zeros(1, "f")}, "net.pth")
    assert message in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(("shapes", "message"), [
    ({"stem.conv.weight": (4, 3, 7, 7)}, "stages.0.0.conv1.weight: missing"),
    ({"stages.0.0.conv1.weight": (4, 4, 3, 3), "stages.0.0.conv2.weight": (4, 4, 3, 3)},
     "stem.conv.weight: missing"),
    ({"stages.0.0.conv1.weight": (4, 4, 2, 2), "stages.0.0.conv2.weight": (4, 4, 2, 2),
      "stem.conv.weight": (4, 3, 7, 7)}, "kernel_size: expected odd sizes, got (2, 2)"),
])  # fmt: skip
def test_shapes_of_no_residual_network(shapes, message):
    with raises(WeightsError, "the shapes are not those of a residual network:") as caught:
        derive(shapes)
    assert message in str(caught.value)


# Networks of one's own, and the way back


def small(dialect, name):
    """A narrow network of one stage a width, as the dialect has them."""
    config = DIALECTS[dialect].architecture(name)
    changes = {"classes": 3, "widths": (8, 12, 16, 20), "depths": (1, 2, 1, 1)}
    if config.attention == "se":
        changes["attention_options"] = {"hidden_channels": 3}
    if config.form == "bottleneck":
        changes |= {"hidden_widths": (4, 6, 8, 12), "groups": 1, "first_widths": None}
    return replace(config, **changes)


@pytest.mark.parametrize(("dialect", "name"), [
    ("torchvision", "resnet50"), ("timm", "seresnet18"), ("timm", "resnetrs50"),
    ("timm", "ecaresnet50d"), ("legacy-senet", "legacy_senet154"),
    ("keras-applications", "ResNet50"), ("keras-hub", "resnet_vd_18"),
])  # fmt: skip
def test_there_and_back(dialect, name):
    config = small(dialect, name)
    arrays = random_arrays(config)
    theirs = to_dialect_names(DIALECTS[dialect], config, arrays)
    assert {key: each.shape for key, each in theirs.items()} == their_shapes(dialect, config)
    found = recognise(theirs, "x", config=config)
    assert found.reason == "by the config given"
    back = to_canonical_names(found, theirs, "x")
    assert set(back) == set(arrays)
    assert all(back[key].tobytes() == arrays[key].tobytes() for key in arrays)


def test_a_config_that_does_not_fit():
    config = small("timm", "seresnet18")
    arrays = to_dialect_names(DIALECTS["timm"], config, random_arrays(config))
    with raises(
        WeightsError, "x does not fit the config given, by the names of timm:\n"
        "  layer4.1.bn1.bias: missing",
    ):  # fmt: skip
        recognise(arrays, "x", config=replace(config, depths=(1, 2, 1, 2)))
    with raises(
        ArgumentError, "dialect: timm has no name for stages.0.0.attention.channel.fc1.weight"
    ):
        other = replace(config, attention="cbam", attention_options=None)
        recognise(arrays, "x", config=other)


def test_names_that_a_recognised_network_lacks():
    _, arrays = published("timm", "seresnet18")
    found = recognise(arrays, "x")
    del arrays["fc.bias"]
    with raises(WeightsError, "x is not a seresnet18 of timm:\n  fc.bias: missing\n  odd: unexp"):
        to_canonical_names(found, {**arrays, "odd": np.zeros(1)}, "x")


def test_dialects_that_do_not_exist():
    with raises(ArgumentError, "dialect: expected one of torchvision, timm, legacy-senet, cifar"):
        dialect_named("caffe")


def test_dialects_without_a_name():
    with raises(
        ArgumentError, "dialect: torchvision has no name for stages.0.0.attention.fc1.weight; it "
        "has networks as resnet18, resnet34, resnet50",
    ):  # fmt: skip
        dialect_named("torchvision").names(preset("se-resnet18"))


@pytest.mark.parametrize(("dialect", "name"), NETWORKS[::5])
def test_where_a_network_can_go_back(dialect, name):
    config = replace(DIALECTS[dialect].architecture(name), classes=9)
    assert name in find_architectures(DIALECTS[dialect], config)


def test_what_would_be_loaded_and_be_wrong():
    legacy = DIALECTS["legacy-senet"].architecture("legacy_seresnet50")
    with raises(
        ArgumentError,
        "dialect: timm has no network that computes the same. It would load these names and shapes "
        "strictly and be wrong: seresnet50 has stem_pool max, here max_ceil, stride_at conv2, here "
        "conv1",
    ):
        find_architectures(DIALECTS["timm"], legacy)
    other = replace(
        DIALECTS["timm"].architecture("seresnet50"), attention_options={"reduction": 16}
    )
    assert find_architectures(DIALECTS["timm"], other) == ("seresnet50",)  # only shapes
    own = replace(other, depths=(1, 1, 1, 1))
    assert find_architectures(DIALECTS["timm"], own) == ()


# Files


@pytest.fixture(params=["safetensors", "npz", "pth"])
def suffix(request):
    if request.param == "pth":
        request.getfixturevalue("torch")
    return request.param


@pytest.fixture
def hub(tmp_path):
    """A file of weights as the hub has it: a config.json and a model card beside it."""
    config = DIALECTS["timm"].architecture("resnet10t")
    (tmp_path / "hub").mkdir()
    write(tmp_path / "hub" / "model.safetensors", config, random_arrays(config), dialect="timm")
    (tmp_path / "hub" / "README.md").write_text(
        "---\ntags:\n- timm\nlicense: apache-2.0\nrepository: timm/resnet10t\n---\n# resnet10t\n"
    )
    return tmp_path / "hub"


def say(hub, **values):
    (hub / "config.json").write_text(json.dumps(values))


def test_origin_is_kept(hub, suffix, tmp_path):
    say(hub, architecture="resnet10t", pretrained_cfg={"tag": "c3_in1k", "url": "https://x/y.pth"})
    found = read_checkpoint(hub / "model.safetensors")
    assert found.notes[-1].startswith("resnet10t of timm (its config.json says so): basic blocks")
    write(tmp_path / f"net.{suffix}", found.config, found.arrays, origin=found.origin)
    again = read_checkpoint(tmp_path / f"net.{suffix}")
    assert again.config == found.config
    assert again.origin == found.origin
    expected = {
        "file": "model.safetensors", "architecture": "resnet10t", "library": "timm",
        "license": "apache-2.0", "repository": "timm/resnet10t", "tag": "c3_in1k",
        "url": "https://x/y.pth",
    }  # fmt: skip
    assert expected.items() <= again.origin.items()


def test_what_a_config_json_says_must_fit(hub):
    say(hub, architecture="resnet18")
    with raises(WeightsError, "model.safetensors is not a resnet18; what fits is resnet10t:"):
        read(hub / "model.safetensors")
    (hub / "config.json").write_text("{")
    with pytest.raises(ArgumentError, match=r"config\.json"):
        read(hub / "model.safetensors")


def test_a_config_json_of_something_else(hub):
    say(hub, model_type="bert")
    (hub / "README.md").write_text("no header")
    found = read_checkpoint(hub / "model.safetensors")
    assert found.origin == {
        "file": "model.safetensors", "architecture": "resnet10t", "library": "timm",
    }  # fmt: skip
    assert "no other network" in found.notes[-1]


def test_files_under_another_librarys_names(tmp_path, suffix):
    config = small("timm", "seresnet18")
    arrays = random_arrays(config)
    write(tmp_path / f"net.{suffix}", config, arrays, dialect="timm")
    held, found = read(tmp_path / f"net.{suffix}", config)
    assert held == config
    assert all(found[name].tobytes() == arrays[name].tobytes() for name in arrays)
    with raises(WeightsError, "none of the networks that we know; the nearest is seresnet18"):
        read(tmp_path / f"net.{suffix}")
    with raises(ArgumentError, "holds a network of another library, but the config is of a Resid"):
        read(tmp_path / f"net.{suffix}", BlockConfig(3, 4))


def test_what_cannot_be_written(tmp_path):
    config, block = small("timm", "resnet18"), BlockConfig(3, 4)
    with raises(ArgumentError, "dialect: Keras' own files know layers by their order in a model"):
        write(tmp_path / "net.keras", config, random_arrays(config), dialect="timm")
    with raises(ArgumentError, "dialect: timm has networks, and no blocks"):
        write(tmp_path / "net.npz", block, random_arrays(block), dialect="timm")
    legacy = DIALECTS["legacy-senet"].architecture("legacy_seresnet50")
    arrays = shapes_only({each.name: each.shape for each in schema(legacy)})
    with raises(ArgumentError, "It would load these names and shapes strictly and be wrong"):
        write(tmp_path / "net.npz", legacy, arrays, dialect="timm")
    assert not (tmp_path / "net.npz").exists()


def test_an_origin_that_is_none(tmp_path):
    from safetensors.numpy import save_file

    config = BlockConfig(3, 4)
    metadata = {"resattn": config.to_json(), "origin": "[1]"}
    save_file(random_arrays(config), tmp_path / "net.safetensors", metadata=metadata)
    message = "the origin in net.safetensors: expected an object as its origin, got '[1]'"
    with raises(ArgumentError, message):
        read(tmp_path / "net.safetensors")


# The command


def run(*arguments):
    return CliRunner().invoke(app, ["port", *map(str, arguments)])


def test_port(hub, tmp_path):
    path = hub / "model.safetensors"
    there = run(path, tmp_path / "net.safetensors")
    assert there.output.startswith("model.safetensors: resnet10t of timm (no other network that")
    assert there.output.endswith(f"Next: resattn check {tmp_path / 'net.safetensors'}\n")
    back = run(tmp_path / "net.safetensors", tmp_path / "out.npz", "--naming", "timm")
    assert (
        "net.safetensors -> out.npz, with the names of timm: a network of 4 blocks" in back.output
    )
    assert back.output.endswith("Next: load it with timm, strictly, into its resnet10t\n")
    with np.load(tmp_path / "out.npz") as held:
        assert {"conv1.0.weight", "layer4.0.downsample.1.weight", "fc.bias"} <= set(held.files)
    wrong = run(path, tmp_path / "x.npz", "--as", "resnet50")
    assert isinstance(wrong.exception, WeightsError)
    assert str(wrong.exception).startswith("model.safetensors is not a resnet50; what fits is")


def test_port_of_a_network_of_ones_own(tmp_path):
    config = small("timm", "seresnet18")
    write(tmp_path / "net.npz", config, random_arrays(config))
    result = run(tmp_path / "net.npz", tmp_path / "x.npz", "--to-dialect", "timm")
    assert result.output.endswith("strictly, into a model that you build like this one\n")


def test_port_to_a_dialect_that_does_not_exist(tmp_path):
    result = run(tmp_path / "none.npz", tmp_path / "x.npz", "--to-dialect", "caffe")
    assert "dialect: expected one of torchvision, timm" in str(result.exception)
