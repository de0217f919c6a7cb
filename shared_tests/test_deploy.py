"""deploy(): the same output as the oracle's, in float64 and float32, and the model as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from resattn.checking.backends import Backend, implementation, precise
from resattn.checking.cases import KINDS_AND_OPTIONS, attention_block
from resattn.checking.crosscheck import judge_output
from resattn.checking.draws import random_arrays
from resattn.checking.problem import draw_problem
from shared_tests.published_cases import BOTTLENECKS, NETWORKS, VARIANTS
from weights import BlockConfig, NetworkConfig, export, fold, read, save
from weights.errors import ModelError
from weights.fold import fold_model
from weights.live import part

CHANNELS = {"channels": (4, 6), "size": (9, 8)}
OPTIONS = [
    pytest.param(attention_block(kind, options), id=f"{kind} {number}")
    for kind, choices in KINDS_AND_OPTIONS.items()
    for number, options in enumerate(choices)
]
KINDS = [pytest.param(attention_block(kind, choices[-1]), id=kind)
         for kind, choices in KINDS_AND_OPTIONS.items()]  # fmt: skip
PUBLISHED = {**VARIANTS, **BOTTLENECKS, **NETWORKS}


def infer(framework, function, x):
    """The output of a deployed function for canonical images."""
    native = part(framework, "bridge.native")
    given = np.moveaxis(x, 1, -1) if framework != "torch" else x
    if framework == "torch":
        given = native.from_numpy(given)
    elif framework == "tf":
        given = native.ops.convert_to_tensor(given)
    return native.to_canonical(function(given))


def check_deployed(framework, config, size, dtype):
    problem = draw_problem(config, random_arrays(config, dtype), size, 2, dtype)
    with precise((framework,), dtype):
        model = Backend(framework, "cpu").build(config, problem.arrays)
        output = infer(framework, implementation(framework).deploy(model), problem.x)
    assert output.dtype == dtype
    row = judge_output(problem, output, framework)
    assert row.ok, row


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("config", KINDS)
def test_every_kind(framework, config, dtype):
    check_deployed(framework, config, (9, 8), dtype)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_folded(framework, name):
    """Folded models, uncompiled: what is compiled is what `test_every_kind` compiles."""
    config, size = PUBLISHED[name]
    problem = draw_problem(config, random_arrays(config, "float64"), size, 2, "float64")
    with precise((framework,), "float64"):
        model = Backend(framework, "cpu").build(config, problem.arrays)
        output = part(framework, "bridge.adapter").forward(fold_model(model), problem.x)
    row = judge_output(problem, output, framework)
    assert row.ok, row
