"""Settings of a whole process: threads that use them together leave them as they were. Devices by
name, determinism, and gradients that are computed eagerly or compiled.
"""

import operator
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from resattn.checking.backends import Backend, backends
from resattn.checking.crosscheck import crosscheck
from resattn.checking.draws import random_arrays, random_cotangent, random_input
from resattn.training.trainer import Trainer, resume
from shared_tests.test_errors import raises
from weights import BlockConfig, build_from, port, write
from weights.checks import printable
from weights.errors import ArgumentError
from weights.flags import check_flag, chosen_execution, execution, hold_setting
from weights.frameworks import FRAMEWORKS
from weights.live import LiveModel, adapter, build
from weights.recipe import SGD, Recipe

BLOCK = BlockConfig(2, 3, 3, 2, attention_options={"hidden_channels": 2})

# Two users of a setting: every order in which they can come and go.
ORDERS = [
    order
    for order in permutations([("enter", 0), ("enter", 1), ("leave", 0), ("leave", 1)])
    if all(order.index(("enter", user)) < order.index(("leave", user)) for user in (0, 1))
]


class User:
    """A thread that enters a context and leaves it when it is asked to."""

    def __init__(self, make):
        self.thread, self.make, self.inside = ThreadPoolExecutor(1), make, False

    def enter(self):
        self.context = self.call(self.make)
        self.call(self.context.__enter__)
        self.inside = True

    def leave(self, error=None):
        self.inside = False
        return self.call(lambda: self.context.__exit__(type(error) if error else None, error, None))

    def call(self, function):
        return self.thread.submit(function).result(timeout=60)


@pytest.fixture
def tf32_on(framework):
    """TF32 is allowed while a test runs, as it is by default in most frameworks."""
    module = adapter(framework)
    if framework == "jax" or getattr(module, "BACKEND", "") == "jax":
        yield module
        return
    before = module.precise("tf32")
    with before:
        # What a program has set by itself: nobody holds it.
        from weights import flags

        held = dict(flags._held)
        flags._held.clear()
        try:
            yield module
        finally:
            flags._held.update(held)


def allows(module):
    """Whether TF32 can be used, as this thread sees it."""
    words = module.flags()
    assert any(word in words for word in ("True", "False", "None", "highest", "tensorfloat32"))
    return "True" in words.replace("64 bits enabled True", "") or "tensorfloat32" in words


@pytest.mark.parametrize("failing", [False, True], ids=["ends", "raises"])
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: " ".join(f"{a}{b}" for a, b in order))
def test_threads_that_nest_precise(framework, tf32_on, order, failing):
    """No user sees TF32 while it is within, and the last one restores what was there."""
    before = tf32_on.flags()
    users = [User(lambda: tf32_on.precise("float32")) for _ in range(2)]
    for step, number in order:
        user = users[number]
        error = ValueError("of the body") if failing and number == 0 else None
        if step == "enter":
            user.enter()
        elif error is None:
            user.leave()
        else:
            # What __exit__ returns says whether it keeps the error for itself; JAX's says nothing.
            with suppress(ValueError):
                assert not user.leave(error)
        for each in users:
            assert not (each.inside and each.call(lambda: allows(tf32_on)))
    assert tf32_on.flags() == before
    assert users[0].call(tf32_on.flags) == before


def test_nested_in_one_thread(tf32_on):
    before = tf32_on.flags()
    with tf32_on.precise("float32"):
        off = tf32_on.flags()
        with tf32_on.precise("tf32"):
            assert allows(tf32_on)
            with tf32_on.precise("float64"):
                assert not allows(tf32_on)
            assert allows(tf32_on)
        assert tf32_on.flags() == off
        assert not allows(tf32_on)
    assert tf32_on.flags() == before


def test_threads_that_ask_for_different_things(framework, tf32_on):
    """What holds for the whole process cannot be on for one thread and off for another."""
    one, other = (User(lambda form=form: tf32_on.precise(form)) for form in ("float32", "tf32"))
    one.enter()
    if "highest" in one.call(tf32_on.flags):  # JAX has it for each thread by itself
        other.enter()
        assert other.call(lambda: allows(tf32_on))
        assert not one.call(lambda: allows(tf32_on))
        other.leave()
    else:
        with raises(ArgumentError, "another thread computes with another setting of it"):
            other.enter()
        assert not one.call(lambda: allows(tf32_on))
    one.leave()
    other.enter()
    assert other.call(lambda: allows(tf32_on))
    other.leave()


