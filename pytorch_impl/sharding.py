"""Models whose parameters are divided over several devices, for those too large for one.

The engine is PyTorch's FSDP2 (`torch.distributed.fsdp.fully_shard`), in a process for each device.
Each process holds its rows of every parameter. It has the whole parameters of a block only while
it computes the block.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from pytorch_impl.bridge.adapter import create, dtype_name
from pytorch_impl.bridge.native import from_numpy, to_numpy
from pytorch_impl.bridge.ranks import GROUP_BACKENDS, in_group, join_group
from weights.checks import at_least, one_of
from weights.config import Config, own_kinds
from weights.convert import LOW, check
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS
from weights.leaves import walk
from weights.live import find_dtype
from weights.schema import schema
from weights.stored import StoredArray, as_stored


def build_sharded(
    config: Config,
    arrays: Mapping[str, np.ndarray | StoredArray],
    shards: int,
    device: str = "cpu",
) -> nn.Module:
    """A model in evaluation mode whose parameters are divided over the processes of the group.

    Call it in every process, with the same arguments. Start the processes with torchrun.
    arrays: canonical, by name. Of an array that is in a mapped file, a process reads its own rows
        alone. Running statistics are whole in every process.
    shards: the number of processes. device: "cpu" or "cuda"; on CUDA the process is on the device
        that LOCAL_RANK names.
    The model computes on each process' own images. To train it, give each its part of a batch
    within `shards.divided`, and use `training.cross_entropy` with the division: gradients are
    added up over the processes. `training.optimizer` takes its parameters.
    Raises ArgumentError outside of a process group and in one of another size, and for attention
    kinds of your own, and WeightsError for arrays that do not fit.
    """
    at_least("shards", shards, 1)
    one_of("device", device, tuple(GROUP_BACKENDS))
    if own_kinds(config) and shards > 1:
        raise ArgumentError(
            f"attention: expected kinds of ours for a model on {shards} devices, got "
            f"{own_kinds(config)[0]!r}; its norms may see only a part of the batch"
        )
    if not in_group():
        raise ArgumentError(
            "build_sharded: expected a process group, got a process alone; start the script with "
            f"torchrun --nproc-per-node {shards}"
        )
    join_group(shards, device)
    parameters = schema(config)
    check(parameters, arrays)
    model = create(config, dtype=find_dtype(parameters, arrays), device="meta")
    _check_dtypes(model, arrays)
    _shard(model, shards, device)
    model.to_empty(device=_own_device(device))
    _fill(model, arrays)
    return model.eval()


def gather(model: nn.Module) -> dict[str, np.ndarray]:
    """The canonical arrays of a sharded model, in the process with rank 0; none in the others.

    Call it in every process. It puts the parameters together one by one.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    found = {}
    for name, leaf in _leaves(model).items():
        whole = leaf.full_tensor().detach() if isinstance(leaf, DTensor) else leaf
        if dist.get_rank() == 0:
            found[name] = to_numpy(whole).copy()
    return found


def _leaves(model: Any) -> dict[str, torch.Tensor]:
    """Parameters and statistics by canonical name."""
    path = FRAMEWORKS["torch"].path
    return {each.name: walk(model, path(each)) for each in schema(model.config)}


def _check_dtypes(model: nn.Module, arrays: Mapping[str, np.ndarray | StoredArray]) -> None:
    """Raises WeightsError for arrays in other dtypes than the model's. Statistics may be lower."""
    config: Any = model.config
    held = {name: dtype_name(leaf) for name, leaf in _leaves(model).items()}
    statistics = {each.name for each in schema(config) if not each.trainable}
    low = {name: arrays[name].dtype.name for name in statistics if arrays[name].dtype.name in LOW}
    check(schema(config), arrays, held | low)


def _shard(model: nn.Module, shards: int, device: str) -> None:
    """Makes FSDP modules of each block and of the model, whose gradients are sums."""
    mesh = init_device_mesh(device, (shards,))
    blocks = [block for stage in getattr(model, "stages", ()) for block in stage]
    for module in (*blocks, model):
        sharded = fully_shard(module, mesh=mesh, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo has no other
    if hasattr(model, "features"):
        register_fsdp_forward_method(model, "features")


def _own_device(device: str) -> torch.device:
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", dist.get_rank())))
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(device)


@torch.no_grad()
def _fill(model: nn.Module, arrays: Mapping[str, np.ndarray | StoredArray]) -> None:
    """Copies this process' rows of every array into the model."""
    for name, leaf in _leaves(model).items():
        values = as_stored(arrays[name]).get()
        if isinstance(leaf, DTensor):
            # Rows are divided as torch.chunk does it: the first processes have as many as the
            # longest part.
            held = leaf.to_local()
            start = dist.get_rank() * -(-len(values) // dist.get_world_size())
            held.copy_(from_numpy(values[start : start + len(held)]))
        else:
            leaf.copy_(from_numpy(values))
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("num_batches_tracked"):
            buffer.zero_()
