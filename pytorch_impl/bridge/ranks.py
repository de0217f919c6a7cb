"""What each process of a data-parallel run does: its part of a step, and the training's state."""

# No annotations from the future: DistributedDataParallel compares those of its hook with types.
import atexit
import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from pytorch_impl.bridge.native import to_native, to_numpy, training_mode
from pytorch_impl.shapes import Labels, Maps, Scalar
from pytorch_impl.shards import divided
from pytorch_impl.training import STEPS, cross_entropy, logits
from weights.errors import ArgumentError, ProcessError
from weights.recipe import Recipe
from weights.shards import DeviceState, Division, Shards

# PyTorch 2.13 renames the argument. Our statistics are equal in all processes without it.
_SENDS_BUFFERS: str = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel.__init__).parameters
)
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


GROUP_BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


def in_group() -> bool:
    """Whether this process is one of a group, or was started by torchrun to be one."""
    return dist.is_initialized() or {"RANK", "WORLD_SIZE"} <= set(os.environ)


def join_group(count: int, device: str) -> None:
    """Makes this process one of the group's. device: "cpu" or "cuda".

    Raises ArgumentError for a group of another size.
    """
    size = dist.get_world_size() if dist.is_initialized() else int(os.environ["WORLD_SIZE"])
    if size != count:
        raise ArgumentError(
            f"shards: expected the number of processes in the group, {size}, got {count}; start "
            f"as many processes as shards (torchrun --nproc-per-node {count})"
        )
    use_own_device(device)
    if not dist.is_initialized():
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise ArgumentError(
                f"{' and '.join(missing)}: not set, though RANK and WORLD_SIZE are; start the "
                "script with torchrun, or make a process group before"
            )
        dist.init_process_group(GROUP_BACKENDS[device])
        atexit.register(_leave_group)


def use_own_device(device: str) -> str:
    """The device of this process, which PyTorch then takes for "cuda": torchrun numbers the
    processes of a machine.
    """
    if device != "cuda":
        return device
    number = int(os.environ.get("LOCAL_RANK", torch.cuda.current_device()))
    torch.cuda.set_device(number)
    return f"cuda:{number}"


def _leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def own_rank() -> int:
    """The number of this process in its group."""
    return dist.get_rank()


def show_own(model: nn.Module, images: np.ndarray) -> DeviceState:
    """What this process has: the images of its last batch, and its parameters and statistics."""
    return images, {name: to_numpy(tensor).copy() for name, tensor in _held(model).items()}


def show_ranks(model: nn.Module, images: np.ndarray) -> list[DeviceState]:
    """What each process of the group has, in each of them."""
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, show_own(model, images))
    return found


class RunContent(NamedTuple):
    """All that a training changes.

    tensors: by ("model", name) and ("optimizer", number of the parameter, name). others: what
        else the optimizer keeps, by the same keys. groups: its parameter groups.
    """

    tensors: dict[tuple[Any, ...], Tensor]
    others: dict[tuple[Any, ...], Any]
    groups: list[dict[str, Any]]


def look_at(model: nn.Module, optimizer: torch.optim.Optimizer) -> RunContent:
    """The content of a model and its optimizer. Its tensors are theirs, not copies."""
    held = optimizer.state_dict()
    kept = {
        ("optimizer", number, name): value
        for number, values in held["state"].items()
        for name, value in values.items()
    }
    tensors: dict[tuple[Any, ...], Tensor]
    tensors = {("model", name): tensor.detach() for name, tensor in _held(model).items()}
    tensors |= {key: value for key, value in kept.items() if isinstance(value, Tensor)}
    others = {key: value for key, value in kept.items() if key not in tensors}
    return RunContent(tensors, others, held["param_groups"])


