"""Our own blocks and networks are recognised without their names; of two answers both are given."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from resattn.checking.draws import random_arrays, random_input
from resattn.oracle import evaluation as reference
from resattn.reading.models import read_model
from resattn.reading.reading import Reading
from resattn.recognition.proof import prove_recognition
from resattn.recognition.recognition import recognise_model
from resattn.tracing.trace import Mapped, trace
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from shared_tests.published_cases import PUBLISHED
from shared_tests.recognition_cases import scramble, without_roles
from weights import BlockConfig, NetworkConfig, load, schema
from weights.config import Config
from weights.errors import ArgumentError
from weights.graph import graph
from weights.live import adapter

CASES = ATTENTION_VARIANTS + REPRESENTATIVE + NETWORKS + list(PUBLISHED.values())
PLAIN = BlockConfig(4, 6, 3, 2, attention_options={"hidden_channels": 2})


def live(framework: str, config: Config, size: tuple[int, int], seed: int = 0):
    """A model in evaluation with arrays that expose mistakes."""
    model = adapter(framework).create(config, dtype="float32")
    load(model, random_arrays(config, seed=seed))
    adapter(framework).set_training(model, False)
    return model


@cache
def read(framework: str, config: Config, size: tuple[int, int]) -> Reading:
    return read_model(live(framework, config, size), size, config.in_channels)


def skip_unread(framework: str, config: Config, size: tuple[int, int]) -> None:
    """What the reading itself leaves unknown, as in test_reading.py."""
    operations = graph(config, size).operations
    if framework != "torch" and "blur_pool" in {each.kind for each in operations}:
        pytest.skip("what Flax and Keras make of a reflected edge is not read back")
    grouped = [each for each in operations if each.settings.get("groups", 1) > 1]
    if framework == "tf" and any(each.kind == "convolution" for each in grouped):
        pytest.skip("on a CPU, Keras computes groups one by one; that is not read back")


def output(config: Config, arrays, size: tuple[int, int]) -> np.ndarray:
    x = random_input(config, size, 2, "float64")
    return reference.stages(config, arrays, x, training=False).output.value


@pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
def test_ours_is_recognised_without_names(framework, config, size):
    skip_unread(framework, config, size)
    reading, before = scramble(read(framework, config, size))
    found = recognise_model(reading)
    assert found.config is not None
    assert not found.differences
    assert not found.alternatives
    assert found.is_whole
    assert [*found.parameters] == [each.name for each in schema(found.config)]
    assert {before[own] for own in found.parameters.values()} == set(reading_names(reading, before))
    assert {name: array.shape for name, array in found.arrays.items()} == {
        each.name: each.shape for each in schema(found.config)
    }
    expected = output(config, random_arrays(config), size)
    np.testing.assert_allclose(output(found.config, found.arrays, size), expected, rtol=1e-9)


def reading_names(reading: Reading, before) -> list[str]:
    """The old names of the parameters that take part."""
    held = {name for step in reading.steps if step.held for name in step.held.names}
    return [before[name] for name in held]


@pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
def test_the_expected_config_comes_first(config, size):
    """It may compute the same as a plainer one: then it is taken, and the arrays are its own."""
    skip_unread("jax", config, size)
    reading, _ = scramble(read("jax", config, size))
    arrays = random_arrays(config)
    found = recognise_model(reading, config, arrays)
    assert found.config == config
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)


@pytest.mark.parametrize("case", ["resnet50d", "group norm", "option A"])
def test_frameworks_agree(case, all_frameworks):
    config, size = PUBLISHED[f"network: {case}"]
    found = {recognise_model(read(name, config, size)).config for name in all_frameworks}
    assert len(found) == 1


def test_the_plainest_of_equal_configs():
    """reduction 4 of 16 channels is a hidden width of 4, and the default is plainer than both."""
    for options, expected in (
        ({"hidden_channels": 1}, {}),
        ({"hidden_channels": 4}, {"reduction": 4}),
        ({"hidden_channels": 7}, {"hidden_channels": 7}),
    ):
        config = BlockConfig(3, 16, attention_options=options)
        found = recognise_model(read("jax", config, (5, 6)))
        assert dict(found.config.attention_options) == expected


def test_stages_without_names(framework):
    """The recognised stages are a mapping for the trace, which finds no difference."""
    model = live(framework, PLAIN, (9, 8))
    found = recognise_model(read_model(model, (9, 8), 4))
    expected = {"conv1", "bn1", "conv2", "bn2", "attention", "shortcut.0", "shortcut.1"}
    assert expected <= set(found.stages)
    assert all(found.stages[name] == name for name in expected if "." not in name)
    x = random_input(PLAIN, (9, 8), 2, "float32")
    result = trace(
        {"mine": Mapped(model, found.stages)}, x, config=found.config, arrays=found.arrays,
        modes=("eval",),
    )  # fmt: skip
    assert not result.findings


def test_a_recognised_model_is_proven_by_values(framework):
    model = live(framework, PLAIN, (9, 8))
    found = recognise_model(read_model(model, (9, 8), 4))
    assert prove_recognition(found, model).ok
    load(model, random_arrays(PLAIN, seed=1))
    assert not prove_recognition(found, model).ok


def test_what_was_not_recognised_is_not_proven(framework):
    model = live(framework, PLAIN, (9, 8))
    found = recognise_model(read_model(model, (9, 8), 4), BlockConfig(4, 6, 3, 1))
    assert found.config is None
    with pytest.raises(ArgumentError, match="was not recognised as one config"):
        prove_recognition(found, model)


# Several answers


def test_unknown_roles_are_several_answers():
    """Nothing says which of four arrays is the mean: the caller must."""
    config = BlockConfig(4, 6, attention="none", norm="group", norm_groups=2)
    reading = without_roles(read("jax", config, (5, 6)), "group_norm")
    found = recognise_model(reading)
    assert found.config is None
    assert found.nearest == config
    assert not found.parameters
    assert len(found.alternatives) == 8  # scale and offset of three norms
    assert len({tuple(each.parameters.items()) for each in found.alternatives}) == 8
    lines = found.describe()
    assert "it can be any of these; say which with choice=... (--choice):" in lines
    chosen = recognise_model(reading, choice=2)
    assert chosen.config == config
    assert chosen.parameters == found.alternatives[1].parameters
    with pytest.raises(ArgumentError, match="expected a number from 1 to 8, got 9"):
        recognise_model(reading, choice=9)


def test_equal_values_decide():
    config = BlockConfig(4, 6, attention="none", norm="group", norm_groups=2)
    reading = without_roles(read("jax", config, (5, 6)), "group_norm")
    found = recognise_model(reading, arrays=random_arrays(config))
    assert found.config == config
    for name, array in random_arrays(config).items():
        np.testing.assert_array_equal(found.arrays[name], array)


def test_paths_that_can_change_places():
    """BAM's sum of two branches, and two convolutions of a kind in each: values decide."""
    config = BlockConfig(4, 4, 1, attention="nonlocal", conv_bias=False)
    reading, _ = scramble(read("jax", config, (4, 5)), seed=3)
    arrays = random_arrays(config)
    found = recognise_model(reading, arrays=arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)


