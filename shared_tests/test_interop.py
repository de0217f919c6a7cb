"""Networks of other libraries and ours with the same weights, in small: the same logits and stages.

Each kind of arithmetic that published networks have once; `make interop` compares every published
network at full width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from resattn.checking.backends import precise
from resattn.checking.crosscheck import LIMIT as VERDICT
from resattn.checking.problem import Problem, pose
from shared_tests.interop import LIMIT, compare_outputs, draw_images, run_ours
from shared_tests.libraries import (
    Theirs,
    absence,
    import_library,
    make_cifar_resnet,
    make_small_application,
    make_small_backbone,
    wrap_torch,
)
from weights import Checkpoint, NetworkConfig, adopt, difference, load_into
from weights.dialects import DIALECTS
from weights.errors import ModelError
from weights.live import adapter

SIZES = ((32, 40), (33, 39))
SMALL = ((16, 24), (17, 23))  # for networks that have no narrow form
HALVED = ((32, 64), (63, 95))  # where average pooling needs maps of even sizes
WIDTHS, DEPTHS = (8, 12, 16, 20), (1, 2, 1, 1)


@dataclass(frozen=True)
class Case:
    """package: of the network. make: seed -> the network. config: ours."""

    package: str
    make: Callable[[int], Theirs]
    config: NetworkConfig
    sizes: tuple[tuple[int, int], ...] = field(default=SIZES)


def timm_case(form: str, *, config: dict[str, Any], sizes: Any = SIZES, **options: Any) -> Case:
    """A ResNet of timm with few channels. options: of its constructor."""

    def make(seed: int) -> Theirs:
        timm = import_library("timm")
        layers = {"blur": timm.layers.BlurPool2d, "average": import_module("torch").nn.AvgPool2d}
        given = {
            name: layers.get(value, value) if name == "aa_layer" else value
            for name, value in options.items()
        }
        if given.get("norm_layer"):
            given["norm_layer"] = partial(timm.layers.GroupNorm, num_groups=4)
        block = getattr(timm.models.resnet, "Bottleneck" if form == "bottleneck" else "BasicBlock")
        model = timm.models.resnet.ResNet(
            block, DEPTHS, num_classes=5, channels=WIDTHS, **{"stem_width": 6, **given}
        )
        return wrap_torch(model, seed)

    return Case("timm", make, replace(plain(form), **config), sizes)


def plain(form: str, **options: Any) -> NetworkConfig:
    """A narrow ResNet for ImageNet."""
    bottleneck = {"widths": tuple(4 * width for width in WIDTHS), "hidden_widths": WIDTHS}
    return NetworkConfig(**{
        "classes": 5, "widths": WIDTHS, "depths": DEPTHS, "form": form, "attention": "none",
        "stem_channels": 6, "stem_kernel_size": 7, "stem_stride": 2, "stem_pool": "max",
        **(bottleneck if form == "bottleneck" else {}), **options,
    })  # fmt: skip


DEEP = {"stem_channels": (6, 6, 12), "stem_kernel_size": 3}
D = {"stem_type": "deep", "avg_down": True}
SE = {"attention": "se", "attention_options": {"divisor": 8}}


def legacy_case(block: str, config: dict[str, Any], **options: Any) -> Case:
    """A network of timm.models.senet with one block a stage; its widths cannot be chosen."""

    def make(seed: int) -> Theirs:
        senet = import_module(f"{import_library('timm').__name__}.models.senet")
        model = senet.SENet(getattr(senet, block), (1, 1, 1, 1), num_classes=5, **{
            "groups": 1, "reduction": 16, "inplanes": 64, "input_3x3": False, "drop_rate": 0.0,
            **options,
        })  # fmt: skip
        return wrap_torch(model, seed)

    name = {
        "SEResNetBlock": "legacy_seresnet18", "SEResNetBottleneck": "legacy_seresnet50",
        "SEResNeXtBottleneck": "legacy_seresnext50_32x4d", "SEBottleneck": "legacy_senet154",
    }[block]  # fmt: skip
    published = DIALECTS["legacy-senet"].architecture(name)
    made = replace(published, depths=(1, 1, 1, 1), classes=5, **config)
    return Case("timm", make, made, SMALL)


def torchvision_case(block: str, config: dict[str, Any], **options: Any) -> Case:
    """A ResNet of torchvision with one block a stage; its widths cannot be chosen."""

    def make(seed: int) -> Theirs:
        resnet = import_library("torchvision").models.resnet
        model = resnet.ResNet(getattr(resnet, block), [1, 1, 1, 1], num_classes=5, **options)
        return wrap_torch(model, seed)

    name = "resnet18" if block == "BasicBlock" else "resnet50"
    published = DIALECTS["torchvision"].architecture(name)
    made = replace(published, depths=(1, 1, 1, 1), classes=5, **config)
    return Case("torchvision", make, made, SMALL)


KERAS = {"conv_bias": True, "bn_eps": 1.001e-5, "bn_decay": 0.99, "stride_at": "conv1"}
VD = {"stem_channels": (4, 6, 8), "stem_kernel_size": 3, "shortcut": "average",
      "projects_first": True}  # fmt: skip
HUB = (64, 12, 16, 20)  # KerasHub insists on the first

CASES = {
    "basic": timm_case("basic", config={"stem_channels": 64}),
    "bottleneck": timm_case("bottleneck", config={"stem_channels": 64}),
    "c": timm_case("bottleneck", config=DEEP, stem_type="deep"),
    "d basic": timm_case("basic", config={**DEEP, "shortcut": "average"}, **D),
    "d bottleneck": timm_case("bottleneck", config={**DEEP, "shortcut": "average"}, **D),
    "t": timm_case(
        "basic", config={"stem_channels": (24, 32, 64), "stem_kernel_size": 3,
                         "shortcut": "average"},
        stem_type="deep_tiered", avg_down=True, stem_width=32,
    ),
    "blur": timm_case(
        "bottleneck", config={"stem_channels": 64, "antialias": "blur", "stem_pool": "max_blur"},
        aa_layer="blur",
    ),
    "blur basic": timm_case(
        "basic", config={"stem_channels": 64, "antialias": "blur", "stem_pool": "max_blur"},
        aa_layer="blur",
    ),
    "averaged": timm_case(
        "bottleneck", sizes=HALVED, aa_layer="average",
        config={"stem_channels": 64, "antialias": "average", "stem_pool": "average"},
    ),
    "averaged d": timm_case(
        "basic", sizes=HALVED, aa_layer="average", **D,
        config={**DEEP, "shortcut": "average", "antialias": "average", "stem_pool": "average"},
    ),
    "se": timm_case("basic", config={"stem_channels": 64, **SE}, block_args={"attn_layer": "se"}),
    "eca": timm_case(
        "bottleneck", config={"stem_channels": 64, "attention": "eca"},
        block_args={"attn_layer": "eca"},
    ),
    "grouped": timm_case(
        "bottleneck", cardinality=4, base_width=32,
        config={"stem_channels": 64, "groups": 4, "hidden_widths": (16, 24, 32, 40)},
    ),
    "rs": timm_case(
        "bottleneck", replace_stem_pool=True, **D, block_args={"attn_layer": "se"},
        config={**DEEP, **SE, "shortcut": "average", "stem_pool": "convolution"},
    ),
    "senet": timm_case(
        "bottleneck", stem_type="deep", down_kernel_size=3, block_reduce_first=2,
        config={**DEEP, "shortcut_kernel_size": 3, "first_widths": (4, 6, 8, 10)},
    ),
    "group norm": timm_case(
        "bottleneck", norm_layer="group",
        config={"stem_channels": 64, "norm": "group", "norm_groups": 4},
    ),
    "legacy basic": legacy_case("SEResNetBlock", {"stem_padding": None}),
    "legacy bottleneck": legacy_case("SEResNetBottleneck", {}),
    "legacy next": legacy_case("SEResNeXtBottleneck", {}, groups=32),
    "legacy senet": legacy_case(
        "SEBottleneck", {}, groups=64, inplanes=128, input_3x3=True, downsample_kernel_size=3,
        downsample_padding=1,
    ),
    "torchvision basic": torchvision_case("BasicBlock", {}),
    "torchvision grouped": torchvision_case(
        "Bottleneck", {"groups": 4, "hidden_widths": (64, 128, 256, 512)}, groups=4,
        width_per_group=16,
    ),
    "cifar a": Case(
        "torch", lambda seed: wrap_torch(make_cifar_resnet(8, False), seed),
        replace(DIALECTS["cifar-resnet"].architecture("cifar_resnet20"), depths=(1, 1, 1)),
    ),
    "cifar b": Case(
        "torch", lambda seed: wrap_torch(make_cifar_resnet(8, True), seed),
        replace(DIALECTS["cifar-resnet"].architecture("cifar_resnet20_b"), depths=(1, 1, 1)),
    ),
    "keras": Case(
        "keras", partial(make_small_application, WIDTHS, DEPTHS),
        plain("bottleneck", stem_channels=64, classes=0, **KERAS),
    ),
    "keras hub": Case(
        "keras_hub", partial(make_small_backbone, "bottleneck_block", (8,), HUB, DEPTHS),
        plain("bottleneck", stem_channels=8, classes=0, hidden_widths=HUB,
              widths=tuple(4 * width for width in HUB)),
    ),
    "keras hub vd": Case(
        "keras_hub", partial(make_small_backbone, "basic_block_vd", (4, 6, 8), HUB, DEPTHS),
        plain("basic", classes=0, widths=HUB, **VD),
    ),
}  # fmt: skip


@cache
def adopted(name: str) -> tuple[Checkpoint, list[tuple[np.ndarray, list[np.ndarray]]]]:
    """A network of theirs as ours, and images with their logits and stages."""
    case = CASES[name]
    theirs = case.make(0)
    images = [draw_images(size, count=1) for size in case.sizes]
    return adopt(theirs.model, config=case.config), [(x, theirs.run(x)) for x in images]


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    package = CASES[request.param].package
    if reason := absence(package):
        pytest.skip(reason)
    return request.param


def test_logits_and_stages(backend, name):
    found, answers = adopted(name)
    with precise((backend.framework,), "float64"):
        model = backend.build(found.config, found.arrays)
        for x, expected in answers:
            assert compare_outputs(run_ours(model, backend.framework, x), expected) < LIMIT


def test_the_way_back(name):
    """Into another network of theirs: the same logits, bit for bit."""
    found, answers = adopted(name)
    other = CASES[name].make(1)
    x, expected = answers[0]
    assert not np.array_equal(other.run(x)[0], expected[0])
    load_into(other.model, found.config, found.arrays)
    assert all(map(np.array_equal, other.run(x), expected))


@cache
def rounded(name: str) -> tuple[Problem, np.ndarray]:
    """The weights and images of a case in float32 as a problem, and their logits in float64."""
    found, answers = adopted(name)
    arrays = {key: each.astype("float32") for key, each in found.arrays.items()}
    x = answers[1][0].astype("float32")
    theirs = CASES[name].make(1)
    wide = {key: each.astype("float64") for key, each in arrays.items()}
    load_into(theirs.model, found.config, wide)
    return pose(found.config, arrays, x), theirs.run(x.astype("float64"))[0]


@pytest.mark.parametrize("name", ["blur basic", "se", "rs", "grouped", "cifar a"])
def test_float32(backend, name):
    """By what rounding explains, as the cross-check judges."""
    if reason := absence(CASES[name].package):
        pytest.skip(reason)
    problem, logits = rounded(name)
    key = ("eval output", "output")
    with precise((backend.framework,), "float32"):
        arrays = {each: value.astype("float32") for each, value in problem.arrays.items()}
        model = backend.build(problem.config, arrays)
        ours = adapter(backend.framework).forward(model, problem.x.astype("float32"))
    row = difference(
        ours, logits, scale=problem.scales[key], quantity=key[0], tensor=key[1],
        names=("ours", "theirs"), axes="batch class", tolerance=VERDICT, dtype="float32",
        explained=problem.rounding.explained[key],
    )  # fmt: skip
    assert row.ok, row


def test_a_model_that_computes_something_else(timm):
    """The names and shapes fit, so it would load them strictly."""
    model = timm.create_model("resnet10t")
    found = adopt(model)
    assert found.notes[0].startswith("resnet10t of timm (the model says so): basic blocks 1-1-1-1;")
    other = replace(found.config, stem_pool="max_ceil")
    message = "is a resnet10t, which computes something else than the config: stem_pool max, here"
    with pytest.raises(ModelError, match=message):
        load_into(model, other, found.arrays)
    with pytest.raises(ModelError, match=message):
        load_into(model, other, found.arrays, "resnet10t")
    message = "is no cifar_resnet20, by the names and shapes of the config"
    with pytest.raises(ModelError, match=message):
        load_into(model, found.config, found.arrays, "cifar_resnet20")
    load_into(model, replace(found.config, bn_decay=0.5), found.arrays)
