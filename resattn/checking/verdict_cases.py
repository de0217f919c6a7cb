"""What a verdict on a device compares: which models, in which formats, computed in which way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from resattn.checking import golden
from resattn.checking.draws import random_arrays, random_input
from resattn.checking.problem import Problem, pose
from resattn.checking.rounding import TF32, Exact
from resattn.checking.verdict import LAID_OUT_LAST, Assignment
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
COMPILED_FORMS = ("float64", "float32", "tf32", "mixed_bfloat16")

EXACT_FORMS = ("float64", "float32")
LOWER = tuple(name for form in LOW for name in (f"mixed_{form}", form))


def list_forms(model: str) -> tuple[str, ...]:
    """The formats to compute a model in. Small ones take turns in the low formats."""
    if model in WIDE:
        return (*EXACT_FORMS, TF32, *LOWER)
    return (*EXACT_FORMS, TF32, LOWER[MODELS.index(model) % len(LOWER)])


def list_assignments(
    framework: str, device: str, executions: Iterable[str]
) -> Iterator[Assignment]:
    """What a framework measures on the device of the verdict.

    executions: the ways that the framework has. Every model is computed in the usual one, some in
    the others as well.
    """
    usual = find_usual_way(framework)
    ways = [usual, *(way for way in executions if way != usual)]
    ways += [LAID_OUT_LAST] if framework == "torch" else []
    for way in ways:
        for model in MODELS if way == usual else OTHER_WAYS:
            for form in list_forms(model):
                if way != "compiled" or _is_compiled(framework, model, form):
                    yield Assignment(model, form, device, way)


def list_beside(framework: str) -> Iterator[Assignment]:
    """What a framework measures on the CPU, to be shown beside another device."""
    for model in MODELS:
        for form in list_forms(model) if model in WIDE else EXACT_FORMS:
            if form != TF32:  # no CPU computes in it
                yield Assignment(model, form, "cpu", find_usual_way(framework))


def find_usual_way(framework: str) -> str:
    """As people use the framework."""
    return "compiled" if framework == "jax" else "eager"


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
