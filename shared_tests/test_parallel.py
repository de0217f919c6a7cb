"""Several devices in all frameworks: equal to one device and to each other; planted mistakes are
found and named; runs move between frameworks and numbers of devices.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from shared_tests.parallel_runs import DEVICES, PLANTS
from weights.frameworks import FRAMEWORKS

LIMIT = 1e-12  # of any parameter, statistic or moment, in float64
SUMS = "forgotten sum of gradients"
# The causes that the trace names for each plant, first the one that is planted.
CAUSES = {
    "nothing, global": [],
    "nothing, local": [],
    "local for global": ["local or global statistics"],
    "global for local": ["local or global statistics"],
    "other data": ["other data"],
    "mean of means": ["mean of means"],
    "forgotten sum": [SUMS],
    "forgotten sum, local": [SUMS],
}


def environment(**more):
    return {
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3", **more,
    }  # fmt: skip


def run(*arguments, ranks=1):
    """What `shared_tests.parallel_runs` prints, in one process or in a group of them."""
    command = [sys.executable, "-W", "ignore", "-m", "shared_tests.parallel_runs", *arguments]
    more = {}
    if ranks > 1:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
        more = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(**({**more, "RANK": str(rank)} if more else {})),
        )
        for rank in range(ranks)
    ]  # fmt: skip
    said = [process.communicate(timeout=500) for process in processes]
    lines = [line for line in said[0][0].splitlines() if line.startswith("RESULT ")]
    assert lines, said[0][1][-2000:]
    return json.loads(lines[0].removeprefix("RESULT "))


@cache
def plants(framework):
    return run("plants", framework, ranks=DEVICES if framework == "torch" else 1)


@pytest.mark.xdist_group("plants")
@pytest.mark.parametrize("plant", PLANTS)
def test_planted_mistakes_are_named(framework, plant):
    if framework == "tf" and os.environ.get("KERAS_BACKEND") == "torch":
        pytest.skip("Keras on PyTorch is on one device")
    findings = plants(framework)[plant]
    assert [each["cause"] for each in findings] == CAUSES[plant]
    words = {"other data": "device 2 computes on images 2, 3 of the batch, as device 1 does",
             "mean of means": "as if each had as many images, not [2, 2, 2, 1]",
             "forgotten sum": "each device keeps the gradient of its own part"}  # fmt: skip
    if plant in words:
        assert words[plant] in findings[0]["words"]


def test_every_plant_has_a_cause():
    assert set(CAUSES) == set(PLANTS)


def test_runs_on_1_2_and_4_devices_are_the_same(all_frameworks, tmp_path):
    """The command, on the digits, with batches of 62 images, which 4 devices do not divide."""
    recipe = {"optimizer": {"name": "SGD", "learning_rate": 0.05, "momentum": 0.9},
              "batch_size": 62}  # fmt: skip
    target = tmp_path / "drift.json"
    command = [
        sys.executable, "-m", "resattn", "drift", "--devices", "1,2,4", "--dtype", "float64",
        "--steps", "20", "--oracle", "--recipe", json.dumps(recipe), "--json", str(target),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(target.read_text())
    runs = {name for curve in found["curves"] for name in curve["pair"]}
    several = {f"{name} on {count}" for name in FRAMEWORKS for count in (2, 4)}
    assert runs == {*FRAMEWORKS, *several, "oracle"}
    for quantity in ("parameters", "statistics", "moments"):
        worst = found["worst"][quantity]
        assert worst["relative"] < LIMIT, worst


SCRIPTS = re.findall(
    r"```py\n# (\w+\.py)\n(.*?)```",
    (Path(__file__).parent.parent / "docs" / "distributed.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


def test_the_document_has_a_script_for_each_framework():
    assert [name for name, _ in SCRIPTS] == ["train_torch.py", "train_jax.py", "train_keras.py"]


@pytest.mark.parametrize(("name", "script"), SCRIPTS, ids=[name for name, _ in SCRIPTS])
def test_scripts_of_the_document_run(all_frameworks, tmp_path, name, script):
    (tmp_path / name).write_text(script)
    command = [sys.executable, "-W", "ignore", str(tmp_path / name)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("losses [")


def test_a_drift_over_the_limit_is_explained(jax):
    found = run("explained", "jax")
    assert found["ok"] is False
    assert [each["cause"] for each in found["traces"][0]["findings"]] == [
        "local or global statistics"
    ]
    assert "jax cpu: one training step of" in found["text"]
    assert "normalise with the statistics of its part (local)" in found["text"]


def test_a_run_moves_between_frameworks_and_devices(all_frameworks, tmp_path):
    found = run("moves", str(tmp_path))
    assert set(found) == set(FRAMEWORKS)
    assert max(found.values()) < LIMIT, found
