"""The timings measure what they say: two implementations of one thing, in turns."""

from __future__ import annotations

import numpy as np
import pytest

from resattn.benchmarks.attention import time_attention
from resattn.benchmarks.plain_attention import PASSES, plain_layers, plain_module
from resattn.benchmarks.rounds import time_rounds
from resattn.benchmarks.training_step import StepCase, time_training_steps
from resattn.checking.backends import implementation, native_arguments
from weights import BlockConfig
from weights.attention import ATTENTION
from weights.live import part


def test_rounds_are_interleaved():
    calls = []
    works = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = time_rounds(works, rounds=3, warm_up=1)
    assert calls == list("abababab")
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3}
    assert all(second >= 0 for seconds in times.values() for second in seconds)


def test_every_kind_has_a_plain_version():
    assert [kind for kind in ATTENTION if ATTENTION[kind].built_in] == ["none", *PASSES]


@pytest.mark.parametrize("kind", PASSES)
@pytest.mark.parametrize("name", ["jax", "tf"])
def test_a_plain_module_is_one_of_its_kind(request, name, kind):
    """As many parameters as ours, and an output of the shape of the input."""
    request.getfixturevalue({"jax": "jax", "tf": "keras"}[name])
    size, x = (6, 5), np.ones((2, 6, 5, 16), "float32")
    module = plain_module(name, kind, 16, size)
    options = {"size": size} if kind == "mhsa" else {}
    our = implementation(name).AttentionModule(16, kind, options, **native_arguments(name))
    assert module(x).shape == x.shape
    if name == "jax":
        import jax
        from flax import nnx

        counts = [sum(leaf.size for leaf in jax.tree.leaves(nnx.state(each, nnx.Param)))
                  for each in (module, our)]  # fmt: skip
    else:
        counts = [sum(v.value.shape.num_elements() if hasattr(v.value.shape, "num_elements")
                      else int(np.prod(v.value.shape)) for v in each.trainable_variables)
                  for each in (module, our)]  # fmt: skip
    assert counts[0] == counts[1]
    assert all(layer[0] != "" for layer in plain_layers(kind, 16, size).values())


def test_attention_timings(framework, request):
    if framework == "torch":
        request.getfixturevalue("timm")
    kinds = ("cbam", "scse") if framework == "torch" else ("cbam",)
    found = time_attention(framework, kinds, batch=2, channels=16, size=(6, 5), rounds=2)
    assert [(each.kind, each.direction) for each in found] == [
        (kind, direction) for kind in kinds for direction in ("forward", "gradient")
    ]
    authors = {"cbam": "timm" if framework == "torch" else "plain", "scse": "plain"}
    assert all(each.theirs == authors[each.kind] for each in found)
    assert all(len(each.ours_ms) == len(each.theirs_ms) == 2 and each.ratio > 0 for each in found)


def test_training_step_timings(framework, request):
    if framework == "torch":
        request.getfixturevalue("timm")
    case = StepCase("small", BlockConfig(64, 64, conv_bias=False), (2, 64, 4, 4))
    (found,) = time_training_steps(framework, (case,), rounds=2)
    assert (found.case, found.framework) == ("small", framework)
    assert len(found.ours_ms) == len(found.theirs_ms) == 2
    assert found.ratio > 0
    assert part(framework, "training").make_train_step
