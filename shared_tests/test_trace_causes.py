"""Every way to make every known mistake is found, in stages of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from resattn.tracing.causes import CAUSES, apply_causes
from resattn.tracing.computation import FORMULAS, StageSpec, compute
from resattn.tracing.explanations import find_explanations, measure_misfit


def make_specs():
    """A stage of every kind with its inputs, of distinct sizes."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(0.3, 1, shape)

    norm = {
        "weight": normal(5),
        "bias": normal(5),
        "running_mean": normal(5),
        "running_var": rng.uniform(1e-4, 2, 5),
    }
    conv = {"stride": (2, 2), "padding": (1, 1), "dilation": 1, "groups": 1}
    mapped = normal(3, 5, 8, 6)
    kernel = {"weight": normal(4, 4, 3, 3), "bias": normal(4)}
    return {
        "input": (StageSpec("input", {}, {"channels": 3}), (rng.uniform(0, 1, (3, 3, 6, 5)),)),
        "convolution": (StageSpec("convolution", kernel, conv), (normal(3, 4, 8, 6),)),
        "linear": (
            StageSpec("linear", {"weight": normal(12, 12), "bias": normal(12)}),
            (normal(5, 12),),
        ),
        "batch_norm": (StageSpec("batch_norm", norm, {"eps": 1e-5, "training": False}), (mapped,)),
        "batch norm in training": (
            StageSpec("batch_norm", norm, {"eps": 1e-5, "training": True}),
            (mapped / 30,),
        ),
        "layer_norm": (
            StageSpec("layer_norm", {"weight": normal(5), "bias": normal(5)}, {"eps": 1e-5}),
            (mapped / 30,),
        ),
        **{
            kind: (StageSpec(kind), (5 * mapped,))
            for kind in ("relu", "sigmoid", "hard_sigmoid", "hard_swish")
        },
        "shortcut": (
            StageSpec("convolution", {"weight": normal(4, 4, 1, 1)}, {**conv, "padding": (0, 0)}),
            (normal(3, 4, 8, 6),),
        ),
        "sum": (StageSpec("sum"), (mapped, normal(3, 5, 8, 6))),
        "product": (StageSpec("product"), (mapped, rng.uniform(0.2, 0.8, (3, 5, 1, 1)))),
        "max_pool": (
            StageSpec("max_pool", {}, {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}),
            (mapped,),
        ),
        "grouped": (
            StageSpec("convolution", {"weight": normal(6, 2, 3, 3)}, {**conv, "groups": 2}),
            (normal(3, 4, 8, 6),),
        ),
        "pad": (StageSpec("pad", {}, {"before": (0, 1), "after": (1, 1)}), (mapped,)),
        "flatten": (StageSpec("flatten"), (normal(3, 5, 1, 1),)),
        "group_norm": (
            StageSpec(
                "group_norm",
                {"weight": normal(6), "bias": normal(6)},
                {"eps": 1e-5, "groups": 2, "training": False},
            ),
            (normal(3, 6, 4, 5) / 30,),
        ),
        "max_pool after": (
            StageSpec(
                "max_pool",
                {},
                {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 0), "after": (1, 1)},
            ),
            (mapped,),
        ),
        "average_pool": (
            StageSpec("average_pool", {}, {"kernel": (2, 2), "stride": (2, 2), "after": (1, 1)}),
            (normal(3, 5, 7, 5),),
        ),
        "blur_pool": (StageSpec("blur_pool", {}, {"stride": (2, 2)}), (mapped,)),
        "subsample": (
            StageSpec("subsample", {}, {"stride": (2, 2), "before": 1, "after": 2}),
            (mapped,),
        ),
        "average": (StageSpec("average", {}, {"axes": ("rows", "cols")}), (mapped,)),
        "maximum": (StageSpec("maximum", {}, {"axes": ("channels",)}), (mapped,)),
        "running mean": (
            StageSpec("running mean", {}, {"decay": 0.9}),
            (normal(5), normal(5), np.float64(24)),
        ),
        "running variance": (
            StageSpec("running variance", {}, {"decay": 0.9}),
            (rng.uniform(0.5, 2, 5), rng.uniform(0.5, 2, 5), np.float64(24)),
        ),
    }


