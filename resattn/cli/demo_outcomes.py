"""The work of the demo: each framework loads the trained network and classifies the digits."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from resattn.checking.tolerances import tolerance
from resattn.oracle import evaluation as reference
from weights import Difference, MissingFramework, difference
from weights.config import Config
from weights.convert import Arrays
from weights.frameworks import FRAMEWORKS, framework_named
from weights.live import adapter, build

# PyTorch before TensorFlow: in the other order the two can disturb each other's libraries.
ORDER = tuple(FRAMEWORKS)
REFERENCE = "NumPy"
DTYPE = "float32"


@dataclass(frozen=True)
class Outcome:
    """The logits of one framework, or of the reference, and how long it took.

    logits: (image, class). load, classify: in seconds; `load` includes the import of the framework.
    """

    name: str
    versions: str
    logits: np.ndarray
    load: float
    classify: float

    @property
    def predictions(self) -> np.ndarray:
        predictions: np.ndarray = self.logits.argmax(axis=1)
        return predictions


def classify(
    console: Console, config: Config, arrays: Arrays, images: np.ndarray
) -> tuple[Outcome, list[Outcome], list[str]]:
    """Classifies the images in each framework and in the reference, and shows the progress.

    Returns the reference's outcome, those of the frameworks, and a line for each framework that is
    not installed.
    """
    outcomes, missing = [], []
    with _progress(console) as progress:
        task = progress.add_task("", total=2 * len(ORDER) + 1)
        for framework in ORDER:
            try:
                outcomes.append(_classify_in(framework, progress, task, config, arrays, images))
            except MissingFramework as error:
                missing.append(str(error))
                progress.advance(task, 2)
        progress.update(task, description=f"classify {len(images)} digits in NumPy, float64")
        start = time.perf_counter()
        output = reference.run(config, arrays, images, training=False).output
        seconds = time.perf_counter() - start
    return Outcome(REFERENCE, f"numpy {np.__version__}", output, 0.0, seconds), outcomes, missing


def _classify_in(
    framework: str,
    progress: Progress,
    task: TaskID,
    config: Config,
    arrays: Arrays,
    images: np.ndarray,
) -> Outcome:
    """The outcome of one framework. It computes on the CPU, so that no GPU changes the numbers."""
    name = framework_named(framework).label
    with _quiet():
        progress.update(task, description=f"load the weights into {name}")
        start = time.perf_counter()
        module = adapter(framework)
        model = build(config, arrays, framework, "cpu")
        loaded = time.perf_counter()
        progress.update(task, advance=1, description=f"classify {len(images)} digits in {name}")
        with module.precise(DTYPE):
            logits = module.forward(model, images, training=False)
        done = time.perf_counter()
    progress.advance(task)
    return Outcome(name, module.versions(), logits, loaded - start, done - loaded)


def _progress(console: Console) -> Progress:
    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    return Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the body writes to standard error, unless it fails.

    The C++ parts of frameworks write to the file descriptor itself when they start, so the
    descriptor is replaced.
    """
    _flush()
    try:
        saved = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as noise, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(noise.fileno(), 2)
        try:
            yield
        except Exception as error:
            if not isinstance(error, MissingFramework):
                noise.seek(0)
                os.write(saved, noise.read())
            raise
        finally:
            _flush()
            os.dup2(saved, 2)
            os.close(saved)


def _flush() -> None:
    with suppress(AttributeError, ValueError, OSError):  # standard error can be None, or closed
        sys.stderr.flush()


def compare_outcomes(actual: Outcome, against: Outcome, expected: Outcome) -> Difference:
    """The greatest difference of the logits, relative to the greatest logit of the reference."""
    return difference(
        actual.logits,
        against.logits,
        tolerance=tolerance(DTYPE, "eval output"),
        scale=float(np.abs(expected.logits).max()),
        quantity="eval output",
        tensor="logits",
        names=(actual.name, against.name),
        axes="batch class",
    )
