"""The block that the tests of the trace share, mistakes in it, and checks of what a trace finds."""

from __future__ import annotations

import numpy as np

from resattn.checking.backends import precise
from resattn.checking.draws import random_arrays, random_input
from resattn.tracing.trace import trace
from weights import BlockConfig
from weights.live import build

# Square kernels and as many output as input channels, so that transposed and swapped tensors have
# shapes that fit; four channels, so that all their orders can be tried.
BLOCK = BlockConfig(4, 4, 3, 2, attention_options={"hidden_channels": 4})
SIZE = (8, 6)
PLAIN = BlockConfig(4, 5, 3, 2, attention="none")


def images(config=BLOCK, size=SIZE, batch=3, seed=0):
    return random_input(config, size, batch, "float32", seed)


def swap_arrays(first, second):
    def change(arrays):
        arrays[first], arrays[second] = arrays[second], arrays[first]

    return change


def change_array(name, how):
    def change(arrays):
        arrays[name] = np.ascontiguousarray(how(arrays[name]))

    return change


IN_WEIGHTS = {
    "transposed": (
        "conv1",
        "transposed kernel",
        change_array("conv1.weight", lambda w: w.transpose(1, 0, 2, 3)),
    ),
    "rows and columns": (
        "conv2",
        "transposed kernel",
        change_array("conv2.weight", lambda w: w.transpose(0, 1, 3, 2)),
    ),
    "reshaped": (
        "conv2",
        "transposed kernel",
        change_array("conv2.weight", lambda w: w.transpose(2, 3, 1, 0).reshape(w.shape)),
    ),
    "flipped": (
        "conv1",
        "flipped kernel",
        change_array("conv1.weight", lambda w: w[:, :, ::-1, ::-1]),
    ),
    "mirrored": (
        "conv2",
        "flipped kernel",
        change_array("conv2.weight", lambda w: w[:, :, :, ::-1]),
    ),
    "input channels": (
        "conv1",
        "permuted channels",
        change_array("conv1.weight", lambda w: w[:, [1, 0, 3, 2]]),
    ),
    "output channels": (
        "conv2",
        "permuted channels",
        change_array("conv2.weight", lambda w: w[[3, 0, 1, 2]]),
    ),
    "gamma and beta": ("bn1", "gamma and beta swapped", swap_arrays("bn1.weight", "bn1.bias")),
    "mean and variance": (
        "bn2",
        "mean and variance swapped",
        swap_arrays("bn2.running_mean", "bn2.running_var"),
    ),
    "no bias": ("conv2", "missing bias", change_array("conv2.bias", np.zeros_like)),
    "no bias in attention": (
        "attention.fc1",
        "missing bias",
        change_array("attention.fc1.bias", np.zeros_like),
    ),
    "no offset": ("shortcut.1", "missing bias", change_array("shortcut.1.bias", np.zeros_like)),
}


def trace_changed(framework, *changes, config=BLOCK, x=None, modes=("eval",)):
    """The trace of a model whose arrays were changed; the unchanged arrays are the target."""
    right = random_arrays(config)
    arrays = {name: array.copy() for name, array in right.items()}
    for change in changes:
        change(arrays)
    with precise((framework,), "float32"), np.errstate(all="ignore"):
        model = build(config, arrays, framework)
        return trace(
            {"theirs": model},
            images(config) if x is None else x,
            config=config,
            arrays=right,
            modes=modes,
        )


def check_only(found, stage, *causes):
    """Only one stage differs, and each of these causes explains the whole difference."""
    assert [finding.stage for finding in found.findings] == [stage], str(found)
    check_explained(found.first, *causes)


def check_explained(finding, *causes):
    assert tuple(each.cause for each in finding.explanations) == causes, finding
    assert all(each.left <= 2e-6 for each in finding.explanations)


def make_torch_model(torch, config, arrays, eps=1e-5):
    """A block as somebody else would write it, and the paths of its stages."""
    nn = torch.nn
    slope = config.stride[0]

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            c = config.out_channels
            self.body = nn.Sequential(
                nn.Conv2d(config.in_channels, c, 3, slope, 1), nn.BatchNorm2d(c, eps), nn.ReLU(),
                nn.Conv2d(c, c, 3, 1, 1), nn.BatchNorm2d(c, eps),
            )  # fmt: skip
            self.down = nn.Sequential(
                nn.Conv2d(config.in_channels, c, 1, slope), nn.BatchNorm2d(c, eps)
            )
            self.last = nn.ReLU()

        def forward(self, x):
            return self.last(self.body(x) + self.down(x))

    model = Theirs().eval()
    names = {
        "conv1": "body.0",
        "bn1": "body.1",
        "conv2": "body.3",
        "bn2": "body.4",
        "shortcut.0": "down.0",
        "shortcut.1": "down.1",
    }
    state = {
        f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": torch.tensor(array)
        for name, array in arrays.items()
    }
    model.load_state_dict(state, strict=False)
    return model, {**names, "output": "last"}
