"""The libraries whose networks we read, and their networks with random, non-degenerate weights.

timm, torchvision, Keras Applications and KerasHub; and the CIFAR ResNets, which are no package, as
a definition of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from resattn.benchmarks.libraries import import_library
from weights.dialects import DIALECTS

# The package of each dialect, None for one without a package.
PACKAGES = {
    "timm": "timm",
    "legacy-senet": "timm",
    "torchvision": "torchvision",
    "cifar-resnet": None,
    "keras-applications": "keras",
    "keras-hub": "keras_hub",
}


@cache
def absence(package: str) -> str | None:
    """Why a package cannot be used here, or None."""
    try:
        import_library(package)
    except (ImportError, RuntimeError) as error:
        return f"{package} cannot be imported: {str(error).splitlines()[0]}"
    return None


@dataclass(frozen=True)
class Theirs:
    """A network of another library, in float64 and evaluation mode.

    arrays: by the library's names. run: canonical images -> the logits, and the outputs of the
    stages in canonical order. load: puts arrays into it by the library's names, strictly.
    """

    model: Any
    arrays: Callable[[], dict[str, np.ndarray]]
    run: Callable[[np.ndarray], list[np.ndarray]]
    load: Callable[[dict[str, np.ndarray]], None]


def make(dialect: str, name: str, seed: int = 0, **options: Any) -> Theirs:
    """One of a library's architectures with random weights. options: of its constructor."""
    if dialect == "keras-applications":
        return _keras_application(name, seed, **options)
    if dialect == "keras-hub":
        return _keras_hub(name, seed, **options)
    if dialect == "cifar-resnet":
        depth = int(name.removeprefix("cifar_resnet").removesuffix("_b"))
        return wrap_torch(make_cifar_resnet(depth, name.endswith("_b")), seed)
    library = import_library(PACKAGES[dialect] or "")
    create = getattr(library.models, name) if dialect == "torchvision" else library.create_model
    arguments = () if dialect == "torchvision" else (name,)
    return wrap_torch(create(*arguments, **options), seed)


# PyTorch


def wrap_torch(model: Any, seed: int) -> Theirs:
    """A torch.nn.Module with stages layer1, layer2, ..."""
    torch = import_module("torch")
    model = model.double().eval()
    randomize_torch(model, seed)
    stages = [child for name, child in model.named_children() if name[:-1] == "layer" != name[-1:]]
    stages = [stage for stage in stages if stage is not getattr(model, "layer0", None)]

    def run(x: np.ndarray) -> list[np.ndarray]:
        found: list[Any] = []
        hooks = [
            stage.register_forward_hook(lambda *received: found.append(received[-1]))
            for stage in stages
        ]
        try:
            with torch.no_grad():
                logits = model(torch.from_numpy(x))
        finally:
            for hook in hooks:
                hook.remove()
        return [each.numpy() for each in (logits, *found)]

    def load(arrays: dict[str, np.ndarray]) -> None:
        state = {name: torch.from_numpy(array) for name, array in arrays.items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected
        assert all(name.endswith("num_batches_tracked") for name in missing), missing

    return Theirs(model, lambda: state_arrays(model), run, load)


def state_arrays(model: Any) -> dict[str, np.ndarray]:
    """The state dict of a torch.nn.Module as arrays."""
    return {name: value.numpy() for name, value in model.state_dict().items()}


def randomize_torch(model: Any, seed: int) -> None:
    """Scales about 1, offsets and means about 0, variances in (0.5, 1.5), kernels that keep the
    variance.
    """
    torch = import_module("torch")
    rng = torch.Generator().manual_seed(seed)
    buffers = [(name, value) for name, value in model.named_buffers() if "running" in name]
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *buffers]:
            if name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=rng) + 0.5)
                continue
            drawn = torch.randn(value.shape, generator=rng)
            if value.ndim > 1:
                # Gates that follow strongly growing maps would enlarge rounding a billion times.
                gain = 0.02 if ".se." in name or ".se_module." in name else 1.5
                value.copy_(drawn * (gain / value[0].numel()) ** 0.5)
            else:
                value.copy_(drawn * 0.2 + (1 if name.endswith("weight") else 0))