def test_a_setting_is_restored_by_the_last_user():
    values = ["first"]

    def hold(value):
        return hold_setting("the test's", value, lambda: values[-1], values.append)

    one, other = User(lambda: hold("mine")), User(lambda: hold("mine"))
    one.enter()
    other.enter()
    one.leave()
    assert values[-1] == "mine"
    other.leave()
    assert values[-1] == "first"


STATES = {
    "nothing": "",
    "older on": "torch.set_float32_matmul_precision('medium')",
    "older off": "torch.backends.cudnn.allow_tf32 = False",
    "newer matmul": "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "newer cudnn": "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    "everywhere": "torch.backends.fp32_precision = 'tf32'",
    "everywhere off": "torch.backends.fp32_precision = 'ieee'",
    "both": "torch.backends.cuda.matmul.allow_tf32 = True\n"
    "torch.backends.cuda.matmul.fp32_precision = 'ieee'",
}
SNAPSHOT = """
import torch
from weights.flags import hold_tf32_of_torch
b = torch.backends
def attempt(read):
    try:
        return str(read())
    except RuntimeError:
        return "refused"
def snapshot():
    owners = (b, b.cudnn, b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.matmul)
    found = [owner.fp32_precision for owner in owners]
    found += [attempt(torch.get_float32_matmul_precision), attempt(lambda: b.cudnn.allow_tf32)]
    return found + [b.cuda.matmul.allow_bf16_reduced_precision_reduction]
SETUP
before = snapshot()
for allowed in (False, True):
    with hold_tf32_of_torch(torch, allowed):
        form = "tf32" if allowed else "ieee"
        assert snapshot()[2:6] == [form] * 4, snapshot()
        assert snapshot()[6:] == ["high" if allowed else "highest", str(allowed), False]
    for one, other in zip(before, snapshot(), strict=True):
        assert one == other or one == "refused", (before, snapshot())
"""


@pytest.mark.parametrize("state", STATES)
def test_both_interfaces_of_pytorch(torch, state):
    """Whichever a program has used, also both: precision is what was asked for, and then again
    what it was. Operations fail where the two disagree.
    """
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this version of PyTorch has one interface")
    code = SNAPSHOT.replace("SETUP", STATES[state])
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr


# Determinism


def test_what_cannot_be_deterministic_refuses(framework, monkeypatch):
    """On the CPU as well; and afterwards it computes again."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")  # for JAX on a GPU
    module = adapter(framework)
    backend = getattr(module, "BACKEND", "")
    if "jax" in (framework, backend):
        with module.deterministic():
            pass  # XLA reads its setting as it starts, and nothing in the process changes
        return
    if framework == "torch" or backend == "torch":
        import torch

        def draw():
            torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))
    else:
        import tensorflow

        def draw():
            tensorflow.random.normal((2,))

    refused = pytest.raises(RuntimeError, match=r"(?i)determinis")
    with module.deterministic(), module.deterministic(), refused:
        draw()
    draw()


def test_a_flag_that_is_missing_is_said(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--a=1 --b=2")
    check_flag("XLA_FLAGS", "--b=2")
    with raises(ArgumentError, "XLA_FLAGS: expected --c=3 in it, which is read when the framework"):
        check_flag("XLA_FLAGS", "--c=3")


def test_jax_on_a_gpu_needs_the_flag(jax, monkeypatch):
    from jax_impl.bridge import adapter as module

    monkeypatch.setattr(module, "devices", lambda: ("cpu", "cuda"))
    monkeypatch.setenv("XLA_FLAGS", "")
    with raises(ArgumentError, "XLA_FLAGS: expected --xla_gpu_deterministic_ops=true"):
        module.deterministic()
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    with module.deterministic():
        pass


# Eager and compiled


def compute(framework, way=None):
    config, dtype = BLOCK, "float64"
    arrays, x = random_arrays(config, dtype), random_input(config, (6, 5), 2, dtype)
    cotangent = random_cotangent((2, 3, 3, 3), dtype)
    with adapter(framework).precise(dtype):
        live = LiveModel.of(Backend(framework, "cpu").build(config, arrays))
        if way is None:
            y, slopes = live.gradients(x, cotangent, training=True)
        else:
            with execution(way):
                y, slopes = live.gradients(x, cotangent, training=True)
        return {"output": y, **slopes, **live.export()}


def test_eager_and_compiled_are_the_same_function(framework):
    expected = compute(framework)
    for way in adapter(framework).executions():
        if way == "compiled" and framework == "torch":
            continue  # a minute of a C++ compiler: the next test sees that it is asked for
        found = compute(framework, way)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-11, atol=1e-11, err_msg=name)


def test_that_it_is_compiled(framework, monkeypatch):
    """Seen from what each framework's compiler is asked, which must be once and not otherwise."""
    asked = []
    module = adapter(framework)
    if framework == "torch":
        import torch

        monkeypatch.setattr(torch, "compile", lambda model: asked.append(model) or model)
    elif framework == "jax":
        import jax

        from jax_impl import ResidualBlockWithAttention

        inner = ResidualBlockWithAttention.__call__

        def call(self, x):
            asked.extend([] if jax.config.jax_disable_jit else [self])
            return inner(self, x)

        jax.clear_caches()
        monkeypatch.setattr(ResidualBlockWithAttention, "__call__", call)
    else:
        compiler = module.compile_update
        monkeypatch.setattr(
            module, "compile_update", lambda *given: asked.append(given) or compiler(*given)
        )
    compute(framework, "eager")
    assert not asked
    if "compiled" in module.executions():
        compute(framework, "compiled")
        assert len(asked) == 1