def test_no_choice_where_there_is_one_answer():
    with pytest.raises(ArgumentError, match="choice: expected none, as there is one answer, got 1"):
        recognise_model(read("jax", PLAIN, (9, 8)), choice=1)


def test_square_tables_of_relative_positions(framework):
    """Rows and columns have tables of one shape; which is which is found all the same."""
    config = BlockConfig(4, 8, attention="mhsa", attention_options={"size": (4, 4), "heads": 2})
    reading, _ = scramble(read(framework, config, (4, 4)))
    found = recognise_model(reading)
    for name, array in random_arrays(config).items():
        np.testing.assert_array_equal(found.arrays[name], array)


# Parts


NETWORK = NetworkConfig(2, 3, (4, 6), (2, 1), attention="none")


def test_a_part_of_a_network():
    model = live("torch", NETWORK, (9, 8))
    reading = read_model(model, (9, 8), 2)
    found = recognise_model(reading, only="stages.1.0")
    assert found.config == BlockConfig(4, 6, stride=2, attention="none", conv_bias=False)
    assert found.module == "stages.1.0"
    assert found.parameters["conv1.weight"] == "stages.1.0.conv1.weight"
    assert prove_recognition(found, model).ok


def test_a_part_that_is_none():
    reading = read("torch", NETWORK, (9, 8))
    with pytest.raises(ArgumentError, match="expected the path of a module that computes"):
        recognise_model(reading, only="stages.7")


def test_a_module_with_two_inputs(torch):
    class Sum(torch.nn.Module):
        def forward(self, x, y):
            return torch.relu(x + y)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.sum = torch.nn.Conv2d(3, 3, 1), Sum()

        def forward(self, x):
            return self.sum(self.conv(x), x)

    reading = read_model(Model(), (4, 5))
    with pytest.raises(ArgumentError, match="'sum' takes 2 values and gives 1"):
        recognise_model(reading, only="sum")


def test_a_language_that_is_none():
    found = recognise_model(read("jax", PLAIN, (9, 8)))
    with pytest.raises(ArgumentError, match="language: expected one of en, zh, got 'fr'"):
        found.describe("fr")
