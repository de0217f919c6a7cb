"""The processes that a data-parallel run on this machine starts, one for each device.

They are new interpreters, which import nothing of the user's script, so that it needs no main
guard. Tensors go through memory that all of them share, everything else through a socket each.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import prod
from multiprocessing.connection import Connection, wait
from typing import IO, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from pytorch_impl.bridge.adapter import create, dtype_name
from pytorch_impl.bridge.native import from_numpy, lower_dtype, to_numpy
from pytorch_impl.bridge.ranks import (
    RunContent,
    look_at,
    lost_a_peer,
    make_rank_step,
    put_into,
    show_own,
)
from pytorch_impl.training import optimizer as make_optimizer
from weights import errors
from weights.config import Config
from weights.errors import ProcessError, ResattnError
from weights.flags import read_determinism, read_tf32, write_determinism, write_tf32
from weights.recipe import Recipe
from weights.shards import DeviceState, Shards

_START = "from pytorch_impl.bridge.workers import work; work()"
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_GRACE = 2.0  # seconds for the other processes to say how they failed
_PATIENCE = timedelta(minutes=10)  # of a process that waits for another one's gradients
_ALIGNMENT = 64

Places = dict[Any, tuple[int, tuple[int, ...], torch.dtype]]  # {key: (first byte, shape, dtype)}


class SharedMemory:
    """A file in memory through which processes give each other tensors. It grows as needed."""

    def __init__(self, file: IO[bytes]):
        self.file = file
        self._map: Any = None

    @classmethod
    def create(cls) -> SharedMemory:
        """A new one. It is gone with the last process that has it."""
        if hasattr(os, "memfd_create"):
            return cls(os.fdopen(os.memfd_create("resattn"), "r+b", buffering=0))
        return cls(tempfile.TemporaryFile(buffering=0))

    def put(self, tensors: Mapping[Any, Tensor]) -> Places:
        """Copies tensors into it."""
        layout: Places = {}
        end = 0
        for key, tensor in tensors.items():
            layout[key] = (end, tuple(tensor.shape), tensor.dtype)
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        if os.fstat(self.file.fileno()).st_size < end:
            os.ftruncate(self.file.fileno(), end)
        for key, held in self.get(layout).items():
            held.copy_(tensors[key])
        return layout

    def get(self, layout: Places) -> dict[Any, Tensor]:
        """The tensors in it, not copied."""
        end = max((start + prod(shape) * dtype.itemsize for start, shape, dtype in layout.values()))
        if self._map is None or len(self._map) < end:
            self._map = mmap.mmap(self.file.fileno(), 0)
        return {
            key: torch.frombuffer(self._map, dtype=dtype, count=prod(shape), offset=start).view(
                shape
            )
            for key, (start, shape, dtype) in layout.items()
        }


@dataclass(frozen=True)
class Task:
    """What a worker must know to begin. group: the file by which the processes find each other."""

    config: Config
    recipe: Recipe
    shards: Shards
    dtype: str
    compute: str | None
    device: str
    group: str
    seed: int
    rank: int


Flags = tuple[dict[str, Any], tuple[bool, ...]]


class Load(NamedTuple):
    """The state from which a call of train begins."""

    layout: Places
    others: dict[Any, Any]
    groups: list[dict[str, Any]]
    trained: frozenset[str]
    flags: Flags


class Update(NamedTuple):
    """A batch of so many images, in shared memory, filled up."""

    layout: Places
    examples: int


class Show(NamedTuple):
    """Asks for the images of the last batch, and for the parameters and statistics."""


class Save(NamedTuple):
    """Asks for the state: `Load` without its last two values."""


@dataclass(frozen=True)
class WorkerFailure:
    """An error in a worker. own: whether its class is one of `weights.errors`. lost: whether it
    only says that another process is gone.
    """

    kind: str
    message: str
    values: dict[str, Any]
    own: bool
    lost: bool


class Workers:
    """The workers of one run, seen from the process that has started them."""

    def __init__(self, model: nn.Module, recipe: Recipe, shards: Shards):
        self.count = shards.count
        self._state, self._batch = SharedMemory.create(), SharedMemory.create()
        self._folder = tempfile.TemporaryDirectory()
        self._files: list[IO[bytes]] = [self._state.file, self._batch.file]
        self._logs: list[IO[bytes]] = []
        self._connections: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        held = (self._processes, self._connections, self._files, self._folder)
        self.stop = weakref.finalize(self, _stop, *held)  # also when this process ends
        weight, config = next(model.parameters()), cast(Config, model.config)
        try:
            for rank in range(shards.count):
                self._start(weight.device.type)
                task = Task(config, recipe, shards, dtype_name(weight), lower_dtype(model),
                            weight.device.type, os.path.join(self._folder.name, "group"),
                            torch.initial_seed(), rank)  # fmt: skip
                self._connections[rank].send(task)
            self._receive()
        except BaseException:
            self.stop()
            raise

    def _start(self, device: str) -> None:
        here, there = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115
        self._logs.append(log)
        self._files.append(log)
        self._connections.append(Connection(here.detach()))
        files = [there.fileno(), *(each.file.fileno() for each in (self._state, self._batch))]
        with there:
            process = subprocess.Popen(
                [sys.executable, "-c", _START, *map(str, files)],
                pass_fds=files,
                env=_environment(device),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self._processes.append(process)

    def train(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        shards: Shards,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
    ) -> tuple[list[float], RunContent]:
        """The losses, and the content after them. Model and optimizer stay as they are."""
        tensors, others, groups = look_at(model, optimizer)
        trained = frozenset(n for n, each in model.named_parameters() if each.requires_grad)
        self._ask(Load(self._state.put(tensors), others, groups, trained, _flags()))
        losses = []
        for images, labels in batches:
            division = shards.divide(len(images))
            padded = {"images": division.pad(images), "labels": division.pad(labels)}
            arrays = {name: from_numpy(array) for name, array in padded.items()}
            losses.append(sum(self._ask(Update(self._batch.put(arrays), len(images)))))
        layout, *rest = self._ask(Save())[0]
        return losses, RunContent(self._state.get(layout), *rest)

    def show(self) -> list[DeviceState]:
        """What each worker has, after its last batch."""
        return self._ask(Show())

    def _ask(self, message: Any) -> list[Any]:
        """Sends a message to all workers. Returns their answers by rank."""
        for rank, connection in enumerate(self._connections):
            try:
                connection.send(message)
            except OSError:
                raise self._explain({rank: None}) from None
        return self._receive()

    def _receive(self) -> list[Any]:
        answers: dict[int, Any] = {}
        while len(answers) < self.count:
            answers |= self._next(answers, None)
            if not all(isinstance(answer, tuple) for answer in answers.values()):
                raise self._explain(answers)
        return [answers[rank][0] for rank in range(self.count)]

    def _next(self, known: Mapping[int, Any], timeout: float | None) -> dict[int, Any]:
        """The next answers of workers that have given none. None: of one that has ended."""
        waiting = [rank for rank in range(self.count) if rank not in known]
        ready = wait([self._connections[rank] for rank in waiting], timeout)
        found: dict[int, Any] = {}
        for rank in waiting:
            if self._connections[rank] in ready:
                try:
                    found[rank] = self._connections[rank].recv()
                except (EOFError, OSError):
                    found[rank] = None
        return found

    def _explain(self, known: dict[int, Any]) -> ResattnError:
        """The one error to raise, from the answers until the first failure. When a worker ends,
        the others lose their connections to it.
        """
        while len(known) < self.count and (more := self._next(known, _GRACE)):
            known |= more
        failures: dict[int, WorkerFailure | None] = {
            rank: each for rank, each in sorted(known.items())
                    if not isinstance(each, tuple)}  # fmt: skip
        rank = min(failures, key=lambda rank: _order(failures[rank]))
        failure, worker = failures[rank], f"worker {rank} of {self.count}"
        if failure is not None and failure.own:
            return _own_error(failure)
        after = "; model and optimizer are as they were, the next call of train starts new workers"
        if failure is not None:
            return ProcessError(f"{worker} raised {failure.kind}: {failure.message}{after}")
        return ProcessError(f"{worker} {self._describe_end(rank)}{after}")

    def _describe_end(self, rank: int) -> str:
        try:
            status = self._processes[rank].wait(_GRACE)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if status < 0:
            names = {int(each): each.name for each in signal.Signals}
            return f"was ended by the signal {names.get(-status, -status)}"
        self._logs[rank].seek(0)
        lines = self._logs[rank].read().decode(errors="replace").strip().splitlines()
        said = f" ({lines[-1]})" if lines else ""
        return f"ended with the exit status {status}{said}"


def _order(failure: WorkerFailure | None) -> int:
    """Which of several failures is the cause: the lowest."""
    if failure is None:
        return 0
    return 3 if failure.lost else 1 if failure.own else 2


def _own_error(failure: WorkerFailure) -> ResattnError:
    kind: type[ResattnError] = getattr(errors, failure.kind)
    error = kind.__new__(kind, failure.message)
    error.args = (failure.message,)
    vars(error).update(failure.values)
    return error


def _stop(
    processes: list[subprocess.Popen[bytes]],
    connections: list[Connection],
    files: list[IO[bytes]],
    folder: tempfile.TemporaryDirectory[str],
) -> None:
    """Workers keep nothing that is worth a farewell."""
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
    for connection in connections:
        connection.close()
    for file in files:
        file.close()
    folder.cleanup()


def _environment(device: str) -> dict[str, str]:
    """The variables of a worker: it imports what this process would."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    found = {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
    if device == "cpu":
        found |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        found.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK)
    return found