def test_ways_have_names():
    assert chosen_execution() is None
    with (
        raises(ArgumentError, "execution: expected one of eager, compiled, got 'fast'"),
        execution("fast"),
    ):
        pass
    with execution("eager"):
        assert chosen_execution() == "eager"
    assert chosen_execution() is None


# Devices


def places(framework, tmp_path):
    """Everything that takes a device, as functions of it."""
    arrays = random_arrays(BLOCK)
    file = tmp_path / "block.safetensors"
    write(file, BLOCK, arrays)
    model = build(BLOCK, arrays, framework)
    recipe = Recipe(SGD(learning_rate=0.1))
    return {
        "build": lambda device: build(BLOCK, arrays, framework, device),
        "build_from": lambda device: build_from(file, framework, device=device),
        "port": lambda device: port(model, framework, device),
        "backends": lambda device: backends((framework,), (device,)),
        "crosscheck": lambda device: crosscheck(BLOCK, frameworks=framework, devices=device),
        "resume": lambda device: resume(Trainer(model, recipe, 64).state(), framework, device),
    }


@pytest.mark.parametrize(
    "place", ["build", "build_from", "port", "backends", "crosscheck", "resume"]
)
def test_a_device_that_is_not_there(framework, tmp_path, place):
    """The same sentence in all three, wherever a device is taken; Keras used the CPU."""
    there = adapter(framework).devices()
    label = FRAMEWORKS[framework].label
    take = places(framework, tmp_path)[place]
    for device in ("moon", "gpu:0", "CUDA", "") if "cuda" in there else ("moon", "cuda", ""):
        found = f"device {device!r}: {label} sees only {' and '.join(there)} on this machine; "
        todo = "install a build of it for CUDA" if device == "cuda" else "use 'cpu'"
        with raises(ArgumentError, f"{found}{todo}"):
            take(device)
    assert take("cpu") is not None
    assert printable(found) == found


def test_a_setting_that_cannot_be_written_is_restored():
    held = ["before"]

    def write(value):
        held[0] = "half"
        if value == "wanted":
            raise RuntimeError("refused")
        held[0] = value

    with (
        pytest.raises(RuntimeError, match="refused"),
        hold_setting("of a test", "wanted", lambda: held[0], write),
    ):
        pass
    assert held == ["before"]
    with hold_setting("of a test", "other", lambda: held[0], write):
        assert held == ["other"]
    assert held == ["before"]


@pytest.mark.parametrize("name", ["cuda.matmul", "cudnn.conv", "mkldnn.conv"])
def test_settings_that_workers_get(torch, name):
    """Also where a program uses the newer interface, so that the older one cannot be read."""
    from weights.flags import read_tf32, write_tf32

    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("PyTorch has one interface before 2.9")
    place = operator.attrgetter(name)(torch.backends)
    before = read_tf32(torch)
    try:
        place.fp32_precision = "ieee"
        found = read_tf32(torch)
        assert found[f"{name}.fp32_precision"] == "ieee"
        write_tf32(torch, found)
    finally:
        write_tf32(torch, before)
    assert read_tf32(torch) == before