SPECS = make_specs()
WAYS = [
    (kind, cause.name, words)
    for kind, (spec, _) in SPECS.items()
    for cause, words, _ in apply_causes(spec)
]


def test_every_cause_is_planted():
    assert {cause for _, cause, _ in WAYS} == {cause.name for cause in CAUSES}
    # No model has the last one: it is what an edit puts in the place of a shortcut.
    assert {spec.kind for spec, _ in SPECS.values()} == set(FORMULAS) - {"padded channels"}


@pytest.mark.parametrize("kind", SPECS)
def test_every_way_of_every_cause(kind):
    """Each way is found; another cause is named only if it computes the same."""
    spec, inputs = SPECS[kind]
    right = compute(spec, inputs)
    assert (
        find_explanations(spec, inputs, (right + 0.01 * right**2).astype("f"), 2e-6, pairs=False)
        == []
    )
    for cause, words, planted in apply_causes(spec):
        actual = compute(planted, inputs).astype("f")
        if measure_misfit(planted, right, actual, 2e-6) is not None:
            # An eps of 0 instead of 1e-5, for example, changes nothing if all variances are large.
            assert cause.name in ("batch norm eps", "reduced precision", "rounded output"), words
            continue
        found = find_explanations(spec, inputs, actual, 2e-6)
        assert cause.name in [each.cause for each in found], words
        if cause.name not in (
            "batch norm eps",
            "reduced precision",
            "rounded output",
            "layout",
        ):
            same = (compute(each.spec, inputs) for each in found if each.cause == cause.name)
            assert words in [each.words for each in found] or any(
                np.allclose(actual, other, 1e-6) for other in same
            ), (words, found)


@pytest.mark.parametrize("size", [1.1, 2, 10, 1000])
@pytest.mark.parametrize("kind", SPECS)
def test_noise_has_no_cause(kind, size):
    """No cause explains random errors, whether a little over the tolerance or far over it."""
    spec, inputs = SPECS[kind]
    right = compute(spec, inputs)
    for seed in range(3):
        noise = np.random.default_rng(seed).uniform(-1, 1, right.shape)
        actual = (right + size * 2e-6 * np.abs(right).max() * noise / np.abs(noise).max()).astype(
            "f"
        )
        assert find_explanations(spec, inputs, actual, 2e-6, pairs=False) == [], seed


def test_one_number_is_not_solved_for():
    """In one channel some decay explains any number, and some eps explains any scale."""
    statistic = StageSpec("running mean", {}, {"decay": 0.9})
    given = (np.array([0.3]), np.array([0.7]), np.float64(24))
    assert find_explanations(statistic, given, np.array([1.234]), 1e-6) == []
    norm = {name: np.array([0.8]) for name in ("weight", "bias", "running_mean", "running_var")}
    spec = StageSpec("batch_norm", norm, {"eps": 1e-5, "training": False})
    x = np.random.default_rng(0).normal(size=(2, 1, 4, 5))
    scaled = compute(spec.with_parameters(weight=np.array([0.72])), (x,))
    assert find_explanations(spec, (x,), scaled, 2e-6, pairs=False) == []


def test_a_dead_channel_does_not_hide_eps():
    spec, inputs = SPECS["batch_norm"]
    smallest = int(spec.parameters["running_var"].argmin())
    gamma = spec.parameters["weight"].copy()
    gamma[smallest] = 0
    dead = spec.with_parameters(weight=gamma)
    found = find_explanations(
        dead, inputs, compute(dead.with_settings(eps=3.7e-3), inputs).astype("f"), 2e-6
    )
    assert [each.words for each in found] == ["eps 0.0037 instead of 1e-05"]
