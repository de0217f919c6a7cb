"""Training as a recipe says it: the loss, the schedule, the optimizer, one step, and what the
optimizer keeps, as NumPy.

PyTorch's own optimizers are what a recipe's arguments mean, so they are used as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pytorch_impl.bridge.adapter import _mode, _tensor, to_numpy
from pytorch_impl.layers import global_average
from weights.recipe import SGD, AdamW, Recipe

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

TAKEN = "steps_taken"  # the entry of a parameter group, saved in the optimizer's state_dict, that counts its steps


def logits(output: Float[Tensor, "batch channels *positions"]) -> Float[Tensor, "batch channels"]:
    """What the loss reads: a network's output as it is, a block's averaged over its positions."""
    return global_average(output).flatten(1) if output.ndim == 4 else output


def cross_entropy(
    logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """The mean over the batch of -sum(target log_softmax(logits)), in the dtype of the logits
    (Szegedy et al. 2016, section 7): target is label_smoothing / classes everywhere, and 1 -
    label_smoothing more at the label.
    """
    return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def schedule(recipe: Recipe) -> Callable[[int], float]:
    """What `torch.optim.lr_scheduler.LambdaLR` takes: steps taken -> what the learning rate is
    multiplied by.

    Not CosineAnnealingLR, which computes each rate from the one before, and rises again behind the
    end.
    """
    return recipe.schedule.at


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """A `torch.optim` optimizer of the model's parameters. It sets its own rate before each step;
    it needs no scheduler.
    """
    given = recipe.optimizer
    options: dict[str, Any] = {"lr": recipe.rate(0), "weight_decay": given.weight_decay}
    if isinstance(given, SGD):
        made = torch.optim.SGD(
            model.parameters(), momentum=given.momentum, nesterov=given.nesterov, **options
        )
    else:
        kind = torch.optim.AdamW if isinstance(given, AdamW) else torch.optim.Adam
        made = kind(model.parameters(), betas=given.betas, eps=given.eps, **options)
    for group in made.param_groups:
        group[TAKEN] = 0

    def set_rate(made: torch.optim.Optimizer, *_: Any) -> None:
        for group in made.param_groups:
            group["lr"] = recipe.rate(group[TAKEN])
            group[TAKEN] += 1

    made.register_step_pre_hook(set_rate)
    return made


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
) -> float:
    """One update in training mode; the loss before it. images: (batch, channels, height, width);
    labels: (batch,).

    Parameters that need no gradient stay as they are. The model's mode is left as it was.
    """
    with _mode(model, True):
        loss = cross_entropy(
            logits(model(_tensor(model, images))), _tensor(model, labels), recipe.label_smoothing
        )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def frozen(model: nn.Module) -> list[str]:
    """The parameters that an optimizer leaves alone, by the framework's own names."""
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def steps_taken(optimizer: torch.optim.Optimizer) -> int:
    """Updates made so far."""
    return optimizer.param_groups[0][TAKEN]


def moments(
    optimizer: torch.optim.Optimizer, leaves: Mapping[str, nn.Parameter]
) -> dict[str, dict[str, np.ndarray]]:
    """What the optimizer keeps of each leaf, {moment: {leaf: array}}, by PyTorch's names of
    moments, in native layout.
    """

    def held(moment: str, leaf: nn.Parameter) -> np.ndarray:
        # Made in the first step, from zeros.
        return to_numpy(optimizer.state[leaf].get(moment, torch.zeros_like(leaf))).copy()

    return {
        moment: {name: held(moment, leaf) for name, leaf in leaves.items()}
        for moment in _moments(optimizer)
    }


def restore(
    optimizer: torch.optim.Optimizer,
    leaves: Mapping[str, nn.Parameter],
    step: int,
    moments: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Puts the number of updates made, and what the optimizer then kept, into a new optimizer of
    the same model.
    """
    content = optimizer.state_dict()
    names = {id(leaf): name for name, leaf in leaves.items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for group in content["param_groups"]:
        group[TAKEN] = step
    for position, parameter in enumerate(parameters if step else []):
        kept = {
            moment: torch.tensor(arrays[names[id(parameter)]]) for moment, arrays in moments.items()
        }
        # Adam counts each parameter's steps, in a float on the CPU.
        content["state"][position] = (
            {"step": torch.tensor(float(step)), **kept} if "exp_avg" in kept else kept
        )
    optimizer.load_state_dict(content)


def _moments(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    if isinstance(optimizer, torch.optim.SGD):
        return ("momentum_buffer",) if optimizer.param_groups[0]["momentum"] else ()
    return ("exp_avg", "exp_avg_sq")
