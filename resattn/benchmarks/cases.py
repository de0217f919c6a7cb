"""What is measured: one case for each function, model, batch, device and format of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from weights.checks import Pair
from weights.config import BlockConfig, Config, NetworkConfig
from weights.config_json import config_from_json as _config_from_json
from weights.frameworks import FRAMEWORKS
from weights.graph import graph
from weights.presets import preset

# Groups whose cases the runner interleaves. "deploy" is about the blocks or networks that are named
# beside it, or both.
MODEL_GROUPS = ("blocks", "networks", "deploy")
# Formats on each device. On CUDA float32 is computed in full float32 or, for "tf32", in TF32.
FORMATS_ON = {"cpu": ("float32",), "cuda": ("float32", "tf32", "bfloat16")}
ONNX, NUMPY = "onnxruntime", "numpy"  # programs that measure, besides the frameworks


@dataclass(frozen=True)
class BenchModel:
    """A model and the images it gets. label: for tables, without the batch. part: "blocks" or
    "networks".
    """

    part: str
    label: str
    config: Config
    size: Pair

    @property
    def multiply_adds(self) -> int:
        """Of one image, as the graph counts them."""
        return sum(operation.multiply_adds for operation in graph(self.config, self.size))


@dataclass(frozen=True)
class BenchCase:
    """One function to measure.

    part: "blocks", "networks" or "peak". framework: the program that runs it, of `FRAMEWORKS`,
    "onnxruntime" or "numpy". by: whose function it is, "plain" or "deploy" of ours, "native",
    "timm", "onnxruntime", or "product", a matrix product. config: as JSON.
    """

    part: str
    label: str
    framework: str
    by: str
    device: str = "cpu"
    form: str = "float32"
    batch: int = 1
    config: str = ""
    size: tuple[int, ...] = ()
    groups: tuple[str, ...] = field(default=(), compare=False)

    @property
    def model(self) -> BenchModel:
        """The model. A matrix product has none."""
        config = _config_from_json(self.config, "case")
        return BenchModel(self.part, self.label, config, (self.size[0], self.size[1]))

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BenchCase:
        """The inverse of `to_dict`."""
        lists = {name: tuple(values[name]) for name in ("size", "groups")}
        return cls(**{**values, **lists})


def _block(in_channels: int, out_channels: int, stride: int, side: int) -> BenchModel:
    config = BlockConfig(in_channels, out_channels, 3, stride, conv_bias=False)
    label = f"block {in_channels} to {out_channels}, {side} x {side}"
    return BenchModel("blocks", label, config, (side, side))


def _network(name: str, side: int) -> BenchModel:
    return BenchModel("networks", f"{name}, {side} x {side}", preset(name), (side, side))


BLOCKS = (_block(64, 64, 1, 56), _block(256, 512, 2, 14))
QUICK_BLOCKS = (_block(64, 64, 1, 14),)
# With the number of images.
NETWORKS = ((_network("se-resnet18", 64), 8), (_network("se-resnet18", 224), 1))
FULL_NETWORKS = (*NETWORKS, (_network("resnet50", 224), 1))
QUICK_NETWORKS = ((_network("se-resnet18", 64), 1),)


def list_models(
    groups: Sequence[str], batches: Sequence[int], *, quick: bool = False, full: bool = False
) -> list[tuple[BenchModel, int]]:
    """The models that groups measure, each with a number of images. "deploy" alone: all."""
    found: list[tuple[BenchModel, int]] = []
    parts = {"blocks", "networks"} & set(groups)
    if not parts and "deploy" in groups:
        parts = {"blocks", "networks"}
    if "blocks" in parts:
        blocks = QUICK_BLOCKS if quick else BLOCKS
        found += [(block, batch) for block in blocks for batch in batches]
    if "networks" in parts:
        found += QUICK_NETWORKS if quick else FULL_NETWORKS if full else NETWORKS
    return found


def list_cases(
    models: Iterable[tuple[BenchModel, int]],
    groups: Sequence[str],
    frameworks: Sequence[str],
    devices: Sequence[str],
    *,
    references: bool = True,
) -> list[BenchCase]:
    """The cases of groups in the order of a round: what is compared is side by side.

    references: whether to measure other implementations, and the peak, as well.
    """
    asked = set(groups)
    cases = [
        case
        for model, batch in models
        for device in devices
        for form in FORMATS_ON[device]
        for case in _cases_of(model, batch, device, form, frameworks, references)
        if asked & set(case.groups)
    ]
    return [*_products(devices), *cases] if references and cases else cases


def _cases_of(
    model: BenchModel,
    batch: int,
    device: str,
    form: str,
    frameworks: Sequence[str],
    references: bool,
) -> Iterator[BenchCase]:
    def case(framework: str, by: str, *groups: str) -> BenchCase:
        return BenchCase(
            model.part, model.label, framework, by, device, form, batch,
            model.config.to_json(), model.size, groups,
        )  # fmt: skip

    both = (model.part, "deploy")
    basic = isinstance(model.config, BlockConfig) or (
        isinstance(model.config, NetworkConfig) and model.config.form == "basic"
    )
    if references and device == "cpu":
        yield case(ONNX, "onnxruntime", *both)
    if references:
        yield case("torch", "timm", *both)
    for framework in frameworks:
        if references and basic and form != "bfloat16":
            yield case(framework, "native", *both)
        yield case(framework, "plain", model.part)
        yield case(framework, "deploy", "deploy")


def _products(devices: Sequence[str]) -> Iterator[BenchCase]:
    """Matrix products, which show how fast a device can be."""
    for device in devices:
        side = 2048 if device == "cpu" else 8192
        for form in FORMATS_ON[device]:
            programs = (NUMPY, "torch") if device == "cpu" else ("torch",)
            for program in programs:
                label = f"matrix product, {side} x {side}"
                yield BenchCase("peak", label, program, "product", device, form, size=(side, side))


def name_program(framework: str) -> str:
    """The name of a program in tables."""
    others = {ONNX: "ONNX Runtime", NUMPY: "NumPy"}
    return others.get(framework) or FRAMEWORKS[framework].label
