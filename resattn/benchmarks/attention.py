"""How fast each attention kind is beside a native module of the same kind: timm's in PyTorch where
it has one, else the one of `plain_attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import Any

import numpy as np

from resattn.benchmarks.libraries import import_library
from resattn.benchmarks.plain_attention import PASSES, plain_module
from resattn.benchmarks.rounds import time_rounds
from resattn.checking.backends import implementation, native_arguments
from weights.attention import hidden_width

TimedRun = Callable[[], object]


@dataclass(frozen=True)
class AttentionTiming:
    """The milliseconds of each round, in the order of the rounds.

    theirs: who wrote the other module, "timm" or "plain". direction: "forward", in evaluation, or
    "gradient", a pass in training with the gradients of the input and of every parameter. That of
    the output is random: from one that is 1 everywhere, XLA makes sums that it has already.
    """

    kind: str
    framework: str
    theirs: str
    direction: str
    ours_ms: tuple[float, ...]
    theirs_ms: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Our median by theirs."""
        return median(self.ours_ms) / median(self.theirs_ms)


def time_attention(
    framework: str,
    kinds: Sequence[str] = tuple(PASSES),
    batch: int = 8,
    channels: int = 128,
    size: tuple[int, int] = (28, 28),
    rounds: int = 20,
) -> list[AttentionTiming]:
    """Two timings for each kind, in float32 on the device that the framework takes by itself.

    PyTorch runs eager, Flax under jax.jit, Keras compiled as by its `fit`.
    """
    passes = {"torch": _torch_passes, "jax": _flax_passes, "tf": _keras_passes}[framework]
    draw = np.random.default_rng(0)
    shape = (batch, *size, channels)
    x, slope = (draw.normal(size=shape).astype("float32") for _ in range(2))
    found = []
    for kind in kinds:
        options = {"size": size} if kind == "mhsa" else {}
        our = implementation(framework).AttentionModule(
            channels, kind, options, **native_arguments(framework)
        )
        author, their = _other_module(framework, kind, channels, size)
        both = passes(our, x, slope), passes(their, x, slope)
        for direction in ("forward", "gradient"):
            works = {name: run[direction] for name, run in zip("ab", both, strict=True)}
            times = time_rounds(works, rounds)
            ours, theirs = (tuple(1000 * each for each in times[name]) for name in "ab")
            found.append(AttentionTiming(kind, framework, author, direction, ours, theirs))
    return found


def _other_module(
    framework: str, kind: str, channels: int, size: tuple[int, int]
) -> tuple[str, Any]:
    if framework == "torch" and kind in _TIMM:
        import_library("timm")
        file, make = _TIMM[kind]
        return "timm", make(import_module(f"timm.layers.{file}"), channels, size)
    return "plain", plain_module(framework, kind, channels, size)


# timm's files and modules, with the widths and options that are the defaults of ours.
_TIMM: dict[str, tuple[str, Callable[[Any, int, tuple[int, int]], Any]]] = {
    "se": ("squeeze_excite", lambda t, c, size: t.SEModule(c, rd_channels=hidden_width(c))),
    "ese": ("squeeze_excite", lambda t, c, size: t.EffectiveSEModule(c)),
    "eca": ("eca", lambda t, c, size: t.EcaModule(c)),
    "cbam": (
        "cbam",
        lambda t, c, size: t.CbamModule(c, rd_channels=hidden_width(c), mlp_bias=True),
    ),
    "ge": ("gather_excite", lambda t, c, size: t.GatherExcite(c, use_mlp=False)),
    "gc": (
        "global_context",
        lambda t, c, size: t.GlobalContext(
            c, fuse_add=True, fuse_scale=False, rd_channels=hidden_width(c, kind="gc")
        ),
    ),
    "coordinate": (
        "coord_attn",
        lambda t, c, size: t.CoordAttn(
            c, rd_channels=hidden_width(c, minimum=8, kind="coordinate"), bias=True
        ),
    ),
    "nonlocal": (
        "non_local_attn",
        lambda t, c, size: t.NonLocalAttn(
            c, use_scale=False, rd_channels=hidden_width(c, kind="nonlocal")
        ),
    ),
    "mhsa": (
        "bottleneck_attn",
        lambda t, c, size: t.BottleneckAttn(c, feat_size=size, scale_pos_embed=True),
    ),
}


def _torch_passes(module: Any, x: np.ndarray, slope: np.ndarray) -> dict[str, TimedRun]:
    torch: Any = import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = module.to(device)
    image, cotangent = (
        torch.from_numpy(each).permute(0, 3, 1, 2).contiguous().to(device) for each in (x, slope)
    )
    wanted = image.clone().requires_grad_()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def forward() -> object:
        module.eval()
        with torch.no_grad():
            y = module(image)
        return wait() or y

    def gradient() -> object:
        module.train()
        y = module(wanted)
        slopes = torch.autograd.grad(y, [wanted, *module.parameters()], cotangent)
        return wait() or slopes

    return {"forward": forward, "gradient": gradient}


def _flax_passes(module: Any, x: np.ndarray, slope: np.ndarray) -> dict[str, TimedRun]:
    jax, nnx = import_module("jax"), import_module("flax.nnx")
    image, cotangent = jax.device_put(x), jax.device_put(slope)
    module.eval()
    graph, state = nnx.split(module)
    run = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
    module.train()
    training, parameters, rest = nnx.split(module, nnx.Param, ...)

    def total(parameters: Any, rest: Any, x: Any, cotangent: Any) -> tuple[Any, Any]:
        merged = nnx.merge(training, parameters, rest)
        return (merged(x) * cotangent).sum(), nnx.state(merged, nnx.BatchStat)

    # Flax changes statistics only at the level of tracing where they are made: in the inner jit.
    slopes = jax.jit(jax.grad(jax.jit(total), argnums=(0, 2), has_aux=True))
    return {
        "forward": lambda: jax.block_until_ready(run(state, image)),
        "gradient": lambda: jax.block_until_ready(slopes(parameters, rest, image, cotangent)),
    }


def _keras_passes(module: Any, x: np.ndarray, slope: np.ndarray) -> dict[str, TimedRun]:
    native: Any = import_module("tf_impl.bridge.native")
    keras: Any = import_module("keras")
    image, cotangent = (native.to_native(module, np.moveaxis(each, -1, 1)) for each in (x, slope))
    module(image, training=False)  # Keras' own layers make their variables at the first call
    variables = list(module.trainable_variables)

    def slopes(x: Any, cotangent: Any) -> Any:
        def total(x: Any) -> Any:
            return keras.ops.sum(module(x, training=True) * cotangent)

        return native.pullback(module, total, variables, x)[1:]

    run = native.compile_update(lambda x: module(x, training=False), module.variables)
    step = native.compile_update(slopes, module.variables)
    return {
        "forward": lambda: native.to_canonical(run(image)),
        "gradient": lambda: native.to_canonical(step(image, cotangent)[0]),
    }
