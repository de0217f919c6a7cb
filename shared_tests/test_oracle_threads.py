"""Passes of the oracle side by side: the same numbers, one BLAS thread, one noise a thread."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from resattn.checking import threads
from resattn.checking.draws import random_arrays, random_input
from resattn.checking.problem import pose
from resattn.checking.rounding import FORMATS
from resattn.checking.threads import run_together
from resattn.oracle.node import disturbed, is_disturbed, rounded_to, without_slopes
from shared_tests.cases import NETWORKS
from weights import BlockConfig


def count_blas_threads():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.mark.parametrize("products", [0, 10**9], ids=["one after the other", "side by side"])
def test_outcomes_are_in_order_and_blas_has_one_thread(products):
    before = count_blas_threads()
    tasks = [lambda number=number: (number, count_blas_threads()) for number in range(5)]
    found = run_together(tasks, products)
    assert [number for number, _ in found] == [*range(5)]
    assert all(held <= {1} for _, held in found)  # none where it cannot be told
    assert count_blas_threads() == before


def test_an_error_of_a_pass_is_raised():
    def fail():
        raise KeyError("conv1")

    with pytest.raises(KeyError, match="conv1"):
        run_together([fail, fail], 10**9)


@pytest.mark.parametrize(
    ("config", "size"), [(BlockConfig(3, 5, 3, 2), (9, 8)), NETWORKS[0]], ids=["block", "network"]
)
def test_threads_change_no_number(monkeypatch, config, size):
    arrays, x = random_arrays(config), random_input(config, size, 2, "float32")
    found = []
    for fewest in (0, 10**18):
        monkeypatch.setattr(threads, "FEWEST_PRODUCTS", fewest)
        problem = pose(config, arrays, x)
        peer = problem.exact.peer("float32")
        found.append((problem.expected, peer, problem.rounding))
    (one, its_peer, rounding), (other, other_peer, other_rounding) = found
    assert rounding == other_rounding
    for first, second in ((one, other), (its_peer, other_peer)):
        assert first.keys() == second.keys()
        for quantity, tensors in first.items():
            for name, array in tensors.items():
                np.testing.assert_array_equal(array, second[quantity][name])


@pytest.mark.parametrize(
    "setting", [without_slopes, lambda: rounded_to("float32"), lambda: disturbed(noise())]
)
def test_a_setting_is_that_of_its_thread(setting):
    from resattn.oracle.node import Node, given

    seen = []

    def look():
        x = Node(np.array([1 / 3]))
        y = x * given(np.array([1.0]))
        seen.append((is_disturbed(), bool(y.sources), y.value == 1 / 3))

    with setting():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        look()
    look()
    alone = (False, True, True)
    assert seen[0] == seen[2] == alone
    assert seen[1] != alone


def noise():
    return FORMATS["float32"].noise(np.random.default_rng(0))
