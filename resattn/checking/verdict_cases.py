"""What a verdict on a device compares: which models, in which formats, computed in which way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from resattn.checking import golden
from resattn.checking.draws import random_arrays, random_input
from resattn.checking.problem import Problem, pose
from resattn.checking.rounding import TF32, Exact
from resattn.checking.verdict import CHANNELS_LAST, Assignment
from weights import BlockConfig, NetworkConfig
from weights.config import Config
from weights.convert import LOW

# With enough channels for the kernels that large models get, such as those of tensor cores.
WIDE: dict[str, tuple[Config, tuple[int, int]]] = {
    "wide block": (BlockConfig(64, 128, 3, 2), (13, 12)),
    "wide network": (
        NetworkConfig(3, 10, (32, 64), (1, 1), stem_kernel_size=3, attention="cbam"),
        (18, 15),
    ),
}
MODELS = (*golden.CASES, *WIDE)
# Also computed in other ways than the usual one: which attention it is matters little there.
OTHER_WAYS = ("network", "wide block")
# torch.compile takes up to a minute for each format of one block on two cores.
COMPILED = {"torch": ("wide block",)}
COMPILED_FORMS = ("float64", "float32", "tf32", "mixed_bfloat16", "float16")

EXACT = ("float64", "float32", TF32)
MIXED = tuple(f"mixed_{form}" for form in LOW)


def list_forms(model: str) -> tuple[str, ...]:
    """The formats to compute a model in. Small ones take turns in the low formats."""
    if model in WIDE:
        return (*EXACT, *MIXED, *LOW)
    turn = MODELS.index(model) % 2
    return (*EXACT, MIXED[turn], LOW[1 - turn])


def list_assignments(
    framework: str, device: str, executions: Iterable[str]
) -> Iterator[Assignment]:
    """What a framework measures on a device, and on the CPU beside it.

    executions: the ways that the framework has. Everything is computed in the usual one, some
    models in the others as well.
    """
    ways = ["compiled" if framework == "jax" else "eager"]
    ways += [way for way in executions if way not in ways]
    ways += [CHANNELS_LAST] if framework == "torch" else []
    for way in ways:
        for model in MODELS if way == ways[0] else OTHER_WAYS:
            for form in list_forms(model):
                if way != "compiled" or _is_compiled(framework, model, form):
                    yield Assignment(model, form, device, way)
    if device != "cpu":
        for model in MODELS:
            for form in list_forms(model):
                if form != TF32:  # no CPU computes in it
                    yield Assignment(model, form, "cpu", ways[0])


def _is_compiled(framework: str, model: str, form: str) -> bool:
    """Whether to take the time to compile a model in a format."""
    if framework not in COMPILED:
        return True
    return model in COMPILED[framework] and form in COMPILED_FORMS


def pose_case(model: str, form: str) -> Problem:
    """The problem of a model in a format, with what its rounding explains, without the passes of
    the oracle: to be sent to another process.
    """
    if model in WIDE:
        config, size = WIDE[model]
        x = random_input(config, size, 4, "float32", seed=1)
        posed = pose(config, random_arrays(config, "float32", 1), x, 1, form)
    elif form in ("float64", "float32"):
        posed = golden.read_problem(model, form)
    else:
        exact = golden.read_problem(model, "float32").exact
        posed = pose(exact.graph, exact.arrays, exact.x, 0, form)
    exact = posed.exact
    results = (exact.quantities, exact.scales)
    sent = Problem(
        Exact(exact.graph, exact.arrays, exact.x, exact.cotangent, results), form, posed.seed
    )
    vars(sent)["rounding"] = posed.rounding  # where `cached_property` keeps it
    return sent
