"""What rounding explains, the verdict that follows from it, and what a format cannot decide."""

import json

import numpy as np
import pytest

from resattn.checking import calibration
from resattn.checking.crosscheck import crosscheck
from resattn.checking.draws import random_arrays, random_input
from resattn.checking.problem import pose
from resattn.oracle.kinks import Kinks
from resattn.oracle.node import accumulated, boundary, disturbed, entered
from shared_tests.cases import NETWORKS
from weights import BlockConfig
from weights.distribution import agree, describe_errors
from weights.live import LiveModel

BLOCK = BlockConfig(3, 5, 3, 2)


def noise(dtype="float32", seed=0):
    from resattn.checking.rounding import FORMATS

    return FORMATS[dtype].noise(np.random.default_rng(seed))


# The noise


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_values_move_by_as_much_as_rounding(dtype):
    """Uniform in half a unit in the last place of 1, as the errors of rounding are."""
    import ml_dtypes

    unit = float(ml_dtypes.finfo(dtype).eps) / 2
    moved = (noise(dtype).value(np.ones(100_000)) - 1) / unit
    assert 0.99 < np.abs(moved).max() <= 1 + 1e-5
    assert abs(moved.std() - 3**-0.5) < 0.01
    assert (noise(dtype).value(np.zeros(3)) == 0).all()


@pytest.mark.parametrize("mean", [0, 1])
def test_sums_move_by_as_much_as_running_sums(mean):
    """Compared with sums in float32 that are really added one after the other."""
    terms = np.random.default_rng(1).normal(mean, 1, (2000, 100)).astype("float32")
    exact = terms.astype("float64").sum(axis=1)
    running = np.zeros(2000, "float32")
    for column in terms.T:
        running += column
    real = np.sqrt(np.square(running - exact).mean())
    squares = np.square(terms.astype("float64")).sum(axis=1)
    with disturbed(noise()):
        moved = accumulated(exact, lambda: squares, 100)
    simulated = np.sqrt(np.square(moved - exact).mean())
    assert 0.6 < simulated / real < 1.7


def test_what_is_given_is_exact_and_what_goes_back_is_rounded():
    value = np.full(4, 1 / 3)
    with disturbed(noise()):
        x = entered(value)
        y = boundary(x)
        (_, pull), *_ = y.sources
    assert (x.value == value).all()
    assert (y.value == value).all()
    assert (pull(value) == value).all()
    assert not y.moved


def test_what_overflows_is_infinite():
    assert np.isinf(noise("float16").value(np.array([1e5]))).all()
    assert np.isfinite(noise("float32").value(np.array([1e5]))).all()


def test_kinks_near_enough_are_on_either_side_once():
    exact = Kinks()
    distance = np.array([1.0, 1e-9, -1e-9, -1.0, 0.0])
    assert (exact.decide(distance) == (distance > 0)).all()
    assert exact.margin == 1e-9
    error = np.array([1e-8, -1e-8, 1e-8, 1e-8, 0.0])
    sides = []
    for inverted in (False, True):
        kinks = Kinks(exact.distances, np.random.default_rng(0), inverted)
        sides.append(kinks.decide(distance + error))
        assert kinks.undecided == 2
    one, other = sides
    assert (one[[0, 3, 4]] == [True, False, False]).all()
    assert (other[[0, 3, 4]] == [True, False, False]).all()
    assert (one[1:3] != other[1:3]).all()


def test_explained_follows_the_format():
    arrays, x = random_arrays(BLOCK), random_input(BLOCK, (9, 8), 4, "float32")
    problems = [pose(BLOCK, arrays, x, dtype=dtype) for dtype in ("float32", "float64")]
    first, second = (problem.rounding.explained for problem in problems)
    assert first.keys() == second.keys()
    ratios = [first[key] / second[key] for key in first if second[key] > 0]
    assert 2**25 < np.median(ratios) < 2**27  # float64 has 29 more bits, and a margin of 8


# The verdict


@pytest.mark.parametrize(
    ("config", "size"),
    [(BlockConfig(1, 1, 5), (16, 16)), (BlockConfig(96, 40, 3, attention="gc"), (12, 11))],
    ids=["1 to 1", "gc 96 to 40"],
)
@pytest.mark.parametrize("seed", range(3))
def test_right_models_that_fixed_tolerances_judged_wrong(torch, config, size, seed):
    report = crosscheck(config, frameworks="torch", size=size, seed=seed)
    assert report.ok, str(report)
    assert not report.imprecise
    assert report.dtypes == ("float64", "float32")


@pytest.mark.parametrize("number", [2, 5, 9, 10, 17, 24, 31, 33])
def test_calibration(torch, number):
    """The same as in docs/calibration.md, for some of its cases."""
    tally = calibration.Tally()
    calibration.check_case(calibration.draw_case(number), ("torch",), tally)
    assert not tally.alarms
    assert not tally.missed
    assert sum(tally.models.values()) == 2
    assert sum((tally.planted + tally.low).values()) == 2


def test_calibration_sees_what_is_wrong(torch, monkeypatch):
    monkeypatch.setattr("resattn.checking.crosscheck.LIMIT", 1e-3)
    tally = calibration.Tally()
    calibration.check_case(calibration.draw_case(2), ("torch",), tally)
    assert tally.alarms
    monkeypatch.setattr("resattn.checking.crosscheck.LIMIT", 1e30)
    tally = calibration.Tally()
    calibration.check_case(calibration.draw_case(2), ("torch",), tally)
    assert not tally.alarms
    assert len(tally.missed) == sum(tally.planted.values()) > 0
    assert "missed mistakes" in calibration.list_results(tally)[-1]


