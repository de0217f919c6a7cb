"""Each attention kind as a user of a framework would write it: native layers, native functions,
one forward pass for all frameworks. What ours are compared with in speed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from weights.attention import eca_kernel_size, hidden_width

# Layers by name: "conv" with in, out, kernel size, dilation, bias; "norm" and "layer_norm" with
# channels; "conv1d" with kernel size; "table" with its shape.
Layers = dict[str, tuple[Any, ...]]


def plain_layers(kind: str, channels: int, size: tuple[int, int]) -> Layers:
    """The layers of a kind with its default options. size: of the map, for mhsa."""
    least = 8 if kind == "coordinate" else None
    hidden = hidden_width(channels, minimum=least, kind=kind) if kind in _REDUCED else channels
    into, out = ("conv", channels, hidden, 1, 1, True), ("conv", hidden, channels, 1, 1, True)
    gate, inner = ("conv", 2, 1, 7, 1, False), ("conv", hidden, hidden, 3, 4, True)
    layers: dict[str, Layers] = {
        "se": {"fc1": into, "fc2": out},
        "ese": {"fc": into},
        "eca": {"conv": ("conv1d", eca_kernel_size(channels, None, 2, 1))},
        "cbam": {"fc1": into, "fc2": out, "conv": gate, "bn": ("norm", 1)},
        "bam": {
            "fc1": into,
            "bn": ("norm", hidden),
            "fc2": out,
            "conv0": into,
            "bn0": ("norm", hidden),
            "conv1": inner,
            "bn1": ("norm", hidden),
            "conv2": inner,
            "bn2": ("norm", hidden),
            "conv3": ("conv", hidden, 1, 1, 1, True),
        },
        "scse": {"fc1": into, "fc2": out, "conv": ("conv", channels, 1, 1, 1, True)},
        "ge": {},
        "gc": {
            "conv": ("conv", channels, 1, 1, 1, True),
            "fc1": into,
            "fc2": out,
            "ln": ("layer_norm", hidden),
        },
        "simam": {},
        "coordinate": {"conv1": into, "bn": ("norm", hidden), "conv_h": out, "conv_w": out},
        "triplet": {
            name: layer
            for branch in ("cw", "hc", "hw")
            for name, layer in ((f"{branch}_conv", gate), (f"{branch}_bn", ("norm", 1)))
        },
        "nonlocal": {"t": into, "p": into, "g": into, "z": out, "bn": ("norm", channels)},
        "mhsa": {
            "qkv": ("conv", channels, 3 * channels, 1, 1, False),
            "rows": ("table", 2 * size[0] - 1, channels // _HEADS),
            "cols": ("table", 2 * size[1] - 1, channels // _HEADS),
        },
    }
    return layers[kind]


_REDUCED = ("se", "cbam", "bam", "scse", "gc", "coordinate", "nonlocal")
_HEADS = 4


# Forward passes. f: functions of the framework, see `_torch_functions`. m: the layers by name.


def _se(f: Any, m: Any, x: Any) -> Any:
    return x * f.sigmoid(m["fc2"](f.relu(m["fc1"](f.mean(x, f.positions)))))


def _ese(f: Any, m: Any, x: Any) -> Any:
    return x * f.hard_sigmoid(m["fc"](f.mean(x, f.positions)))


def _eca(f: Any, m: Any, x: Any) -> Any:
    averages = f.mean(x, f.positions)
    gate = m["conv"](f.reshape(averages, (x.shape[0], x.shape[f.channels], 1)))
    return x * f.sigmoid(f.reshape(gate, averages.shape))


def _cbam(f: Any, m: Any, x: Any) -> Any:
    pooled = (f.mean(x, f.positions), f.maximum(x, f.positions))
    first, second = (m["fc2"](f.relu(m["fc1"](y))) for y in pooled)
    x = x * f.sigmoid(first + second)
    both = f.concatenate([f.mean(x, f.channels), f.maximum(x, f.channels)], f.channels)
    return x * f.sigmoid(m["bn"](m["conv"](both)))


def _bam(f: Any, m: Any, x: Any) -> Any:
    channel = m["fc2"](f.relu(m["bn"](m["fc1"](f.mean(x, f.positions)))))
    y = x
    for number in range(3):
        y = f.relu(m[f"bn{number}"](m[f"conv{number}"](y)))
    return x * (1 + f.sigmoid(channel + m["conv3"](y)))


def _scse(f: Any, m: Any, x: Any) -> Any:
    return _se(f, m, x) + x * f.sigmoid(m["conv"](x))


def _ge(f: Any, m: Any, x: Any) -> Any:
    return x * f.sigmoid(f.mean(x, f.positions))


def _gc(f: Any, m: Any, x: Any) -> Any:
    batch, rows, cols, channels = x.shape
    weights = f.softmax(f.reshape(m["conv"](x), (batch, 1, rows * cols)))
    context = f.reshape(weights @ f.reshape(x, (batch, rows * cols, channels)), (batch, 1, 1, -1))
    return x + m["fc2"](f.relu(m["ln"](m["fc1"](context))))


def _simam(f: Any, m: Any, x: Any) -> Any:
    count = x.shape[f.positions[0]] * x.shape[f.positions[1]]
    squares = (x - f.mean(x, f.positions)) ** 2
    variance = f.mean(squares, f.positions) * (count / (count - 1))
    return x * f.sigmoid(squares / (4 * (variance + 1e-4)) + 0.5)


def _coordinate(f: Any, m: Any, x: Any) -> Any:
    rows, cols = f.positions
    y = f.concatenate([f.mean(x, cols), f.swap(f.mean(x, rows), rows, cols)], rows)
    y = f.hard_swish(m["bn"](m["conv1"](y)))
    of_rows, of_cols = y[:, : x.shape[rows]], f.swap(y[:, x.shape[rows] :], rows, cols)
    return x * f.sigmoid(m["conv_w"](of_cols)) * f.sigmoid(m["conv_h"](of_rows))


def _triplet(f: Any, m: Any, x: Any) -> Any:
    def branch(name: str, x: Any) -> Any:
        pooled = f.concatenate([f.maximum(x, f.channels), f.mean(x, f.channels)], f.channels)
        return x * f.sigmoid(m[f"{name}_bn"](m[f"{name}_conv"](pooled)))

    turned = [
        f.swap(branch(name, f.swap(x, f.channels, axis)), f.channels, axis)
        for name, axis in zip(("cw", "hc"), f.positions, strict=True)
    ]
    return (turned[0] + turned[1] + branch("hw", x)) / 3


def _non_local(f: Any, m: Any, x: Any) -> Any:
    batch, rows, cols, _ = x.shape
    query, key, value = (f.reshape(m[name](x), (batch, rows * cols, -1)) for name in "tpg")
    y = f.softmax(query @ f.swap(key, 1, 2)) @ value
    return x + m["bn"](m["z"](f.reshape(y, (batch, rows, cols, -1))))


def _mhsa(f: Any, m: Any, x: Any) -> Any:
    batch, rows, cols, channels = x.shape
    width = channels // _HEADS
    parts = f.reshape(m["qkv"](x), (batch, rows, cols, 3, _HEADS, width))
    query, key, value = parts[..., 0, :, :] * width**-0.5, parts[..., 1, :, :], parts[..., 2, :, :]
    logits = f.einsum("bxyhd,bpqhd->bhxypq", query, key)
    along = [
        f.take(m[name], f.arange(n)[None] - f.arange(n)[:, None] + n - 1)
        for name, n in (("rows", rows), ("cols", cols))
    ]
    logits = logits + f.einsum("bxyhd,xpd->bhxyp", query, along[0])[..., None]
    logits = logits + f.einsum("bxyhd,yqd->bhxyq", query, along[1])[..., None, :]
    weights = f.softmax(f.reshape(logits, (batch, _HEADS, rows * cols, rows * cols)))
    y = f.einsum("bhnm,bmhd->bnhd", weights, f.reshape(value, (batch, -1, _HEADS, width)))
    return f.reshape(y, x.shape)


PASSES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "se": _se,
    "ese": _ese,
    "eca": _eca,
    "cbam": _cbam,
    "bam": _bam,
    "scse": _scse,
    "ge": _ge,
    "gc": _gc,
    "simam": _simam,
    "coordinate": _coordinate,
    "triplet": _triplet,
    "nonlocal": _non_local,
    "mhsa": _mhsa,
}


# The frameworks


def plain_module(framework: str, kind: str, channels: int, size: tuple[int, int]) -> Any:
    """A new native module of a kind. In PyTorch only the kinds that timm does not have."""
    make = {"torch": _torch_module, "jax": _flax_module, "tf": _keras_module}[framework]
    return make(PASSES[kind], plain_layers(kind, channels, size))


def _torch_module(run: Callable[..., Any], layers: Layers) -> Any:
    torch: Any = import_module("torch")
    nn: Any = torch.nn
    makers: dict[str, Any] = {
        "conv": lambda i, o, k, d, b: nn.Conv2d(i, o, k, padding=d * (k // 2), dilation=d, bias=b),
        "norm": nn.BatchNorm2d,
    }
    functions = SimpleNamespace(
        channels=1,
        positions=(2, 3),
        mean=lambda x, axes: x.mean(axes, keepdim=True),
        maximum=lambda x, axes: x.amax(axes, keepdim=True),
        relu=torch.relu,
        sigmoid=torch.sigmoid,
        concatenate=torch.cat,
        swap=torch.swapaxes,
    )

    class Plain(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            made = {name: makers[layer[0]](*layer[1:]) for name, layer in layers.items()}
            self.parts = nn.ModuleDict(made)

        def forward(self, x: Any) -> Any:
            return run(functions, self.parts, x)

    return Plain()


def _flax_module(run: Callable[..., Any], layers: Layers) -> Any:
    jax, jnp = import_module("jax"), import_module("jax.numpy")
    nnx: Any = import_module("flax.nnx")
    rngs = nnx.Rngs(0)
    makers: dict[str, Any] = {
        "conv": lambda i, o, k, d, b: nnx.Conv(
            i, o, (k, k), kernel_dilation=d, use_bias=b, rngs=rngs
        ),
        "conv1d": lambda k: nnx.Conv(1, 1, (k,), use_bias=False, rngs=rngs),
        "norm": lambda c: nnx.BatchNorm(c, momentum=0.9, rngs=rngs),
        "layer_norm": lambda c: nnx.LayerNorm(c, rngs=rngs),
        "table": lambda *shape: nnx.Param(jax.random.normal(rngs.params(), shape)),
    }
    functions = SimpleNamespace(
        channels=3,
        positions=(1, 2),
        mean=lambda x, axes: x.mean(axes, keepdims=True),
        maximum=lambda x, axes: x.max(axes, keepdims=True),
        relu=nnx.relu,
        sigmoid=nnx.sigmoid,
        hard_sigmoid=nnx.hard_sigmoid,
        hard_swish=nnx.hard_swish,
        softmax=nnx.softmax,
        concatenate=jnp.concatenate,
        swap=jnp.swapaxes,
        reshape=jnp.reshape,
        einsum=jnp.einsum,
        arange=jnp.arange,
        take=lambda table, index: table[...][index],
    )

    class Plain(nnx.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            for name, layer in layers.items():
                setattr(self, name, makers[layer[0]](*layer[1:]))

        def __call__(self, x: Any) -> Any:
            return run(functions, vars(self), x)

    return Plain()


def _keras_module(run: Callable[..., Any], layers: Layers) -> Any:
    keras: Any = import_module("keras")
    ops: Any = keras.ops
    own: Any = keras.layers
    makers: dict[str, Any] = {
        "conv": lambda i, o, k, d, b: own.Conv2D(o, k, padding="same", dilation_rate=d, use_bias=b),
        "conv1d": lambda k: own.Conv1D(1, k, padding="same", use_bias=False),
        "norm": lambda c: own.BatchNormalization(momentum=0.9),
        "layer_norm": lambda c: own.LayerNormalization(),
    }
    functions = SimpleNamespace(
        channels=3,
        positions=(1, 2),
        mean=lambda x, axes: ops.mean(x, axes, keepdims=True),
        maximum=lambda x, axes: ops.max(x, axes, keepdims=True),
        relu=ops.relu,
        sigmoid=ops.sigmoid,
        hard_sigmoid=ops.hard_sigmoid,
        hard_swish=ops.hard_silu,
        softmax=ops.softmax,
        concatenate=ops.concatenate,
        swap=ops.swapaxes,
        reshape=ops.reshape,
        einsum=ops.einsum,
        arange=ops.arange,
        take=lambda table, index: ops.take(table, index, axis=0),
    )

    class Plain(own.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.parts = {
                name: self.add_weight(shape=layer[1:]) if layer[0] == "table"
                else makers[layer[0]](*layer[1:])
                for name, layer in layers.items()
            }  # fmt: skip

        def call(self, x: Any) -> Any:
            return run(functions, self.parts, x)

    return Plain()
