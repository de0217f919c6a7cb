"""Other implementations of a block or a network, with the weights of ours."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from resattn.benchmarks.libraries import import_library
from weights.attention import hidden_width
from weights.config import BlockConfig, Config
from weights.convert import Arrays
from weights.errors import MissingFramework
from weights.frameworks import FRAMEWORKS
from weights.live import LiveModel, adapter, build, part
from weights.schema import schema

BENCH_HELP = 'pip install "resattn[bench]"'


def require_library(package: str) -> Any:
    """A library of the extra `bench`, imported. Raises MissingFramework."""
    try:
        return import_library(package)
    except ModuleNotFoundError as error:
        message = f"{package} is not installed: {BENCH_HELP}"
        raise MissingFramework(message, name=error.name) from None


# The obvious native implementation


def make_native(framework: str, config: Config, arrays: Arrays, device: str) -> Any:
    """The model of `native_torch`, `native_jax` or `native_tf`, in evaluation mode."""
    adapter(framework)  # says what to install where it is missing
    module = import_module(f"resattn.benchmarks.native_{framework}")
    with _device_scope(framework, device):
        model = module.native_model(config)
        if framework == "tf":  # Keras makes the variables when it sees an image
            model(np.zeros((1, 32, 32, config.in_channels), "float32"))
    row, parameters = FRAMEWORKS[framework], schema(config)
    leaves = {each.name: _walk(model, row.path(each)) for each in parameters}
    LiveModel(model, framework, parameters, leaves).load(arrays)
    adapter(framework).set_training(model, False)
    return model


def _device_scope(framework: str, device: str) -> AbstractContextManager[Any]:
    """Within it, new models are made on a device."""
    if framework == "tf":
        scope = import_module("keras").device(part("tf", "bridge.native").keras_device(device))
    elif framework == "jax":
        jax = import_module("jax")
        scope = jax.default_device(jax.devices(device)[0])
    else:
        scope = import_module("torch").device(device)
    found: AbstractContextManager[Any] = scope
    return found


def _walk(model: Any, path: str) -> Any:
    for name in path.split("."):
        model = model[int(name)] if name.isdigit() else getattr(model, name)
    return model


# timm


def make_timm(config: Config, arrays: Arrays, device: str) -> Any:
    """timm's block or ResNet, in evaluation mode. Raises MissingFramework."""
    adapter("torch")
    require_library("timm")
    resnet, layers = (import_module(f"timm.{name}") for name in ("models.resnet", "layers"))
    make = _timm_block if isinstance(config, BlockConfig) else _timm_network
    model = make(config, resnet, _timm_gate(config, layers))
    tensors = _as_tensors(arrays)
    unread = model.load_state_dict({_timm_name(n): t for n, t in tensors.items()}, strict=False)
    assert not unread.unexpected_keys, unread
    assert all(key.endswith("num_batches_tracked") for key in unread.missing_keys), unread
    return model.to(device, tensors[next(iter(tensors))].dtype).eval()


def _as_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    native = part("torch", "bridge.native")
    return {name: native.from_numpy(array) for name, array in arrays.items()}


def _timm_gate(config: Config, layers: Any) -> Callable[..., Any] | None:
    if config.attention == "none":
        return None
    return lambda channels, **options: layers.SEModule(
        channels, rd_channels=hidden_width(channels), **options
    )


def _timm_block(config: Any, resnet: Any, gate: Callable[..., Any] | None) -> Any:
    before, width, stride = config.in_channels, config.out_channels, config.stride[0]
    shortcut = (
        resnet.downsample_conv(before, width, kernel_size=1, stride=stride)
        if config.projects
        else None
    )
    return resnet.BasicBlock(before, width, stride, shortcut, attn_layer=gate)


def _timm_network(config: Any, resnet: Any, gate: Callable[..., Any] | None) -> Any:
    block = resnet.BasicBlock if config.form == "basic" else resnet.Bottleneck
    return resnet.ResNet(
        block,
        config.depths,
        num_classes=config.classes,
        block_args={"attn_layer": gate},
    )


def _timm_name(name: str) -> str:
    """timm's name of a parameter."""
    name = re.sub(r"^stages\.(\d)", lambda found: f"layer{int(found[1]) + 1}", name)
    name = re.sub(r"^stem\.(conv|bn)", r"\g<1>1", name)
    name = re.sub(r"^classifier", "fc", name)
    return re.sub(
        r"(^|\.)attention\.", r"\1se.", re.sub(r"(^|\.)shortcut\.", r"\1downsample.", name)
    )


# ONNX Runtime


def make_session(
    config: Config, arrays: Arrays, x: np.ndarray, threads: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Our model in PyTorch, exported, in ONNX Runtime on CPU, which folds the batch norms.

    Raises MissingFramework.
    """
    adapter("torch")
    for package in ("onnx", "onnxscript"):
        require_library(package)
    runtime, torch = require_library("onnxruntime"), import_module("torch")
    model = build(config, arrays, "torch", "cpu")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx warns about parts of PyTorch that it uses
        file = str(Path(folder) / "model.onnx")
        torch.onnx.export(model, (torch.from_numpy(x),), file, dynamo=True, verbose=False)
        session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]
