"""Marked functions do nothing else without a recorder, and a recorder sees only its own thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from importlib import import_module

import numpy as np
import pytest

from resattn.checking.cases import attention_block
from resattn.checking.draws import random_arrays, random_input
from weights import BlockConfig
from weights.frameworks import FRAMEWORKS
from weights.live import adapter, build, part
from weights.stages import Recorder, activate, stage, watch_calls

BLOCK = BlockConfig(3, 5, 3, 2, attention_options={"hidden_channels": 2})
X = random_input(BLOCK, (9, 8), 2, "float32")


def record(framework, model, config=BLOCK, training=False):
    return part(framework, "bridge.recorder").trace(
        model, random_input(config, (9, 8), 2, "float32"), np.ones, training=training
    )


@contextmanager
def another_thread(run):
    """Within it, a thread is between two steps of `run`, a generator. Raises what that raises."""
    reached, go_on, raised = threading.Event(), threading.Event(), []

    def work():
        try:
            for _ in run():
                reached.set()
                assert go_on.wait(60)
        except BaseException as error:
            raised.append(error)
        reached.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert reached.wait(60)
    try:
        yield
    finally:
        go_on.set()
        thread.join(60)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


def test_a_mark_changes_nothing_without_a_recorder():
    @stage
    def double(x, times=2):
        """Twice x."""
        return x * times

    assert (double(3), double(3, times=5), double.__name__, double.__doc__) == (
        6,
        15,
        "double",
        "Twice x.",
    )
    assert double.__prepare_scriptable__() is double.__wrapped__


def test_every_stage_function_is_marked_where_it_is_defined(framework):
    package = FRAMEWORKS[framework].package
    files = [import_module(f"{package}.{name}") for name in ("layers", "maxima", "pooling")]
    marked = {
        name
        for file in files
        for name, value in vars(file).items()
        if hasattr(value, "__wrapped__")
    }
    assert {"relu", "sigmoid", "hard_sigmoid", "hard_swish", "max_pool", "max_pool_2x2"} < marked
    assert {"average", "global_average", "average_around", "maximum", "greater"} < marked
    assert {"nearest", "concatenate", "softmax", "pad_same", "max_pool_dense"} < marked
    assert {"max_pool_ceil", "max_pool_same", "average_pool", "blur_pool", "subsample"} < marked
    assert not {"widen", "cast_like", "scale", "add", "split_at", "swap_axes"} & marked


def test_a_recorder_of_another_thread_sees_nothing(framework):
    """While a recording of it is under way in one thread, a model is called in another."""
    model = build(BLOCK, random_arrays(BLOCK), framework)
    before = adapter(framework).forward(model, X)
    recorder = Recorder({id(model): ""}, "output")

    def run():
        with activate(recorder), watch_calls([type(model)]):
            yield

    with another_thread(run):
        assert not recorder.active
        assert (adapter(framework).forward(model, X) == before).all()
    assert recorder.values == {}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_other_models_while_one_is_recorded(torch, training):
    """A recording of a PyTorch model waits in the middle of it, while others are called, compiled
    and recorded here; it is what it is alone.
    """
    config = attention_block("cbam", {})
    recorded, model, other = (build(config, random_arrays(config), "torch") for _ in range(3))
    alone = record("torch", model, config, training)
    compiled_before, compiled_during = (torch.compile(other, backend="eager") for _ in range(2))
    x = torch.tensor(random_input(config, (9, 8), 2, "float32"))
    right = other.eval()(x)
    assert torch.equal(compiled_before(x), right)
    found = []
    reached, go_on = threading.Event(), threading.Event()

    def hold(layer, inputs, output):
        reached.set()
        assert go_on.wait(60)

    recorded.bn2.register_forward_hook(hold)
    thread = threading.Thread(
        target=lambda: found.append(record("torch", recorded, config, training))
    )
    thread.start()
    assert reached.wait(60)
    with torch.compiler.set_stance("fail_on_recompile"):
        assert torch.equal(compiled_before(x), right)
    assert torch.equal(other(x), right)
    assert torch.equal(compiled_during(x), right)
    here = record("torch", model, config, training)
    go_on.set()
    thread.join(60)
    with torch.compiler.set_stance("fail_on_recompile"):
        assert torch.equal(compiled_during(x), right)
    for recording in (here, found[-1]):
        assert list(recording.values) == list(alone.values)
        for name, value in alone.values.items():
            assert (recording.values[name] == value).all(), name


def test_a_compiled_model_is_recorded_as_any_other(torch):
    model, compiled = (build(BLOCK, random_arrays(BLOCK), "torch").eval() for _ in range(2))
    compiled.compile(backend="eager")
    compiled(torch.tensor(X))
    right, found = record("torch", model), record("torch", compiled)
    assert list(found.values) == list(right.values)
    assert all((found.values[name] == value).all() for name, value in right.values.items())


def test_an_error_that_a_model_catches():
    """What comes after it is recorded under the right name."""
    module, inner = object(), object()
    recorder = Recorder({id(module): "outer", id(inner): "inner"}, "output")

    @stage
    def double(x):
        return x * 2

    def fail():
        raise ArithmeticError

    def outer():
        with pytest.raises(ArithmeticError):
            recorder.module(inner, fail)
        return double(np.ones(3)) + 1

    with activate(recorder):
        recorder.module(module, outer)
    assert list(recorder.values) == ["outer.double input", "outer.double", "outer"]