def _flags() -> Flags:
    """The settings of this process that decide how precisely it computes."""
    return read_tf32(torch), read_determinism(torch)


def _set_flags(flags: Flags) -> None:
    write_tf32(torch, flags[0])
    write_determinism(torch, flags[1])


# In a worker


def work() -> None:
    """Answers messages until there are no more. The arguments of the process name its files."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that has started it ends it
    torch.set_warn_always(False)
    socket_file, state, batch = map(int, sys.argv[1:])
    connection = Connection(socket_file)
    memories = [SharedMemory(os.fdopen(file, "r+b", buffering=0)) for file in (state, batch)]
    try:
        answer = _make_rank(connection.recv(), *memories)
        connection.send((None,))
        while True:
            message = connection.recv()
            connection.send((answer(message),))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)
    except Exception as error:
        own = isinstance(error, ResattnError)
        values = vars(error) if own else {}
        name = type(error).__name__
        connection.send(WorkerFailure(name, str(error), values, own, lost_a_peer(error)))
        os._exit(1)  # at once, so that no other process waits for this one


def _make_rank(task: Task, state: SharedMemory, batch: SharedMemory) -> Callable[[Any], Any]:
    """Joins the group. Returns a function from messages to answers."""
    torch.manual_seed((task.seed + task.rank) % 2**64)
    device = torch.device(f"cuda:{task.rank}" if task.device == "cuda" else task.device)
    if task.device == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    model = create(task.config, dtype=task.dtype, device=str(device), compute=task.compute)
    optimizer = make_optimizer(model, task.recipe)
    count = task.shards.count
    dist.init_process_group(
        "nccl" if task.device == "cuda" else "gloo",
        store=dist.FileStore(task.group, count),
        rank=task.rank,
        world_size=count,
        timeout=_PATIENCE,
    )
    step: Any = None
    images: Any = None

    def answer(message: Any) -> Any:
        nonlocal step, images
        if isinstance(message, Load):
            _set_flags(message.flags)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name in message.trained)
                parameter.grad = None
            put_into(
                model,
                optimizer,
                RunContent(state.get(message.layout), message.others, message.groups),
            )
            step = make_rank_step(model, optimizer, task.recipe)
            return None
        if isinstance(message, Update):
            division = task.shards.divide(message.examples)
            first = task.rank * division.size
            held = batch.get(message.layout)
            parts = (held[each][first : first + division.size] for each in ("images", "labels"))
            images, labels = (part.to(device, copy=True) for part in parts)
            return float(step(images, labels, division))
        if isinstance(message, Show):
            return show_own(model, to_numpy(images))
        if task.rank:
            return None
        tensors, *rest = look_at(model, optimizer)
        return (state.put(tensors), *rest)

    return answer
