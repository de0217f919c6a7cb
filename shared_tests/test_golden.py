"""The golden vectors prove an implementation on a machine that has it alone, and are what the
oracle says today.
"""

import numpy as np
import pytest

from resattn.checking import golden
from resattn.checking.backends import precise
from resattn.checking.crosscheck import check_model
from weights import schema

NAMES = sorted(golden.CASES)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_golden(backend, name, dtype):
    problem = golden.read_problem(name, dtype)
    with precise((backend.framework,), dtype):
        model = backend.build(problem.config, problem.arrays)
    report = check_model(backend, model, problem)
    assert report.ok, str(report)
    trainable = [parameter for parameter in schema(problem.config) if parameter.trainable]
    assert (
        len(report.rows) == 2 * len(schema(problem.config)) + len(trainable) + 4
    )  # and two outputs and two input slopes


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_up_to_date(name):
    held, made = golden.read_problem(name, "float32"), golden.make(name)
    assert held.config == made.config
    assert (held.x == made.x).all()
    assert held.expected.keys() == made.expected.keys()
    for quantity, tensors in made.expected.items():
        assert held.expected[quantity].keys() == tensors.keys()
        for tensor, array in tensors.items():
            limit = 1e-12 * made.scales[quantity, tensor]
            np.testing.assert_allclose(
                held.expected[quantity][tensor], array, rtol=0, atol=limit, err_msg=tensor
            )


def test_no_file_is_left_over_and_all_are_small():
    files = sorted(golden.FOLDER.glob("*"))
    assert [file.stem for file in files] == NAMES
    assert sum(file.stat().st_size for file in files) < 800_000
