"""`resattn prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resattn.cli.arguments import parse_size, read_images
from resattn.cli.targets import ForceOption, check_targets
from resattn.cli.terminal import print_line, status
from resattn.cli.words import say

if TYPE_CHECKING:
    import numpy as np

    from weights.preprocessing import Preprocessing

PathsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGE",
        help="The images, and at the end the .npy file to write: float32 (batch, 3, height, "
        "width). With --compare it can be left out.",
    ),
]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Take the preprocessing from this weights file.")
]
ModeOption = Annotated[
    str | None,
    typer.Option(
        help="Prepare as keras.applications does: caffe, torch or tf. keras.utils.load_img defines "
        "how to resize."
    ),
]
PreprocessorOption = Annotated[
    Path | None,
    typer.Option(
        help="Take the preprocessing from this JSON file: timm's config.json, or Transformers' "
        "preprocessor_config.json."
    ),
]
CompareOption = Annotated[
    Path | None,
    typer.Option(
        help="A .npy file of the tensor that you made of the same images, with channels first or "
        "last. Says what was done differently."
    ),
]


def prepare(
    paths: PathsArgument,
    weights: WeightsOption = None,
    mode: ModeOption = None,
    preprocessor: PreprocessorOption = None,
    size: Annotated[
        str | None, typer.Option(help="Height and width of the input, as in 224x224.")
    ] = None,
    interpolation: Annotated[
        str | None, typer.Option(help="nearest, bilinear, bicubic or lanczos.")
    ] = None,
    compare: CompareOption = None,
    force: ForceOption = False,
) -> None:
    """Make the input of a network from images, as Pillow and timm do, bit for bit.

    With --compare: say which mistake in the preprocessing explains your own tensor. The exit status
    is then 1 if it is not right.
    """
    import numpy as np

    from weights.errors import ArgumentError
    from weights.files.atomic import write_atomically
    from weights.resize import preprocess

    target = paths.pop() if paths[-1].suffix.lower() == ".npy" else None
    if not paths or (target is None and compare is None):
        raise ArgumentError(
            say("prepare: expected images and the .npy file to write: IMAGE... OUT.npy")
        )
    check_targets(force, target)
    described = read_described(weights, mode, preprocessor, size, interpolation)
    theirs = None if compare is None else read_images("--compare", compare)
    images = [read_image(path) for path in paths]
    print_line(described.describe())
    if target is not None:
        made = np.concatenate([preprocess(image[None], described) for image in images])
        write_atomically(target, lambda temporary: np.save(temporary, made))
        print_line(f"{target}: {' x '.join(map(str, made.shape))}, {made.dtype}")
    if theirs is not None and not compare_prepared(images, theirs, described):
        raise typer.Exit(1)


def compare_prepared(images: list[np.ndarray], theirs: np.ndarray, p: Preprocessing) -> bool:
    """Prints what explains a tensor. Returns whether it is right."""
    from resattn.tracing.preparation import explain_preparation

    with status(say("looking for what explains the tensor")):
        found = explain_preparation(images, theirs, p)
    print_line(str(found), "good" if found.right else "bad")
    return found.right


def read_described(
    weights: Path | None,
    mode: str | None,
    preprocessor: Path | None,
    size: str | None,
    interpolation: str | None,
) -> Preprocessing:
    """The preprocessing in --weights, --mode or --preprocessor, changed by the other options.

    Raises ArgumentError unless it is in one of them, and whatever reads them raises.
    """
    from dataclasses import replace

    from weights.errors import ArgumentError
    from weights.preprocessing import from_keras

    given = [each for each in (weights, mode, preprocessor) if each is not None]
    if len(given) != 1:
        raise ArgumentError(
            say(
                "prepare: expected one of --weights FILE, --mode caffe|torch|tf and "
                "--preprocessor FILE"
            )
        )
    if mode is not None:
        found = from_keras(mode)
    elif preprocessor is not None:
        found = read_preprocessor(preprocessor)
    else:
        assert weights is not None
        found = read_from_weights(weights)
    if size is not None:
        found = replace(found, size=parse_size(size))
    return found if interpolation is None else replace(found, interpolation=interpolation)


def read_preprocessor(path: Path) -> Preprocessing:
    """The preprocessing in a JSON file. Raises MissingFileError, and ArgumentError for others."""
    from weights.errors import ArgumentError
    from weights.fields import parse_json
    from weights.files.atomic import existing
    from weights.preprocessing import read_preprocessing

    values = parse_json(existing(path).read_text("utf-8", "replace"), str(path))
    if not isinstance(values, dict):
        raise ArgumentError(
            say("{file}: expected a JSON object, got {found}", file=path, found=str(values)[:60])
        )
    return read_preprocessing(values)


def read_from_weights(path: Path) -> Preprocessing:
    """The preprocessing in the config of a weights file. Raises ArgumentError if it has none."""
    from weights.errors import ArgumentError
    from weights.files.formats import read
    from weights.preprocessing import Preprocessing

    config, _ = read(path)
    found = getattr(config, "preprocessing", None)
    if not isinstance(found, Preprocessing):
        raise ArgumentError(
            say(
                "{file}: its config has no preprocessing; name it with --mode or --preprocessor",
                file=path,
            )
        )
    return found


def read_image(path: Path) -> np.ndarray:
    """The bytes (height, width, 3) of an image, in RGB, as Pillow reads them.

    Raises MissingFramework without Pillow, MissingFileError, FileError for a file that is no image.
    """
    import numpy as np

    from weights.errors import FileError, MissingFramework
    from weights.files.atomic import existing

    try:
        from PIL import Image
    except ImportError:
        raise MissingFramework(
            say('reading images needs Pillow; install it with: pip install "resattn[images]"'),
            "PIL",
        ) from None
    try:
        with Image.open(existing(path)) as image:
            return np.asarray(image.convert("RGB"))
    except FileError:
        raise
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FileError(
            say("{file}: cannot be read as an image ({reason})", file=path, reason=error)
        ) from None
