"""The shapes that annotations name (`shapes.py`) are those that come: checked at every call, by
jaxtyping's import hook with beartype, in a process of its own for each framework.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

from resattn.checking.cases import attention_block
from resattn.checking.draws import random_arrays, random_input
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS
from weights.frameworks import FRAMEWORKS
from weights.live import adapter, build, part
from weights.recipe import SGD, Recipe

ROOT = Path(__file__).parent.parent
CHECKER = "shared_tests.test_shapes.check"


def check(function):
    """beartype with an int in the place of a float, as type checkers allow it (PEP 484)."""
    from beartype import BeartypeConf, beartype

    return beartype(function, conf=BeartypeConf(is_pep484_tower=True))


def in_a_process(code: str, checked: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RESATTN_CHECK_SHAPES": str(int(checked))}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_every_shape_is_the_one_named(framework):
    done = in_a_process(f"from shared_tests.test_shapes import run; run({framework!r})")
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"{len(ATTENTION_VARIANTS) + len(NETWORKS)} models" in done.stdout


def run(framework: str) -> None:
    """Every kind with every option in a block, and networks: forward, backward and a training step
    with the hook on. Raises jaxtyping.TypeCheckError for a shape that is not the one named.
    """
    import inspect

    from jaxtyping import install_import_hook

    # Keras asks for the arguments of a constructor without looking below jaxtyping's wrapper.
    find = inspect.getfullargspec
    inspect.getfullargspec = lambda function: find(inspect.unwrap(function))
    with install_import_hook([FRAMEWORKS[framework].package], CHECKER):
        part(framework, "training")
        part(framework, "bridge.recorder")
    cases = [*ATTENTION_VARIANTS, *NETWORKS]
    for config, size in cases:
        model = build(config, random_arrays(config), framework)
        x = random_input(config, size, 3, "float32")
        for training in (False, True):
            y = adapter(framework).forward(model, x, training=training)
            assert np.isfinite(y).all()
        if framework == "tf":
            run_symbolically(config, model, size)
    for config, size in (
        (attention_block("mhsa", {"size": (5, 4), "heads": 2}), (9, 8)),
        NETWORKS[0],
    ):
        take_a_step(framework, config, size)
    print(len(cases), "models")


def run_symbolically(config: object, model: object, size: tuple[int, int]) -> None:
    """In a functional Keras model of known sizes, and in one and a graph of unknown sizes."""
    import keras

    keras.Model(inputs := keras.Input(batch_shape=(3, *size, config.in_channels)), model(inputs))
    fixed = any(block.has_fixed_size for block in config.blocks())
    shape = (*(size if fixed else (None, None)), config.in_channels)
    keras.Model(inputs := keras.Input(shape), model(inputs))
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        spec = tensorflow.TensorSpec((None, *shape), tensorflow.float32)
        for training in (False, True):
            tensorflow.function(
                lambda x, training=training: model(x, training=training),
                input_signature=[spec],
                autograph=False,
            ).get_concrete_function()


def take_a_step(framework: str, config: object, size: tuple[int, int]) -> None:
    model, training = build(config, random_arrays(config), framework), part(framework, "training")
    recipe = Recipe(SGD(0.1))
    optimizer = training.optimizer(model, recipe)
    x, labels = random_input(config, size, 3, "float32"), np.array([0, 1, 2], "int64")
    assert np.isfinite(training.train_step(model, optimizer, recipe, x, labels))


RIGHT = "def f(x: Maps) -> Maps:\n    return x\n"
WRONG = {
    "another rank": "def f(x: Maps) -> Tokens:\n    return x\n",
    "axes in another order": "def f(x: Maps) -> Maps:\n    return swap_axes(x, 1, 2)\n",
    "another number of channels": "def f(x: Maps) -> ChannelValues:\n    return x\n",
    "two sizes of one name": "def f(x: Maps) -> Scores:\n    return x\n",
    "floats for integers": "def f(x: Labels) -> Maps:\n    return x\n",
}


def test_a_wrong_annotation_is_found(framework, tmp_path):
    """Modules whose annotations are wrong, under the same hook."""
    package = FRAMEWORKS[framework].package
    head = (
        "from __future__ import annotations\n"
        f"from {package}.layers import swap_axes\n"
        f"from {package}.shapes import *\n"
    )
    (tmp_path / "right.py").write_text(head + RIGHT)
    for number, text in enumerate(WRONG.values()):
        (tmp_path / f"wrong{number}.py").write_text(head + text)
    done = in_a_process(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"from shared_tests.test_shapes import find_wrong; find_wrong({framework!r})"
    )
    assert done.stdout.splitlines() == ["right passes", *WRONG], done.stderr[-4000:]


def find_wrong(framework: str) -> None:
    """Prints the mistakes that the hook finds."""
    from jaxtyping import TypeCheckError, install_import_hook

    shape = (2, 3, 4, 5)
    names = ["right", *(f"wrong{number}" for number in range(len(WRONG)))]
    with install_import_hook(names, CHECKER):
        right, *wrong = map(import_module, names)
    ones = {
        "torch": lambda: import_module("torch").ones(shape),
        "jax": lambda: import_module("jax.numpy").ones(shape),
        "tf": lambda: import_module("keras").ops.ones(shape),
    }[framework]
    right.f(ones())
    print("right passes")
    for mistake, module in zip(WRONG, wrong, strict=True):
        try:
            module.f(ones())
        except TypeCheckError:
            print(mistake)


def test_without_the_check_a_name_is_the_plain_tensor_type(framework):
    """TorchScript reads it, and nobody needs jaxtyping."""
    package = FRAMEWORKS[framework].package
    plain = {"torch": "torch.Tensor", "jax": "jax.Array", "tf": "keras.KerasTensor"}[framework]
    aliases = re.findall(
        r"^(\w+) = (?:Float|Int)\[", (ROOT / package / "shapes.py").read_text(), re.M
    )
    assert {"Maps", "Tokens", "Labels"} <= set(aliases)
    done = in_a_process(
        f"import sys; sys.modules['jaxtyping'] = None\nimport {plain.split('.')[0]}\n"
        f"from {package} import network, shapes, training\n"
        f"print([name for name in {aliases} if getattr(shapes, name) is not {plain}])",
        checked=False,
    )
    assert done.stdout == "[]\n", done.stderr[-2000:]