def make_cifar_resnet(depth: int, projects: bool) -> Any:
    """A ResNet for CIFAR-10 with akamaster's names (He et al. 2015, section 4.2).

    projects: option B, convolutions as shortcuts where the shape changes; otherwise option A, every
    second position, with zeros as the new channels.
    """
    torch = import_module("torch")
    nn = torch.nn

    class Subsample(nn.Module):
        def __init__(self, channels: int):
            super().__init__()
            self.channels = channels

        def forward(self, x: Any) -> Any:
            x = x[:, :, ::2, ::2]
            zeros = x.new_zeros(len(x), (self.channels - x.shape[1]) // 2, *x.shape[2:])
            return torch.cat([zeros, x, zeros], 1)

    class Block(nn.Module):
        def __init__(self, before: int, channels: int, stride: int):
            super().__init__()
            self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
            self.shortcut = nn.Identity()
            if before != channels and projects:
                conv = nn.Conv2d(before, channels, 1, stride, bias=False)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels))
            elif before != channels:
                self.shortcut = Subsample(channels)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.bn1(self.conv1(x)))
            return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            self.layer1, self.layer2, self.layer3 = (
                nn.Sequential(
                    Block(before, channels, stride),
                    *(Block(channels, channels, 1) for _ in range((depth - 2) // 6 - 1)),
                )
                for before, channels, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
            )
            self.linear = nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.bn1(self.conv1(x)))
            y = self.layer3(self.layer2(self.layer1(y)))
            return self.linear(y.mean((2, 3)))

    return Network()


# Keras


@contextmanager
def _float64() -> Iterator[Any]:
    """Within it, Keras makes layers and inputs of float64."""
    keras = import_library("keras")
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")  # of inputs
    keras.config.set_dtype_policy("float64")
    try:
        yield keras
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def keras_arrays(model: Any) -> dict[str, np.ndarray]:
    """The variables of a Keras model, by its names of them: layer/variable."""
    return {variable.path: np.array(variable.value) for variable in model.weights}


def load_keras(model: Any, arrays: dict[str, np.ndarray]) -> None:
    """Puts arrays into a Keras model by its names, strictly."""
    assert {variable.path for variable in model.weights} == set(arrays)
    for variable in model.weights:
        variable.assign(arrays[variable.path])


def randomize_keras(model: Any, seed: int) -> None:
    """As `randomize_torch` does."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        leaf, shape = variable.path.split("/")[-1], tuple(variable.shape)
        if leaf == "moving_variance":
            value = rng.uniform(0.5, 1.5, shape)
        elif leaf == "kernel":
            value = rng.normal(0, (1.5 / np.prod(shape[:-1])) ** 0.5, shape)
        else:
            value = rng.normal(1 if leaf == "gamma" else 0, 0.2, shape)
        variable.assign(value)


def _run_keras(model: Any, outputs: list[Any], x: np.ndarray) -> list[np.ndarray]:
    keras = import_library("keras")
    part = keras.Model(model.inputs[0], outputs)
    outcome = part(np.moveaxis(x, 1, -1), training=False)
    outcome = outcome if isinstance(outcome, (list, tuple)) else [outcome]
    found = [np.array(each) for each in outcome]
    return [np.moveaxis(each, -1, 1) if each.ndim == 4 else each for each in found]


def _keras_application(name: str, seed: int, **options: Any) -> Theirs:
    """With a classifier these networks have images of one size, so each size has a copy."""

    def create(size: tuple[int, ...]) -> Any:
        with _float64() as keras:
            return getattr(keras.applications, name)(
                weights=None, input_shape=(*size, 3), classifier_activation=None, **options
            )

    model = create((64, 96))
    randomize_keras(model, seed)

    def run(x: np.ndarray) -> list[np.ndarray]:
        same = create(x.shape[2:])
        same.set_weights(model.get_weights())
        last: dict[str, Any] = {}
        for layer in same.layers:
            if layer.name.endswith("_out"):
                last[layer.name.split("_")[0]] = layer.output
        with _float64():
            return _run_keras(same, [same.outputs[0], *last.values()], x)

    return Theirs(model, lambda: keras_arrays(model), run, lambda arrays: load_keras(model, arrays))


def make_small_application(widths: tuple[int, ...], depths: tuple[int, ...], seed: int) -> Theirs:
    """A ResNet of Keras Applications with other widths of its bottlenecks, and no classifier."""
    import_library("keras")
    resnet = import_module("keras.src.applications.resnet")

    def stack(x: Any) -> Any:
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            options = {"stride1": 1} if i == 0 else {}
            x = resnet.stack_residual_blocks_v1(x, width, depth, name=f"conv{i + 2}", **options)
        return x

    with _float64():
        model = resnet.ResNet(
            stack, False, True, include_top=False, weights=None, input_shape=(None, None, 3),
            pooling="avg",
        )  # fmt: skip
    ends = [f"conv{i + 2}_block{depth}_out" for i, depth in enumerate(depths)]
    return _wrap_backbone(model, [model.get_layer(name).output for name in ends], seed)


def make_small_backbone(
    kind: str, stem: tuple[int, ...], widths: tuple[int, ...], depths: tuple[int, ...], seed: int
) -> Theirs:
    """KerasHub's ResNetBackbone with other widths. kind: of its blocks."""
    hub = import_library("keras_hub")
    with _float64():
        model = hub.models.ResNetBackbone(
            input_conv_filters=list(stem),
            input_conv_kernel_sizes=[7] if len(stem) == 1 else [3] * len(stem),
            stackwise_num_filters=list(widths),
            stackwise_num_blocks=list(depths),
            stackwise_num_strides=[1] + [2] * (len(widths) - 1),
            block_type=kind,
            image_shape=(None, None, 3),
        )
    return _wrap_backbone(model, list(model.pyramid_outputs.values()), seed)


def _wrap_backbone(model: Any, stages: list[Any], seed: int) -> Theirs:
    """A Keras model without a classifier: in place of logits, the averages of the last stage."""
    randomize_keras(model, seed)

    def run(x: np.ndarray) -> list[np.ndarray]:
        with _float64():
            maps = _run_keras(model, stages, x)
        return [maps[-1].mean((2, 3)), *maps]

    return Theirs(model, lambda: keras_arrays(model), run, lambda arrays: load_keras(model, arrays))


def _keras_hub(name: str, seed: int, **options: Any) -> Theirs:
    """The classifier of an architecture of `weights.dialects.keras_hub`: KerasHub's presets name
    weights, which are to be downloaded; the backbones are made as the presets say.
    """
    hub = import_library("keras_hub")
    config = DIALECTS["keras-hub"].architecture(name)
    kind = "bottleneck_block" if config.form == "bottleneck" else "basic_block"
    stem = config.stem_widths
    backbone_options = {
        "input_conv_filters": list(stem),
        "input_conv_kernel_sizes": [7] if len(stem) == 1 else [3] * len(stem),
        "stackwise_num_filters": [64, 128, 256, 512],
        "stackwise_num_blocks": list(config.depths),
        "stackwise_num_strides": [1, 2, 2, 2],
        "block_type": f"{kind}_vd" if "_vd" in name else kind,
        "image_shape": (None, None, 3),
    }
    with _float64():
        backbone = hub.models.ResNetBackbone(**{**backbone_options, **options})
        model = hub.models.ResNetImageClassifier(
            backbone=backbone, num_classes=1000, preprocessor=None
        )
        randomize_keras(model, seed)

    def run(x: np.ndarray) -> list[np.ndarray]:
        with _float64():
            maps = _run_keras(backbone, list(backbone.pyramid_outputs.values()), x)
            return [*_run_keras(model, [model.outputs[0]], x), *maps]

    return Theirs(model, lambda: keras_arrays(model), run, lambda arrays: load_keras(model, arrays))
