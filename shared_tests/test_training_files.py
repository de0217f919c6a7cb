"""Files of training states: their contents, their errors, and a process killed while saving."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shared_tests.training_cases import NETWORK, RECIPES, make_state, measure_farthest
from weights import WeightsError, read, write
from weights.files.safetensors import METADATA
from weights.files.training import TrainingState, read_training, trainable, write_training
from weights.recipe import SGD, Adam, AdamW, Cosine, Recipe, Step, batch

ROOT = Path(__file__).parent.parent


def is_same_state(first: TrainingState, second: TrainingState) -> bool:
    values = [(state.config, state.recipe, state.step, state.examples) for state in (first, second)]
    return values[0] == values[1] and measure_farthest(first, second) == 0


@pytest.mark.parametrize("kind", RECIPES)
def test_a_file_holds_the_whole_state(tmp_path, kind):
    state = make_state(RECIPES[kind])
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_training(first, state)
    write_training(second, read_training(first))
    assert is_same_state(read_training(first), state)
    assert first.read_bytes() == second.read_bytes()
    assert Recipe.from_dict(json.loads(state.recipe.to_json())) == state.recipe


def test_the_model_is_read_from_the_same_file(tmp_path):
    state = make_state()
    write_training(tmp_path / "run.safetensors", state)
    config, arrays = read(tmp_path / "run.safetensors")
    assert config == NETWORK
    assert set(arrays) == set(state.arrays)
    write(tmp_path / "model.safetensors", config, arrays)
    with pytest.raises(ValueError, match="holds no training state, only weights"):
        read_training(tmp_path / "model.safetensors")


def test_the_command_line_reads_it(tmp_path):
    from typer.testing import CliRunner

    from resattn.cli.app import app

    write_training(tmp_path / "run.safetensors", make_state())
    done = CliRunner().invoke(app, ["inspect", str(tmp_path / "run.safetensors")])
    assert done.exit_code == 0, done.output
    assert "stem.conv.weight" in done.output
    assert "optimizer." not in done.output


def rewrite(path: Path, change) -> None:
    """Changes a file's "training" and its arrays by hand."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="numpy") as file:
        values = json.loads(file.metadata()[METADATA])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(values["training"], arrays)
    save_file(arrays, path, metadata={METADATA: json.dumps(values)})


def drop_a_moment(training, arrays):
    del arrays["optimizer.exp_avg.classifier.bias"]


def reshape_a_moment(training, arrays):
    arrays["optimizer.exp_avg_sq.classifier.bias"] = np.zeros(3, "float32")


def widen_a_moment(training, arrays):
    arrays["optimizer.exp_avg_sq.classifier.bias"] = np.zeros(10, "float64")


def add_a_moment(training, arrays):
    arrays["optimizer.max_exp_avg_sq.classifier.bias"] = np.zeros(10, "float32")


def statistics_moment(training, arrays):
    arrays["optimizer.exp_avg.stem.bn.running_mean"] = np.zeros(4, "float32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t, a: t.update(step=-1),
            "run.safetensors: step: expected an integer of at least 0, got -1",
        ),
        (lambda t, a: t.update(step=1.5), "step: expected an integer of at least 0, got 1.5"),
        (lambda t, a: t.update(examples=0), "examples: expected a positive integer, got 0"),
        (
            lambda t, a: t.update(examples=3),
            "batch_size: expected at most the number of images, 3, got 16",
        ),
        (lambda t, a: t.update(version=3), "has version 3, and this is version 2"),
        (lambda t, a: t.update(version=2), "missing or unknown: shards"),
        (
            lambda t, a: t.update(version=2, shards={"count": 2, "statistics": "each"}),
            "statistics: expected one of global, local",
        ),
        (lambda t, a: t.update(version=2, shards=4), "expected an object as shards, got 4"),
        (lambda t, a: t.pop("version"), 'expected an object with a "version"'),
        (lambda t, a: t.pop("step"), "missing or unknown: step"),
        (lambda t, a: t.update(loss=1), "missing or unknown: loss"),
        (lambda t, a: t.update(recipe=3), "expected an object as recipe, got 3"),
        (lambda t, a: t["recipe"].update(warmup=3), "Recipe: no field 'warmup'"),
        (lambda t, a: t["recipe"].pop("optimizer"), "Recipe: missing optimizer"),
        (lambda t, a: t["recipe"]["optimizer"].update(amsgrad=True), "AdamW: no field 'amsgrad'"),
        (
            lambda t, a: t["recipe"]["optimizer"].update(name="Lion"),
            'optimizer: expected an object whose "name" is one of SGD',
        ),
        (
            lambda t, a: t["recipe"]["schedule"].update(milestones=[60, 30]),
            "milestones: expected each to be later",
        ),
        (lambda t, a: t.update(step=10**400), "step: expected an integer below 2,147,483,648, got"),
        (lambda t, a: t.update(examples=1e400), "examples: expected a positive integer, got inf"),
        (lambda t, a: t.update(version=10**400), "has version an integer of 1,329 bits, and this"),
        (lambda t, a: t.update(version=True), 'expected an object with a "version", got'),
        (
            lambda t, a: t["recipe"]["optimizer"].update(learning_rate=5e-324),
            "learning_rate: expected a number that float32 holds, from 1.2e-38 to 1.7e",
        ),
        (
            lambda t, a: t["recipe"]["optimizer"].update(eps=float("nan")),
            "eps: expected a number of at least 0, got nan",
        ),
        (lambda t, a: t.update(recipe="a" * 10**6), r"as recipe, got 'a+'\.\.\. \(1,000,000 char"),
        (
            lambda t, a: t.update({f"x{number}": 1 for number in range(1000)}),
            "missing or unknown: x0, x1, x10, x100, x101, x102 and 994 more",
        ),
        (drop_a_moment, r"optimizer.exp_avg.classifier.bias: missing, expected \(10,\)"),
        (
            reshape_a_moment,
            r"optimizer.exp_avg_sq.classifier.bias: expected \(10,\) \(out\), got \(3,\)",
        ),
        (widen_a_moment, "optimizer.exp_avg_sq.classifier.bias: expected float32, got float64"),
        (add_a_moment, "optimizer.max_exp_avg_sq: unexpected"),
        (statistics_moment, "optimizer.exp_avg.stem.bn.running_mean: unexpected"),
    ],
)
def test_invalid_files(tmp_path, change, message):
    path = tmp_path / "run.safetensors"
    write_training(path, make_state())
    rewrite(path, change)
    with pytest.raises(ValueError, match=message) as caught:
        read_training(path)
    assert "run.safetensors" in str(caught.value)