def test_low_precision_is_said_and_is_no_failure(torch, monkeypatch):
    """A model that is right, and rounds more than float32 does when it computes in float32."""
    inner = LiveModel.gradients

    def coarse(self, x, *arguments, **mode):
        y, slopes = inner(self, x, *arguments, **mode)
        return (y.astype("float16").astype("float32") if x.dtype == "float32" else y), slopes

    monkeypatch.setattr(LiveModel, "gradients", coarse)
    report = crosscheck(BLOCK, frameworks="torch", size=(9, 8))
    assert report.ok
    assert {row.quantity for row in report.imprecise} == {"eval output", "train output"}
    text = str(report)
    assert "The same function: all" in text
    assert "In float32, 2 of" in text
    assert "comparisons are less precise than rounding explains (torch cpu" in text
    alone = crosscheck(BLOCK, frameworks="torch", size=(9, 8), dtype="float32")
    assert not alone.ok  # where nothing else decides
    assert "FAILED: not the same function (as far as float32 can tell)" in str(alone)


def test_a_framework_without_float64_is_judged_in_float32(torch, jax, monkeypatch):
    from jax_impl.bridge import adapter

    monkeypatch.setattr(adapter, "holds_float64", lambda: False)
    options = {"frameworks": ("torch", "jax"), "size": (6, 5), "batch": 2}
    report = crosscheck(BlockConfig(2, 3, attention="none"), **options)
    assert report.ok, str(report)
    assert "jax cpu has no float64: float32 decides for it" in report.notes
    decisive = {(row.actual, row.dtype) for row in report.rows if report.decides(row) and row.dtype}
    assert decisive == {("torch cpu", "float64"), ("jax cpu", "float32")}
    assert "comparisons in float64 and float32 are within what rounding explains" in str(report)
    assert "In float32, all are as precise as rounding allows: torch cpu" in str(report)


def test_weights_are_compared_by_value(torch, monkeypatch):
    """A bias that a softmax cancels changes nothing, and is found all the same."""
    config = BlockConfig(3, 4, 3, attention="gc", attention_options={"hidden_channels": 2})
    name = "attention.conv_attn.bias"
    inner = LiveModel.export

    def moved(self):
        arrays = inner(self)
        return {**arrays, name: arrays[name] + 1}

    monkeypatch.setattr(LiveModel, "export", moved)
    report = crosscheck(config, frameworks="torch", size=(6, 5))
    assert {(row.quantity, row.tensor) for row in report.failures} == {("weights", name)}


def test_nan_is_found_where_it_is_made(torch):
    arrays = random_arrays(BLOCK)
    arrays["bn2.running_var"][3] = -0.5
    report = crosscheck(BLOCK, arrays, frameworks="torch", size=(9, 8))
    assert not report.ok
    expected = (
        "bn2 computes NaN in evaluation, first in channel 3, where bn2.running_var is negative "
        "(-0.5); so there is nothing to compare."
    )
    assert report.undefined == expected
    assert str(report).count("NaN") == 1
    assert {row.quantity for row in report.rows} == {"weights"}


def test_what_overflows_is_not_judged(torch):
    arrays = random_arrays(BLOCK)
    arrays["bn2.weight"] *= 1e30
    arrays["bn1.weight"] *= 1e9
    report = crosscheck(BLOCK, arrays, frameworks="torch", size=(9, 8))
    assert report.ok, str(report)
    assert any("float32 overflows in" in note for note in report.notes)
    json.dumps(report.to_dict(), allow_nan=False)


# Figures


def test_quantiles_and_errors_by_magnitude():
    expected = np.array([[10.0, 1.0], [0.05, 0.002]])
    actual = expected + np.array([[0.1, 0.02], [0.003, 0.0004]])
    quantiles, by_magnitude = describe_errors([(actual, expected, 10.0)])
    assert quantiles == pytest.approx((0.00115, 0.0076, 0.00976, 0.01))
    assert by_magnitude == pytest.approx((np.sqrt((0.01**2 + 0.002**2) / 2), None, 0.0003, 0.00004))


def test_classifiers_agree():
    logits = np.array([[3.0, 1, 0, -1, -2, -3], [0, 1, 2, 3, 4, 5]])
    same = agree(logits, logits, "torch cpu", "float32")
    assert (same.images, same.first, same.five, same.divergence) == (2, 2, 2, 0)
    other = logits.copy()
    other[0] = [1, 3, 0, -1, -2, -3]
    other[1, 0] = 1.5
    found = agree(other, logits, "torch cpu", "float32")
    assert (found.first, found.five) == (1, 1)
    p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (logits, other))
    assert found.divergence == pytest.approx((p * np.log(p / q)).sum(axis=1).mean())
    assert "the same for 1 of 2 images, the five most likely for 1" in str(found)


def test_they_are_in_the_report(torch):
    config, size = NETWORKS[0]
    x = random_input(config, size, 3, "float32")
    report = crosscheck(config, frameworks="torch", inputs=x)
    assert [each.dtype for each in report.agreements] == ["float64", "float32"]
    assert all(each.first == 3 for each in report.agreements)
    assert len(report.distributions) == 10
    text = "\n".join(report.lines(every=True))
    assert "errors over the greatest magnitude" in text
    assert "the most likely class is the same for 3 of 3 images" in text
    plain = report.to_dict()
    assert len(plain["distributions"]) == 10
    json.dumps(plain, allow_nan=False)
