"""Settings of a whole process that decide how precisely a framework computes, shared by threads.

A thread that saves a setting and later restores it by itself restores what another one has set in
between. Here the first user saves, and the last one restores, in whatever order they come and go.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from operator import attrgetter
from threading import Lock, get_ident
from typing import Any, NamedTuple

from weights.checks import one_of
from weights.errors import ArgumentError

_lock = Lock()
_held: dict[str, _Setting] = {}


class _User(NamedTuple):
    thread: int
    value: Any


class _Setting:
    """before: what the setting was before its first user. users: those who hold it now."""

    def __init__(self, before: Any):
        self.before = before
        self.users: list[_User] = []


@contextmanager
def hold_setting(
    name: str, value: Any, read: Callable[[], Any], write: Callable[[Any], None]
) -> Iterator[None]:
    """Within it, a setting of the process has a value. On exit it is as it was before its first
    user, or as the latest one of those who still hold it wants it.

    name: of the setting, for messages and to know it again. read, write: of its value.
    Raises ArgumentError where another thread holds it at another value.
    """
    user = _User(get_ident(), value)
    with _lock:
        setting = _held.get(name) or _Setting(read())
        others = [each.value for each in setting.users if each.thread != user.thread]
        if any(other != value for other in others):
            raise ArgumentError(
                f"{name}: another thread computes with another setting of it, which holds for the "
                "whole process; wait until that thread has ended, or use a process of its own"
            )
        try:
            write(value)
        except BaseException:  # it may have written a part
            write(setting.users[-1].value if setting.users else setting.before)
            raise
        _held[name] = setting
        setting.users.append(user)
    try:
        yield
    finally:
        with _lock:
            # By identity: users with the same value are equal.
            setting.users = [each for each in setting.users if each is not user]
            if setting.users:
                write(setting.users[-1].value)
            else:
                del _held[name]
                write(setting.before)


@contextmanager
def hold_tf32_of_torch(torch: Any, allowed: bool) -> Iterator[None]:
    """Within it, PyTorch computes products of float32 in TF32, or does not; and adds up products of
    bfloat16 and float16 in float32. torch: the module.
    """
    form = "tf32" if allowed else "ieee"
    wanted: dict[str, Any] = {_MATMUL: "high" if allowed else "highest", _CUDNN: allowed}
    wanted |= dict.fromkeys(_REDUCED, False)
    if hasattr(torch.backends, "fp32_precision"):  # since PyTorch 2.9
        wanted |= dict.fromkeys(_PRODUCTS, form)
    with hold_setting(
        "TF32 of PyTorch", wanted, partial(read_tf32, torch), partial(write_tf32, torch)
    ):
        yield


def read_tf32(torch: Any) -> dict[str, Any]:
    """The settings of PyTorch that decide how products are computed, by their names."""
    # Where a program uses the newer interface, the older one may refuse to be read. Then it has
    # its first values, which such a program has not changed.
    found: dict[str, Any] = {_MATMUL: "highest", _CUDNN: True}
    newer = _PRODUCTS if hasattr(torch.backends, "fp32_precision") else ()
    for name in (_MATMUL, _CUDNN, *_REDUCED, *newer):
        with suppress(RuntimeError):
            found[name] = _get(torch, name)
    return found


def write_tf32(torch: Any, values: Mapping[str, Any]) -> None:
    """Sets what `read_tf32` reads."""
    for name, value in values.items():
        _set(torch, name, value)


# PyTorch has two interfaces to the same settings, and some operations fail where the two disagree:
# so both are set, the older one first, since it changes what the newer one says.
_MATMUL, _CUDNN = "float32_matmul_precision", "cudnn.allow_tf32"
_PRODUCTS = tuple(
    f"{library}.{kind}.fp32_precision"
    for library, kinds in (
        ("cuda", ("matmul",)),
        ("cudnn", ("conv", "rnn")),
        ("mkldnn", ("matmul", "conv", "rnn")),
    )
    for kind in kinds
)
_REDUCED = tuple(
    f"cuda.matmul.allow_{name}_reduced_precision_reduction" for name in ("bf16", "fp16")
)


def _get(torch: Any, name: str) -> Any:
    if name == _MATMUL:
        return torch.get_float32_matmul_precision()
    value = attrgetter(name)(torch.backends)
    # What is inherited follows later changes of what it is inherited from.
    if name in _PRODUCTS and value == torch.backends.fp32_precision:
        return "none"
    return value


def _set(torch: Any, name: str, value: Any) -> None:
    if name == _MATMUL:
        torch.set_float32_matmul_precision(value)
        return
    place, _, attribute = name.rpartition(".")
    setattr(attrgetter(place)(torch.backends), attribute, value)


def uses_tf32_of_torch(torch: Any) -> tuple[bool, bool]:
    """Whether PyTorch computes in TF32, in matrix products and in cuDNN's convolutions."""
    backends = torch.backends
    if hasattr(backends, "fp32_precision"):
        products = (backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision)
        return products[0] == "tf32", products[1] == "tf32"
    return backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32


def hold_deterministic_torch(torch: Any) -> AbstractContextManager[None]:
    """Within it, PyTorch computes the same bits each time, and an operation that cannot raises
    RuntimeError. torch: the module.
    """
    read, write = partial(read_determinism, torch), partial(write_determinism, torch)
    return hold_setting("determinism of PyTorch", (True, False, False, True), read, write)


def read_determinism(torch: Any) -> tuple[bool, ...]:
    """Whether PyTorch is asked for the same bits each time."""
    cudnn = torch.backends.cudnn
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    enabled = torch.are_deterministic_algorithms_enabled()
    return enabled, warns, cudnn.benchmark, cudnn.deterministic


def write_determinism(torch: Any, values: tuple[bool, ...]) -> None:
    """Sets what `read_determinism` reads."""
    cudnn = torch.backends.cudnn
    enabled, warns, cudnn.benchmark, cudnn.deterministic = values
    torch.use_deterministic_algorithms(enabled, warn_only=warns)


def check_flag(variable: str, flag: str) -> None:
    """Raises ArgumentError unless an environment variable has a flag."""
    if flag not in os.environ.get(variable, "").split():
        raise ArgumentError(
            f"{variable}: expected {flag} in it, which is read when the framework starts; set it "
            "before the program starts"
        )


_execution: ContextVar[str | None] = ContextVar("how gradients are computed", default=None)


@contextmanager
def execution(way: str) -> Iterator[None]:
    """Within it, gradients of live models are computed in a way of `EXECUTIONS`: one operation
    after the other, or compiled by the framework.
    """
    token = _execution.set(one_of("execution", way, EXECUTIONS))
    try:
        yield
    finally:
        _execution.reset(token)


def chosen_execution() -> str | None:
    """The way to compute gradients; None for that which a framework's users take."""
    return _execution.get()


EXECUTIONS = ("eager", "compiled")