def put_into(model: nn.Module, optimizer: torch.optim.Optimizer, content: RunContent) -> None:
    """Copies a content into a model and its optimizer.

    Raises ArgumentError for a tensor of the model that has another dtype there.
    """
    tensors, others, groups = content
    held = _held(model)
    for name, tensor in held.items():
        if tensor.dtype != tensors["model", name].dtype:
            raise ArgumentError(
                f"{name}: expected {tensor.dtype}, as in a new model, got "
                f"{tensors['model', name].dtype}; convert the whole model, as in model.double()"
            )
    state: dict[int, dict[str, Any]] = {}
    for key, value in (tensors | others).items():
        if key[0] == "optimizer":
            own = value.clone() if isinstance(value, Tensor) else value
            state.setdefault(key[1], {})[key[2]] = own
    with torch.no_grad():
        for name, tensor in held.items():
            tensor.copy_(tensors["model", name])
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _held(model: nn.Module) -> dict[str, Tensor]:
    return dict(chain(model.named_parameters(), model.named_buffers()))


@contextmanager
def keep_whole(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """After an error within it, model and optimizer are as they were before."""
    tensors, others, groups = look_at(model, optimizer)
    before = RunContent(
        {key: tensor.clone() for key, tensor in tensors.items()},
        others,
        [dict(group) for group in groups],
    )
    try:
        yield
    except BaseException:
        put_into(model, optimizer, before)
        raise


def make_rank_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe
) -> Callable[[Maps, Labels, Division], Scalar]:
    """A function of this process' shard of a batch that makes one update, together with all other
    processes of the group. It returns this shard's part of the loss before it.

    DistributedDataParallel reduces the gradients. Its hook adds them up instead of averaging them,
    because the losses are parts of the batch's mean.
    """
    options: dict[str, Any] = {_SENDS_BUFFERS: False}
    wrapped = DistributedDataParallel(model, **options)
    wrapped.register_comm_hook(None, _add_gradients)

    def step(images: Maps, labels: Labels, division: Division) -> Scalar:
        with training_mode(model, True), divided(model, division):
            output = logits(wrapped(images))
            loss = cross_entropy(output, labels, recipe.label_smoothing, division)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _add_gradients(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def train_as_rank(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    shards: Shards,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
) -> list[float]:
    """`DataParallel.train` in one of the processes of a group, each of which gets the same batches.

    Raises ArgumentError where the processes do not begin with the same model and optimizer, and
    ProcessError when another process ends.
    """
    rank, parts = dist.get_rank(), []
    try:
        _check_same_start(model, optimizer)
        step = make_rank_step(model, optimizer, recipe)
        for images, labels in batches:
            division = shards.divide(len(images))
            own, targets = (division.part(each, rank) for each in (images, labels))
            parts.append(step(to_native(model, own), to_native(model, targets), division))
        losses = torch.stack(parts or [next(model.parameters()).new_zeros(())]).double()
        dist.all_reduce(losses)
    except RuntimeError as error:
        if not lost_a_peer(error):
            raise
        raise ProcessError(
            f"process {rank} of {shards.count} lost the connection to another one, which has "
            "ended; model and optimizer are as they were before this call of train. Start all "
            f"processes again ({_first_line(error)})"
        ) from error
    return losses.tolist()[: len(parts)]


def lost_a_peer(error: BaseException) -> bool:
    """Whether an error is of the connection to another process. Gloo raises a RuntimeError that
    begins with the place in its own source.
    """
    return isinstance(error, dist.DistError) or "gloo/" in str(error)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _check_same_start(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Compares the sums of the bits of all tensors between the processes."""
    tensors = look_at(model, optimizer).tensors
    names = ("the number of updates", "the model", "the optimizer's moments")
    sums = [optimizer.param_groups[0][STEPS], 0, 0]
    for number, (key, tensor) in enumerate(tensors.items(), 1):
        bits = tensor.contiguous().view(-1).view(_BITS[tensor.itemsize])
        # Times the number, so that tensors with exchanged values are found.
        place = 1 if key[0] == "model" else 2
        sums[place] += number * int(bits.sum(dtype=torch.int64))
    own = torch.tensor([value % 2**62 for value in sums], device=next(model.parameters()).device)
    found = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(found, own)
    for name, values in zip(names, torch.stack(found).T.tolist(), strict=True):
        for rank, value in enumerate(values):
            if value != values[0]:
                raise ArgumentError(
                    f"{name}: expected the same in all processes, got another in process {rank} "
                    "than in process 0; make the model from one file or one seed in each of them"
                )
