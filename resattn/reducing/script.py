"""A reduced case as a script in one framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from resattn.oracle.node import Array
from resattn.reducing.case import FailingCase, format_number, list_parameters
from resattn.reducing.code_jax import JAX
from resattn.reducing.code_keras import KERAS
from resattn.reducing.code_torch import TORCH
from resattn.tracing.computation import StageSpec

# Settings that an expression says, or that change nothing.
SAID = (
    *("kernel", "stride", "padding", "after", "margins", "same", "dilation", "groups", "bias"),
    *("eps", "axes", "before", "training", "of_image", "decay", "channels"),
)
Expression = Callable[[StageSpec, tuple[Array, ...]], "str | None"]


@dataclass(frozen=True)
class Language:
    """How a framework is written in a script.

    imports: lines. wide: lines that float64 needs. array: how a list becomes an array, with {}.
    numpy: how an array becomes one of NumPy, with {}. expressions: by kind of operation.
    """

    imports: tuple[str, ...]
    wide: tuple[str, ...]
    array: str
    numpy: str
    expressions: dict[str, Expression]


CODE_OF = {
    "torch": Language(
        ("import torch", "import torch.nn.functional as F"),
        (),
        "torch.tensor({}, dtype=torch.{})",
        "{}.numpy()",
        TORCH,
    ),
    "jax": Language(
        ("import jax", "import jax.numpy as jnp"),
        ('jax.config.update("jax_enable_x64", True)',),
        "jnp.array({}, jnp.{})",
        "np.asarray({})",
        JAX,
    ),
    "tf": Language(
        ("from keras import ops",),
        (),
        'ops.convert_to_tensor({}, "{}")',
        "ops.convert_to_numpy({})",
        KERAS,
    ),
}


def write_expression(spec: StageSpec, inputs: tuple[Array, ...], framework: str) -> str | None:
    """The expression that computes an operation from `x` and the names of its parameters; None for
    an operation or a setting that cannot be said in one.
    """
    write = CODE_OF[framework].expressions.get(spec.kind)
    unsaid = [name for name, value in spec.settings.items() if name not in SAID and _matters(value)]
    return None if write is None or unsaid else write(spec, inputs)


def _matters(value: object) -> bool:
    return value is not None and value is not False


def write_script(
    case: FailingCase, framework: str, heading: str, cause: str, limit: float
) -> str | None:
    """A script that computes both sides of a case, prints them and asserts that they are equal.

    heading: the first line. cause: what the wrong side does. limit: of the assertion. None where
    the right side cannot be written in the framework.
    """
    language = CODE_OF[framework]
    right = write_expression(case.right, case.inputs, framework)
    if right is None:
        return None
    numbers = {name: _write_array(array, case.dtype) for name, array in case.numbers.items()}
    lines = [f"# {heading}", "# Made by `resattn check --reduce`.", "import numpy as np"]
    lines += [*language.imports, *(language.wide if case.dtype == "float64" else ()), ""]
    for name, text in numbers.items():
        lines.append(f"{name} = {language.array.format(text, case.dtype)}")
    lines.append(f"expected = {language.numpy.format(f'({right})')}")
    lines += [f"# {cause}", *_write_wrong(case, framework, language)]
    lines += [
        'print("expected", expected.tolist())',
        'print("found   ", found.tolist())',
        "assert expected.shape == found.shape, (expected.shape, found.shape)",
        "difference = np.abs(expected - found).max()",
        f'assert difference <= {limit:.0e}, f"they differ by {{difference:.2g}}"',
    ]
    return "\n".join(lines) + "\n"


def _write_wrong(case: FailingCase, framework: str, language: Language) -> list[str]:
    """The lines that make `found`. What no expression says is given by its numbers."""
    wrong = write_expression(case.wrong, case.inputs, framework)
    if wrong is None:
        _, output = case.outputs
        return [f'found = np.array({_write_array(output, case.dtype)}, "{case.dtype}")']
    lines = []
    for leaf, array in list_parameters(case.wrong).items():
        if not np.array_equal(array, case.numbers.get(leaf, np.nan)):
            text = _write_array(array, case.dtype)
            lines.append(f"{leaf} = {language.array.format(text, case.dtype)}")
    return [*lines, f"found = {language.numpy.format(f'({wrong})')}"]


def _write_array(array: Array, dtype: str) -> str:
    """The nested lists of an array, as short as possible."""
    if array.ndim == 0:
        return format_number(float(array), dtype)
    return f"[{', '.join(_write_array(each, dtype) for each in array)}]"
