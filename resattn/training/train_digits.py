"""Trains the network of the demo: `python -m resattn.training.train_digits`.

Needs PyTorch and scikit-learn, but no GPU. The recipe and the number of epochs are fixed in
advance. The held-out digits are read once, at the end.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import weights
from resattn.training.digits import BACKGROUND, MissingData, Split, split
from resattn.training.trainer import Trainer
from weights.convert import reorder
from weights.live import adapter
from weights.recipe import SGD, Cosine, Optimizer, Recipe, steps_an_epoch

if TYPE_CHECKING:
    from torch import nn

DIGITS_CONFIG = weights.NetworkConfig(
    in_channels=1,
    classes=10,
    widths=(16, 32, 64),
    depths=(1, 1, 1),
    attention="se",
    attention_options={"reduction": 4},
)

OPTIMIZER = SGD(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
SHIFT = 1  # pixels, at most, in each direction


def recipe(steps: int, optimizer: Optimizer = OPTIMIZER, seed: int = 0) -> Recipe:
    """The recipe for the digits. `resattn drift` uses it with other optimizers, too."""
    return Recipe(optimizer, Cosine(steps), label_smoothing=0.1, batch_size=64, seed=seed)


def shift(images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Moves each image by up to SHIFT pixels in both directions, and fills in background.

    images: (image, channel, row, col) -> the same shape.
    """
    size = images.shape[-1]
    border = ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT))
    padded = np.pad(images, border, constant_values=BACKGROUND)
    rows, cols = (
        random.randint(0, 2 * SHIFT + 1, len(images))[:, None] + np.arange(size) for _ in range(2)
    )
    moved = padded[np.arange(len(images))[:, None, None], :, rows[:, :, None], cols[:, None, :]]
    return reorder(moved, "image row col channel", "image channel row col")


def train(
    images: np.ndarray, labels: np.ndarray, epochs: int, seed: int, console: Console
) -> nn.Module:
    """A network that was trained on the images for `epochs` epochs, in evaluation mode.

    images: (image, channel, row, col). labels: (image,). seed: of the first weights, the order of
    the images and their shifts; the same seed gives the same network on the same machine.
    """
    import torch

    from pytorch_impl.network import ResidualAttentionNetwork

    torch.manual_seed(seed)
    random = np.random.RandomState(seed)
    model: nn.Module = ResidualAttentionNetwork.from_config(DIGITS_CONFIG, device="cpu")
    epoch = steps_an_epoch(recipe(1), len(images))
    trainer = Trainer(model, recipe(epochs * epoch, seed=seed), len(images))
    with _make_progress(console) as progress:
        for _ in progress.track(range(epochs), description="Training, epochs"):
            # A Trainer does not augment. Within an epoch it uses each image at most once, so new
            # copies for each epoch do the same.
            trainer.train(shift(images, random), labels, epoch)
    return model.eval()


def count_correct(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> int:
    """The number of images that the model classifies correctly."""
    return int((adapter("torch").forward(model, images).argmax(axis=1) == labels).sum())


def _make_progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _make_deterministic() -> None:
    """Uses one thread. Several threads may add up a sum in another order."""
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def _check_output(path: Path) -> None:
    """Raises typer.BadParameter for a file that cannot be written, before the training starts."""
    if path.suffix != ".safetensors":
        raise typer.BadParameter(f"expected a .safetensors file, got {path}", param_hint="--output")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"the folder {path.parent} does not exist", param_hint="--output")


def _summarise(model: nn.Module, data: Split, seconds: float) -> str:
    parts = (
        ("held-out digits", data.held_out_images, data.held_out_labels),
        ("training digits", data.training_images, data.training_labels),
    )
    lines = [f"Trained in {seconds:.0f} seconds."]
    for name, images, labels in parts:
        right = count_correct(model, images, labels)
        lines.append(f"{name}: {right} of {len(labels)} right, {right / len(labels):.2%}")
    return "\n".join(lines)


def main(
    output: Annotated[Path, typer.Option(help="The .safetensors file to write.")] = Path(
        "se-digits.safetensors"
    ),
    epochs: Annotated[int, typer.Option(min=1, help="Passes through the training digits.")] = 40,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Seed of the first weights, the order of the images and their shifts."
        ),
    ] = 0,
) -> None:
    """Trains a small residual network with squeeze-and-excitation on handwritten digits, and writes
    its weights.
    """
    _check_output(output)
    console = Console(highlight=False)
    try:
        adapter("torch")
        data = split()
    except (weights.MissingFramework, MissingData) as error:
        console.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    _make_deterministic()
    start = time.perf_counter()
    model = train(data.training_images, data.training_labels, epochs, seed, console)
    console.print(_summarise(model, data, time.perf_counter() - start))
    weights.save(output, model)
    console.print(f"Wrote {output}, {output.stat().st_size:,} bytes.", soft_wrap=True, markup=False)


if __name__ == "__main__":
    typer.run(main)
