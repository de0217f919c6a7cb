"""Models that look like ours and compute something else. None may be taken for ours."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from resattn.reading.models import read_model
from resattn.recognition.proof import prove_recognition
from resattn.recognition.recognition import recognise_model

SIZE = (17, 12)


def make_block(torch, **parts):
    """A residual block with parts replaced: functions of the block and of the value there."""
    nn = torch.nn
    usual = {
        "conv1": lambda s, x: s.c1(x),
        "norm1": lambda s, y: s.n1(y),
        "relu": lambda s, y: torch.relu(y),
        "conv2": lambda s, y: s.c2(y),
        "norm2": lambda s, y: s.n2(y),
        "sum": lambda s, y, x: y + x,
        "end": lambda s, y: torch.relu(y),
    }
    does = SimpleNamespace(**{**usual, **parts})

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.c2 = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
            self.n1, self.n2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
            self.F = torch.nn.functional

        def forward(self, x):
            y = does.relu(self, does.norm1(self, does.conv1(self, x)))
            return does.end(self, does.sum(self, does.norm2(self, does.conv2(self, y)), x))

    torch.manual_seed(1)
    model = Block().eval()
    for name, buffer in [*model.named_parameters(), *model.named_buffers()]:
        if buffer.is_floating_point() and buffer.ndim == 1:
            spread = torch.rand(buffer.shape) + 0.5
            buffer.data.copy_(spread if "bias" not in name and "mean" not in name else spread - 1)
    return model


def written_norm(order):
    """A batch norm written by hand with its operations in some order."""

    def norm(s, y):
        n = s.n1
        m, v, g, b = (
            each[:, None, None] for each in (n.running_mean, n.running_var, n.weight, n.bias)
        )
        return order(y, m, (v + n.eps).sqrt(), g, b)

    return norm


def set_part(s, y):
    y = y.clone()
    y[:, 3:5] = 1.0
    return y


def halve_view(s, y):
    y = y.clone()
    y[:, :4].mul_(0.5)
    return y


def shuffle(s, y):
    b, c, h, w = y.shape
    return y.reshape(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


def convolve(change):
    return lambda s, y: s.F.conv2d(y, change(s.c2.weight), s.c2.bias, padding=1)


def normalise(**changes):
    def norm(s, y):
        n = s.n1
        held = {"m": n.running_mean, "v": n.running_var, "w": n.weight, "b": n.bias}
        held = {name: changes.get(name, lambda a: a)(array) for name, array in held.items()}
        return s.F.batch_norm(y, held["m"], held["v"], held["w"], held["b"])

    return norm


TRAPS = {
    "clipped relu": {"relu": lambda s, y: y.clamp(0, 9)},
    "clipped far away": {"end": lambda s, y: y.clamp(0, 200)},
    "relu above a threshold": {"relu": lambda s, y: y * (y > 0.3)},
    "kernel flipped": {"conv2": convolve(lambda w: w.flip(2, 3))},
    "outputs reversed": {"conv2": convolve(lambda w: w.flip(0))},
    "rows and columns": {"conv2": convolve(lambda w: w.transpose(2, 3))},
    "in and out": {"conv2": convolve(lambda w: w.transpose(0, 1))},
    "halves exchanged": {"conv2": convolve(lambda w: w.roll(4, 0))},
    "kernel doubled": {"conv2": convolve(lambda w: 2 * w)},
    "weight doubled": {"norm1": normalise(w=lambda a: 2 * a)},
    "weight plus one": {"norm1": normalise(w=lambda a: a + 1)},
    "root of the variance": {"norm1": normalise(v=lambda a: a.sqrt())},
    "bias reversed": {"norm1": normalise(b=lambda a: a.flip(0))},
    "offset before scale": {"norm1": written_norm(lambda y, m, d, g, b: ((y - m) / d + b) * g)},
    "offset subtracted": {"norm1": written_norm(lambda y, m, d, g, b: (y - m) / d * g - b)},
    "mean minus values": {"norm1": written_norm(lambda y, m, d, g, b: (m - y) / d * g + b)},
    "dropout that is left on": {"norm2": lambda s, y: s.F.dropout(s.n2(y))},
    "statistics of the batch": {
        "norm1": lambda s, y: s.F.batch_norm(
            y, s.n1.running_mean, s.n1.running_var, s.n1.weight, s.n1.bias, True
        )
    },
    "part set": {"norm1": lambda s, y: set_part(s, s.n1(y))},
    "part halved": {"norm1": lambda s, y: halve_view(s, s.n1(y))},
    "channels shuffled": {"norm1": lambda s, y: shuffle(s, s.n1(y))},
    "whole numbers": {"norm1": lambda s, y: s.n1(y).int().float()},
    "branch scaled": {"norm2": lambda s, y: 0.5 * s.n2(y)},
}


@pytest.mark.parametrize("trap", TRAPS)
def test_traps(torch, trap):
    """It is none of ours, or what it is taken for computes the same."""
    model = make_block(torch, **TRAPS[trap])
    found = recognise_model(read_model(model, SIZE, 8))
    if found.config is not None and found.is_whole:
        x = np.random.default_rng(0).normal(0, 30, (2, 8, *SIZE)).astype("float32")
        assert prove_recognition(found, model, inputs=x).ok


def test_the_block_itself(torch):
    model = make_block(torch)
    found = recognise_model(read_model(model, SIZE, 8))
    assert found.config is not None
    assert prove_recognition(found, model).ok


@pytest.mark.parametrize(
    "order",
    [
        lambda y, m, d, g, b: (y - m) / d * g + b,
        lambda y, m, d, g, b: (y - m) * (g / d) + b,
        lambda y, m, d, g, b: y * (g / d) + (b - m * (g / d)),
    ],
)
def test_norms_by_hand(torch, order):
    """These are batch norms."""
    model = make_block(torch, norm1=written_norm(order))
    found = recognise_model(read_model(model, SIZE, 8))
    assert found.config is not None
    assert prove_recognition(found, model).ok


@pytest.mark.parametrize("written", ["x @ w", "x @ w.T"])
def test_square_matrices(torch, written):
    """Which axis of a matrix is in and which is out is read, not guessed."""
    nn = torch.nn

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = make_block(torch)
            self.w1, self.w2 = (nn.Parameter(torch.randn(8, 8)) for _ in range(2))

        def forward(self, x):
            s = self.conv
            y = s.n2(s.c2(torch.relu(s.n1(s.c1(x)))))
            z = y.mean((2, 3))
            if written == "x @ w":
                z = torch.sigmoid(torch.relu(z @ self.w1) @ self.w2)
            else:
                z = torch.sigmoid(torch.relu(z @ self.w1.T) @ self.w2.T)
            return torch.relu(y * z[:, :, None, None] + x)

    model = Gated().eval()
    found = recognise_model(read_model(model, SIZE, 8))
    if found.config is not None:
        assert prove_recognition(found, model).ok


def test_an_error_that_the_model_catches(torch):
    """try and except in a forward pass are no failure."""

    def add(s, y, x):
        try:
            return y + x[:, :5]
        except RuntimeError:
            return y + x

    found = read_model(make_block(torch, sum=add), SIZE, 8)
    assert found.failure is None


def test_a_dilated_pooling_is_another(torch):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.MaxPool2d(3, 2, 1, 2))
    assert read_model(model, (17, 12)).steps[-1].op == "unknown"
