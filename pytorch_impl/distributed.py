"""Data-parallel training: each device has a copy of the model and computes a shard of each batch.

The engine is torch.distributed with DistributedDataParallel, on gloo for the CPU and NCCL for CUDA.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from pytorch_impl.bridge.native import to_numpy
from pytorch_impl.bridge.ranks import (
    GROUP_BACKENDS,
    in_group,
    join_group,
    keep_whole,
    own_rank,
    put_into,
    show_ranks,
    train_as_rank,
    use_own_device,
)
from pytorch_impl.bridge.workers import Workers
from pytorch_impl.training import STEPS, check_whole, train_step
from pytorch_impl.training import optimizer as make_optimizer
from weights.checks import at_least
from weights.config import own_kinds
from weights.errors import ArgumentError
from weights.labelled import check_labelled
from weights.live import framework_of, look_into_unchanged
from weights.recipe import Recipe
from weights.shards import DeviceState, Shards


def provide_devices(count: int) -> None:
    """Makes the CPU be so many devices. PyTorch needs nothing for it: each is a process.

    Raises ArgumentError for what is no positive integer.
    """
    at_least("count", count, 1)


@contextmanager
def scope(shards: Shards, device: str = "cpu") -> Iterator[None]:
    """Within it, models are made that can be trained on several devices. In PyTorch all can be.

    Raises ArgumentError for another device than "cpu" and "cuda", and where there are fewer.
    """
    _check_devices(Shards(1) if in_group() else shards, device)
    if in_group():
        use_own_device(device)
    yield


class DataParallel:
    """Trains a model on several devices.

    model: a block or a network on "cpu" or "cuda". optimizer: that of `training.optimizer(model,
        recipe)`. You may change both between two calls of `train`, and freeze parameters.
    shards: how many devices, and what batch norms normalise with.

    There are two ways to start the processes, one for each device:
    - This process is one of them, if it was started by torchrun or has a process group. Then all
      of them make the same model, and call `train` with the same whole batches. The group must
      have as many processes as there are devices.
    - Otherwise the first call of `train` starts them, on this machine. They end with `close`, with
      this object and with this process. On CUDA, number r is on cuda:r. On the CPU each of them
      computes with one thread, so that they do not wait for each other's cores.

    The draws of stochastic depth and dropout differ from those on one device. Processes that
    `train` starts draw from seeds torch.initial_seed() + r.

    Raises ModelError for a model that is none of ours or was changed, and ArgumentError for more
    devices than there are, for a process group of another size, and for attention kinds of your
    own on more than one device, because their norms may see only a shard.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, shards: Shards
    ):
        framework_of(model)
        self.model, self.optimizer, self.recipe, self.shards = model, optimizer, recipe, shards
        self._plain: Any = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
        self._workers: Workers | None = None
        device = next(self._plain.parameters()).device.type
        self._is_rank = in_group()
        _check_devices(Shards(1) if self._is_rank else shards, device)
        own = own_kinds(self._plain.config)
        if own and shards.count > 1:
            raise ArgumentError(
                f"attention: expected kinds of ours for training on {shards.count} devices, got "
                f"{own[0]!r}; its norms may see only a shard of the batch. Train it on one device"
            )
        self._check_optimizer()
        if self._is_rank:
            join_group(shards.count, device)

    def train(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        """Makes an update on each batch. Returns the losses before each.

        batches: canonical images, (batch, channels, height, width), and labels, (batch,).
        Afterwards model and optimizer have the new values, in every process. After an error they
        are as they were before the call. The mode of the model does not change.
        Raises ProcessError when one of the processes ends; the next call starts new ones, if
        this class has started them. Errors of ours that a process raises are raised here.
        """
        if not any(each.requires_grad for each in self._plain.parameters()):
            raise ArgumentError(
                "the model: expected a parameter that is trainable, got only frozen ones"
            )
        check_whole(self._plain)
        state, config = (self._plain, self.optimizer), self._plain.config
        # In every process the same checks of the whole batch: an error in one of them alone would
        # leave the others waiting for it.
        batches = ((x, check_labelled(x, labels, config)) for x, labels in batches)
        if self.shards.count > 1 and not self._is_rank:
            return self._train_with_workers(batches)
        with keep_whole(*state):
            if self.shards.count > 1:
                return train_as_rank(*state, self.recipe, self.shards, batches)
            return [train_step(*state, self.recipe, *batch) for batch in batches]

    def observe(
        self, images: np.ndarray, labels: np.ndarray, leaves: Mapping[str, Any]
    ) -> list[DeviceState]:
        """Makes one update, and tells what each device had in it, for `resattn.tracing.parallel`.

        leaves: the model's variables, by canonical names.
        Returns, for each device, the images that it computed on, canonical and filled up, and its
        own copy of each leaf after the update, in the framework's layout.
        """
        losses = self.train([(images, labels)])
        assert len(losses) == 1, "one update"
        division = self.shards.divide(len(images))
        if self.shards.count == 1:
            own = {name: to_numpy(leaf) for name, leaf in leaves.items()}
            return [(division.pad(images), own)]
        if self._is_rank:
            return show_ranks(self._plain, division.part(images, own_rank()))
        assert self._workers is not None, "they have trained"
        return self._workers.show()

    def _train_with_workers(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        look_into_unchanged(self.model)
        state = (self._plain, self.optimizer)
        if self._workers is None:
            self._workers = Workers(self._plain, self.recipe, self.shards)
        try:
            losses, content = self._workers.train(*state, self.shards, batches)
            with keep_whole(*state):
                put_into(*state, content)
        except BaseException:
            self.close()
            raise
        return losses

    def close(self) -> None:
        """Ends the processes that `train` has started. The next call of `train` starts new ones."""
        if self._workers is not None:
            self._workers.stop()
        self._workers = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_optimizer(self) -> None:
        groups, kind = self.optimizer.param_groups, type(make_optimizer(self._plain, self.recipe))
        held = [id(each) for group in groups for each in group["params"]]
        own = [id(each) for each in self._plain.parameters()]
        if type(self.optimizer) is not kind or held != own or STEPS not in groups[0]:
            raise ArgumentError(
                "optimizer: expected that of pytorch_impl.training.optimizer(model, recipe), got "
                f"another {type(self.optimizer).__name__}"
            )


def _check_devices(shards: Shards, device: str) -> None:
    """Raises ArgumentError unless there are that many devices of a type."""
    if device not in GROUP_BACKENDS:
        raise ArgumentError(f"device: expected one of {', '.join(GROUP_BACKENDS)}, got {device!r}")
    present = torch.cuda.device_count()
    if device == "cuda" and shards.count > present:
        raise ArgumentError(
            f"shards: expected at most as many as there are CUDA devices here, {present}, got "
            f"{shards.count}; use fewer, or several machines with torchrun"
        )