def test_all_faults_of_a_state_together():
    state = make_state()
    moments = {"exp_avg": dict(state.moments["exp_avg"])}
    del moments["exp_avg"]["stem.conv.weight"]
    with pytest.raises(WeightsError) as caught:
        TrainingState(NETWORK, state.recipe, state.arrays, moments, 1, 500)
    missing = 1 + len(trainable(NETWORK))  # one of the first moment, and all of the second
    assert len(caught.value.faults) == missing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(-1), "learning_rate: expected a positive number, got -1"),
        (lambda: SGD(0.1, 1.0), "momentum: expected a number of at least 0 and under 1, got 1.0"),
        (lambda: SGD(0.1, nesterov=True), "nesterov: expected a momentum over 0"),
        (lambda: SGD(0.1, 0.9, 1), "nesterov: expected True or False, got 1"),
        (
            lambda: SGD(0.1, weight_decay=-1),
            "weight_decay: expected a number of at least 0, got -1",
        ),
        (lambda: Adam(betas=0.9), "betas: expected two numbers"),
        (lambda: Adam(betas=(0.9, 1)), "betas: expected a number of at least 0 and under 1, got 1"),
        (lambda: AdamW(eps=float("nan")), "eps: expected a number of at least 0, got nan"),
        (lambda: Cosine(0), "steps: expected a positive integer, got 0"),
        (lambda: Cosine(3, -1), "final: expected a number of at least 0, got -1"),
        (lambda: Step(()), "milestones: expected one or more"),
        (lambda: Step((0,)), "milestones: expected positive integers"),
        (lambda: Step((3, 3)), "milestones: expected each to be later"),
        (lambda: Step((3,), 0), "factor: expected a positive number, got 0"),
        (lambda: Recipe(0.1), "optimizer: expected one of SGD, Adam, AdamW, got 0.1"),
        (lambda: Recipe(SGD(), 3), "schedule: expected one of Constant, Cosine, Step, got 3"),
        (
            lambda: Recipe(SGD(), label_smoothing=1),
            "label_smoothing: expected a number of at least 0 and under 1, got 1",
        ),
        (lambda: Recipe(SGD(), batch_size=0), "batch_size: expected a positive integer, got 0"),
        (lambda: Recipe(SGD(), seed=2**32), r"seed: expected an integer under 2\^32"),
        (
            lambda: batch(Recipe(SGD()), 63, 0),
            "batch_size: expected at most the number of images, 63, got 64",
        ),
        (
            lambda: write_training("run.npz", make_state()),
            "run.npz: cannot write a training state there",
        ),
        (lambda: read_training("run.pt"), "run.pt: cannot read a training state there"),
    ],
)
def test_invalid_recipes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Killed while saving

SAVER = """
import sys
sys.path.insert(0, {root!r})
from shared_tests.training_cases import make_state
from weights import NetworkConfig
from weights.files.training import write_training
large = NetworkConfig(3, 10, (64, 128), (2, 2))
states = [make_state(step=step, seed=step, config=large) for step in (1, 2)]
print("ready", flush=True)
while True:
    for state in states:
        write_training({path!r}, state)
"""


def test_killed_at_any_moment(tmp_path):
    """The file is complete: it is one of the two states that the process wrote in turn."""
    path = tmp_path / "run.safetensors"
    command = [sys.executable, "-c", SAVER.format(root=str(ROOT), path=str(path))]
    random, seen = np.random.default_rng(0), set()
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as saver:
            assert saver.stdout.readline() == b"ready\n"
            while not path.exists():
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.1))
            saver.send_signal(signal.SIGKILL)
        state = read_training(path)
        assert is_same_state(
            state, make_state(step=state.step, seed=state.step, config=state.config)
        )
        seen.add(state.step)
    assert seen <= {1, 2}


HALFWAY = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from weights.files.atomic import write_atomically
def write(path):
    with open(path, "wb") as file:
        file.write({half!r})
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
{how}
"""


@pytest.mark.parametrize(("how", "survives"), [
    ("write_atomically(Path({path!r}), write)", True),
    ("write({path!r})", False),  # writing in place: shows that the test can fail
])  # fmt: skip
def test_killed_with_half_of_it_written(tmp_path, how, survives):
    path = tmp_path / "run.safetensors"
    write_training(path, make_state())
    before = path.read_bytes()
    code = HALFWAY.format(
        root=str(ROOT), half=before[: len(before) // 2], how=how.format(path=str(path))
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert (path.read_bytes() == before) == survives
    if not survives:
        with pytest.raises(WeightsError, match="is not a whole safetensors file"):
            read_training(path)


def test_a_full_disk_leaves_the_file(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    write_training(path, make_state())
    before = path.read_bytes()

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_training(path, make_state(step=8))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
