"""Outputs and running statistics, in both modes, for every configuration of the grid, against the
oracle.
"""

import pytest

from resattn.checking.backends import precise
from resattn.checking.draws import random_arrays, random_input
from resattn.checking.tolerances import tolerance
from resattn.oracle import evaluation as reference
from shared_tests.cases import GRID, SHORT_GRID, name_of
from weights import difference, export, schema
from weights.live import LiveModel


def check_forward(backend, config, size, dtype, batch=2, arrays=None):
    arrays = arrays or random_arrays(config, dtype)
    x = random_input(config, size, batch, dtype)
    with precise((backend.framework,), dtype):
        model = backend.build(config, arrays)
        outputs = {
            training: LiveModel.of(model).forward(x, training=training)
            for training in (False, True)
        }
        held = export(model)
    for training, mode in ((False, "eval"), (True, "train")):
        expected = reference.run(config, arrays, x, training=training)
        assert outputs[training].dtype == dtype
        row = difference(
            outputs[training], expected.output, tolerance=tolerance(dtype, f"{mode} output")
        )
        assert row.ok, row
        last = expected.statistics
    for parameter in schema(config):
        if parameter.trainable:
            assert (held[parameter.name] == arrays[parameter.name]).all()
            continue
        limit = tolerance(dtype, "train statistics")
        row = difference(
            held[parameter.name], last[parameter.name], tolerance=limit, tensor=parameter.name
        )
        assert row.ok, row


@pytest.mark.parametrize(("config", "size"), GRID, ids=name_of)
def test_float64(backend, config, size):
    check_forward(backend, config, size, "float64")


@pytest.mark.parametrize(("config", "size"), SHORT_GRID, ids=name_of)
def test_float32(backend, config, size):
    check_forward(backend, config, size, "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_image(backend, dtype):
    config, size = SHORT_GRID[-1]
    check_forward(backend, config, size, dtype, batch=1)


@pytest.mark.parametrize("attention", ["none", "se"])
def test_without_projection(backend, attention):
    from weights import BlockConfig

    check_forward(backend, BlockConfig(6, 6, attention=attention), (8, 5), "float64")


@pytest.mark.parametrize("mean", [10, 100, 1000])
def test_large_means(all_frameworks, mean):
    """Images with variance 1 far from 0, in float32: nobody may be four times as far from the
    oracle as PyTorch is.
    """
    from resattn.checking.backends import Backend
    from weights import BlockConfig

    config = BlockConfig(4, 6, 3, 2)
    distances = dict.fromkeys(all_frameworks, 0.0)
    for seed in range(3):
        arrays = random_arrays(config, "float32", seed)
        x = (random_input(config, (17, 16), 8, "float64", seed) + mean).astype("float32")
        expected = reference.run(config, arrays, x, training=True).output
        for framework in all_frameworks:
            backend = Backend(framework, "cpu")
            with precise((framework,), "float32"):
                y = LiveModel.of(backend.build(config, arrays)).forward(x, training=True)
            distances[framework] = max(distances[framework], abs(y - expected).max())
    assert max(distances.values()) < 4 * distances["torch"], distances
