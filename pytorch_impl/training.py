"""Training by a recipe: the loss, the schedule, the optimizer with its state as NumPy, one step.

A recipe's arguments mean what they mean in PyTorch, so this uses PyTorch's own optimizers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pytorch_impl.bridge.native import to_native, to_numpy, training_mode
from pytorch_impl.layers import global_average
from pytorch_impl.shapes import Labels, Logits, Maps, Outputs, Scalar
from pytorch_impl.shards import example_weights
from weights.errors import ArgumentError
from weights.recipe import SGD, AdamW, Recipe
from weights.shards import Division

# The entry of a parameter group that counts its steps. The optimizer's state_dict saves it.
STEPS = "steps_taken"


def logits(output: Outputs) -> Logits:
    """The input of the loss: a network's output, or a block's averaged over its positions."""
    return global_average(output).flatten(1) if output.ndim == 4 else output


def cross_entropy(
    logits: Logits,
    labels: Labels,
    label_smoothing: float = 0.0,
    division: Division | None = None,
) -> Scalar:
    """The mean cross-entropy of a batch, with label smoothing (Szegedy et al. 2016, section 7).

    -sum(target * log_softmax(logits)), in the dtype of the logits. The target is label_smoothing /
    classes everywhere, and 1 - label_smoothing more at the label.
    division: of the batch whose shard this is. The result is then this shard's part of the mean:
        the parts of all shards add up to it.
    """
    if division is None:
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    losses = functional.cross_entropy(
        logits, labels, label_smoothing=label_smoothing, reduction="none"
    )
    return (losses * example_weights(losses, division)).sum() / division.examples


def schedule(recipe: Recipe) -> Callable[[int], float]:
    """Steps taken -> the factor of the learning rate, for `torch.optim.lr_scheduler.LambdaLR`.

    Not CosineAnnealingLR: it computes each rate from the one before, and the rate rises again after
    the end.
    """
    return recipe.schedule.at


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """A `torch.optim` optimizer of the model's parameters.

    It sets its own rate before each step, so it needs no scheduler.
    """
    rule, parameters = recipe.optimizer, model.parameters()
    options: dict[str, Any] = {"lr": recipe.rate(0), "weight_decay": rule.weight_decay}
    result: torch.optim.Optimizer
    if isinstance(rule, SGD):
        options |= {"momentum": rule.momentum, "nesterov": rule.nesterov}
        result = torch.optim.SGD(parameters, **options)
    else:
        kind = torch.optim.AdamW if isinstance(rule, AdamW) else torch.optim.Adam
        result = kind(parameters, betas=rule.betas, eps=rule.eps, **options)
    for group in result.param_groups:
        group[STEPS] = 0

    def set_rate(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(group[STEPS])
            group[STEPS] += 1

    result.register_step_pre_hook(set_rate)
    return result


def make_train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe
) -> Callable[[Maps, Labels], Scalar]:
    """A function of images and labels that makes one update and returns the loss before it.

    It computes in training mode; the model's mode stays as it is, and so do parameters that need no
    gradient. It does not wait for the device: `float(loss)` does.
    images: (batch, channels, height, width), labels: (batch,), tensors on the model's device.

    Measured on CPU and left out: channels_last, which takes 1.05 times as long in `se-resnet18`
    with 8 images of 64 x 64, and foreach optimizers, which make no difference.
    """

    check_whole(model)

    def step(images: Maps, labels: Labels) -> Scalar:
        with training_mode(model, True):
            loss = cross_entropy(logits(model(images)), labels, recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def check_whole(model: nn.Module) -> None:
    """Raises ArgumentError for a model whose parameters are divided over processes. A step of one
    process would add its gradients up as often as there are processes.
    """
    if any(hasattr(parameter, "placements") for parameter in model.parameters()):
        raise ArgumentError(
            "the model: its parameters are divided over processes; train it in a loop of your own, "
            "as docs/distributed.md shows"
        )


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
) -> float:
    """`make_train_step` for canonical arrays. Returns the loss as a number.

    images: (batch, channels, height, width). labels: (batch,).
    """
    step = make_train_step(model, optimizer, recipe)
    return float(step(to_native(model, images), to_native(model, labels)))


def frozen(model: nn.Module) -> list[str]:
    """The parameters that an optimizer does not change, by the framework's own names."""
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def steps_taken(optimizer: torch.optim.Optimizer) -> int:
    """The number of updates so far."""
    return optimizer.param_groups[0][STEPS]


def moments(
    optimizer: torch.optim.Optimizer, leaves: Mapping[str, nn.Parameter]
) -> dict[str, dict[str, np.ndarray]]:
    """The optimizer's moments of each leaf: {moment: {leaf: array}}.

    Moments have PyTorch's names, arrays the framework's layout.
    """

    def value(moment: str, leaf: nn.Parameter) -> np.ndarray:
        # PyTorch makes moments in the first step, from zeros.
        return to_numpy(optimizer.state[leaf].get(moment, torch.zeros_like(leaf))).copy()

    return {
        moment: {name: value(moment, leaf) for name, leaf in leaves.items()}
        for moment in _moment_names(optimizer)
    }


def restore(
    optimizer: torch.optim.Optimizer,
    leaves: Mapping[str, nn.Parameter],
    step: int,
    moments: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Puts a number of updates, and the moments after them, into a new optimizer of the model."""
    content = optimizer.state_dict()
    names = {id(leaf): name for name, leaf in leaves.items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for group in content["param_groups"]:
        group[STEPS] = step
    for position, parameter in enumerate(parameters if step else []):
        name = names[id(parameter)]
        state = {moment: torch.tensor(arrays[name]) for moment, arrays in moments.items()}
        if "exp_avg" in state:  # Adam counts each parameter's steps, in a float on the CPU
            state["step"] = torch.tensor(float(step))
        content["state"][position] = state
    optimizer.load_state_dict(content)


def _moment_names(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    if isinstance(optimizer, torch.optim.SGD):
        return ("momentum_buffer",) if optimizer.param_groups[0]["momentum"] else ()
    return ("exp_avg", "exp_avg_sq")
