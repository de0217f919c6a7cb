"""A real checkpoint of another library: the same network here, in every framework. Skips where the
file is absent.
"""

from pathlib import Path

import numpy as np
import pytest

from resattn.checking.backends import precise
from resattn.checking.tolerances import tolerance
from resattn.oracle import evaluation as reference
from weights import difference, preset, read
from weights.live import LiveModel

CHECKPOINT = Path(__file__).parent.parent.parent / "shared" / "checkpoints" / "resnet20-12fca82f.th"


@pytest.fixture
def state(torch):
    if not CHECKPOINT.exists():
        pytest.skip("the ResNet-20 checkpoint is not here")
    return torch.load(CHECKPOINT, weights_only=True, map_location="cpu")["state_dict"]


def option_a(torch, state, x):
    """The network as its author defines it, with shortcuts that subsample and pad channels with
    zeros.
    """
    functional = torch.nn.functional

    def normalized(x, conv, bn, stride):
        weight = {
            leaf: state[f"module.{bn}.{leaf}"].to(x.dtype)
            for leaf in ("running_mean", "running_var", "weight", "bias")
        }
        x = functional.conv2d(
            x, state[f"module.{conv}.weight"].to(x.dtype), stride=stride, padding=1
        )
        return functional.batch_norm(x, **weight, eps=1e-5)

    x = torch.relu(normalized(x, "conv1", "bn1", 1))
    for layer in (1, 2, 3):
        for position in range(3):
            name = f"layer{layer}.{position}"
            stride = 2 if layer > 1 and position == 0 else 1
            y = torch.relu(normalized(x, f"{name}.conv1", f"{name}.bn1", stride))
            y = normalized(y, f"{name}.conv2", f"{name}.bn2", 1)
            if stride == 2:
                quarter = y.shape[1] // 4
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
            x = torch.relu(y + x)
    x = x.mean(dim=(2, 3))
    return functional.linear(
        x, *(state[f"module.linear.{leaf}"].to(x.dtype) for leaf in ("weight", "bias"))
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resnet20(backend, torch, state, dtype):
    config, arrays = read(CHECKPOINT, preset("resnet20"), naming="cifar-resnet")
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    x = np.random.default_rng(0).normal(0, 1, (4, 3, 32, 32)).astype(dtype)
    author = option_a(torch, state, torch.tensor(x).double()).numpy()
    assert (
        np.abs(reference.run(config, arrays, x, training=False).output - author).max()
        < 1e-6 * np.abs(author).max()
    )
    if (
        dtype == "float32"
    ):  # the batch norm of the shortcut is the identity to the last bit in float32 as well
        variance, eps = arrays["stages.1.0.shortcut.1.running_var"], np.float32(config.bn_eps)
        assert (np.sqrt(variance + eps) == 1).all()
    with precise((backend.framework,), dtype):
        logits = LiveModel.of(backend.build(config, arrays)).forward(x, training=False)
    row = difference(logits, author, tolerance=tolerance("float32", "eval output"))
    assert row.ok, row


def test_torchvision_names(torch, tmp_path):
    """A state dict with torchvision's names becomes ours, and computes what torchvision's ResNet
    would.
    """
    from torch import nn

    config = preset("resnet18", widths=(4, 5, 6, 7), classes=3)
    named = {}
    for stage, blocks in enumerate(config.stages(), start=1):
        for position, block in enumerate(blocks):
            prefix = f"layer{stage}.{position}"
            named[f"{prefix}.conv1"] = nn.Conv2d(
                block.in_channels, block.out_channels, 3, bias=False
            )
            named[f"{prefix}.bn1"] = nn.BatchNorm2d(block.out_channels)
            named[f"{prefix}.conv2"] = nn.Conv2d(
                block.out_channels, block.out_channels, 3, bias=False
            )
            named[f"{prefix}.bn2"] = nn.BatchNorm2d(block.out_channels)
            if block.projects:
                named[f"{prefix}.downsample.0"] = nn.Conv2d(
                    block.in_channels, block.out_channels, 1, bias=False
                )
                named[f"{prefix}.downsample.1"] = nn.BatchNorm2d(block.out_channels)
    named |= {
        "conv1": nn.Conv2d(3, 4, 7, bias=False),
        "bn1": nn.BatchNorm2d(4),
        "fc": nn.Linear(7, 3),
    }
    state = {
        f"{name}.{leaf}": tensor
        for name, module in named.items()
        for leaf, tensor in module.state_dict().items()
    }
    torch.save(state, tmp_path / "resnet18.pth")
    held, arrays = read(tmp_path / "resnet18.pth", config, naming="torchvision")
    assert held == config
    for ours, theirs in {
        "stem.conv.weight": "conv1.weight",
        "stages.2.1.bn2.bias": "layer3.1.bn2.bias",
        "stages.1.0.shortcut.0.weight": "layer2.0.downsample.0.weight",
        "stages.3.0.shortcut.1.running_var": "layer4.0.downsample.1.running_var",
        "classifier.bias": "fc.bias",
    }.items():
        assert (arrays[ours] == state[theirs].numpy()).all()
