"""The functions that a case measures, made in the process of its framework.

Each function computes once when it is called and waits for the result. Frameworks are used as
somebody in a hurry uses them: PyTorch eager within no_grad, Flax by jax.jit with the state split
off, Keras as `compile_inference` says (on TensorFlow: tf.function).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from resattn.benchmarks.cases import NUMPY, ONNX, BenchCase
from resattn.benchmarks.other_models import make_native, make_session, make_timm
from resattn.checking.backends import Backend, implementation, precise
from resattn.checking.draws import random_arrays, random_input
from resattn.checking.rounding import FORMATS
from weights.convert import Arrays
from weights.graph import graph
from weights.live import part

Compute = Callable[[Any], Any]


@dataclass(frozen=True)
class Prepared:
    """A function that is ready to be measured.

    work: computes once and returns the result. time: the seconds that this takes, until the result
    is there. canonical: the result as a canonical array. scope: within it, the framework computes
    in the format of the case; `work` and `time` are to be called there.
    """

    work: Callable[[], Any]
    time: Callable[[], float]
    canonical: Callable[[Any], np.ndarray]
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext


def prepare_function(case: BenchCase, threads: int) -> Prepared:
    """The function of a case. threads: for programs that must be given their number.

    Raises MissingFramework for a package that is not installed.
    """
    if case.by == "product":
        return _prepare_product(case)
    model = case.model
    form = FORMATS["bfloat16" if case.form == "bfloat16" else "float32"]
    arrays = form.hold(graph(model.config, model.size), random_arrays(model.config))
    x = random_input(model.config, model.size, case.batch, "float32").astype(form.held)
    if case.framework == ONNX:
        session = make_session(model.config, arrays, x, threads)
        work: Callable[[], Any] = partial(session, x)
        return Prepared(work, partial(_time_call, work), np.asarray)
    native = part(case.framework, "bridge.native")
    live = _make_model(case, arrays)
    run, images = _make_function(case, live), native.to_native(live, x)
    return _prepare(case, lambda: run(images), native.to_canonical)


def _prepare(
    case: BenchCase, compute: Callable[[], Any], canonical: Callable[[Any], np.ndarray]
) -> Prepared:
    """compute: of a framework, and perhaps not finished when it returns."""
    by_events = (case.framework, case.device) == ("torch", "cuda")  # they see when it is finished
    wait = _at_once if by_events else _waiting(case.framework, case.device)

    def work() -> Any:
        return wait(compute())

    clock = _time_events if by_events else _time_call
    return Prepared(work, partial(clock, work), canonical, partial(_scope, case))


def _make_model(case: BenchCase, arrays: Arrays) -> Any:
    config = case.model.config
    if case.by == "timm":
        return make_timm(config, arrays, case.device)
    if case.by == "native":
        return make_native(case.framework, config, arrays, case.device)
    return Backend(case.framework, case.device).build(config, arrays)


def _make_function(case: BenchCase, model: Any) -> Compute:
    """What is measured of a model, ours or another."""
    if case.by == "deploy":
        function: Compute = implementation(case.framework).deploy(model)
        return function
    if case.framework == "torch":
        return _torch_function(model)
    if case.framework == "jax":
        return _flax_function(model)
    compiled: Compute = part("tf", "bridge.native").compile_inference(model)
    return compiled


def _torch_function(model: Any) -> Compute:
    import torch

    def run(x: Any) -> Any:
        with torch.no_grad():
            return model(x)

    return run


def _flax_function(model: Any) -> Compute:
    import jax
    from flax import nnx

    structure, state = nnx.split(model)
    run = jax.jit(lambda state, x: nnx.merge(structure, state)(x))
    return partial(run, state)


# Formats, devices, time


def _scope(case: BenchCase) -> AbstractContextManager[Any]:
    """Within it, a framework computes in the format of a case. On CPU there is nothing to set."""
    if case.device == "cpu":
        return nullcontext()
    if case.form != "tf32":
        return precise((case.framework,), "float32")
    return _tf32(case.framework)


def _tf32(framework: str) -> AbstractContextManager[Any]:
    """Within it, float32 is computed in TF32. PyTorch and TensorFlow are left so: every other case
    on CUDA sets its own format.
    """
    if framework == "jax":
        scope: AbstractContextManager[Any] = import_module("jax").default_matmul_precision(
            "tensorfloat32"
        )
        return scope
    if framework == "torch":
        torch: Any = import_module("torch")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    else:
        import_module("tensorflow").config.experimental.enable_tensor_float_32_execution(True)
    return nullcontext()


def _waiting(framework: str, device: str) -> Compute:
    """A function that returns its argument once it is computed."""
    if framework == "tf":
        backend: str = part("tf", "bridge.native").BACKEND
        framework = {"torch": "torch", "jax": "jax"}.get(backend, framework)
    if framework == "jax":
        import jax

        wait: Compute = jax.block_until_ready
        return wait
    if device == "cpu":
        return _at_once
    if framework == "torch":
        finish = import_module("torch").cuda.synchronize
    else:
        finish = import_module("tensorflow").test.experimental.sync_devices
    return lambda value: (finish(), value)[1]


def _at_once(value: Any) -> Any:
    """For what is computed when a call returns."""
    return value


def _time_call(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _time_events(work: Callable[[], Any]) -> float:
    """As the CUDA device sees it."""
    events: Any = import_module("torch").cuda.Event
    start, end = events(enable_timing=True), events(enable_timing=True)
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


# The peak


def _prepare_product(case: BenchCase) -> Prepared:
    """A matrix product, as large as a device computes fastest."""
    draw = np.random.default_rng(0)
    a, b = (draw.normal(size=case.size).astype("float32") for _ in range(2))
    if case.framework == NUMPY:
        work: Callable[[], Any] = partial(np.matmul, a, b)
        return Prepared(work, partial(_time_call, work), np.asarray)
    native = part("torch", "bridge.native")
    torch: Any = import_module("torch")
    dtype = torch.bfloat16 if case.form == "bfloat16" else torch.float32
    one, other = (native.from_numpy(each).to(case.device, dtype) for each in (a, b))
    return _prepare(case, lambda: one @ other, native.to_canonical)
