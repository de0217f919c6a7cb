"""The block and the network as other people write them: plain PyTorch, independent of ours.

Every operation is a module of its own, so that any of them can be recorded or replaced, and the
order in which a block calls them is a function (`block.wire`) that can be replaced as well.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from weights.config import BlockConfig, NetworkConfig


class Squeeze(nn.Module):
    def forward(self, x):
        return x.mean((2, 3), keepdim=True)


class PlainSE(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.squeeze = Squeeze()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.gate = nn.Sigmoid()

    def scale(self, x):
        return self.gate(self.fc2(self.act(self.fc1(self.squeeze(x)))))

    def forward(self, x):
        return x * self.scale(x)


def wire_right(block, x):
    y = block.act1(block.bn1(block.conv1(x)))
    y = block.se(block.bn2(block.conv2(y)))
    return block.act2(y + block.shorten(x))


class PlainBlock(nn.Module):
    def __init__(self, config: BlockConfig):
        super().__init__()
        inner, outer, bias = config.in_channels, config.out_channels, config.conv_bias
        self.conv1 = nn.Conv2d(inner, outer, 3, config.stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(outer)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outer)
        self.se = nn.Identity()
        if config.attention == "se":
            self.se = PlainSE(outer, config.attention_options["hidden_channels"])
        self.down = None
        if config.projects:
            self.down = nn.Sequential(
                nn.Conv2d(inner, outer, 1, config.stride, bias=bias), nn.BatchNorm2d(outer)
            )
        self.act2 = nn.ReLU()
        self.prepare = nn.Identity()
        self.wire = wire_right

    def shorten(self, x):
        return x if self.down is None else self.down(x)

    def forward(self, x):
        return self.wire(self, self.prepare(x))


class PlainNetwork(nn.Module):
    def __init__(self, config: NetworkConfig):
        super().__init__()
        stem = config.stem_channels
        self.prepare = nn.Identity()
        self.conv1 = nn.Conv2d(
            config.in_channels, stem, 3, config.stem_stride, 1, bias=config.conv_bias
        )
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1) if config.stem_pool else nn.Identity()
        self.layers = nn.ModuleList(
            nn.ModuleList(PlainBlock(block) for block in blocks) for blocks in config.stages()
        )
        self.pool = Squeeze()
        self.drop = nn.Identity()
        self.flat = nn.Flatten()
        self.fc = nn.Linear(config.widths[-1], config.classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.prepare(x)))))
        for blocks in self.layers:
            for block in blocks:
                x = block(x)
        return self.fc(self.flat(self.drop(self.pool(x))))


IN_BLOCK = {
    "conv1": "conv1",
    "bn1": "bn1",
    "relu": "act1",
    "conv2": "conv2",
    "bn2": "bn2",
    "attention.global_average": "se.squeeze",
    "attention.fc1": "se.fc1",
    "attention.relu": "se.act",
    "attention.fc2": "se.fc2",
    "attention.sigmoid": "se.gate",
    "attention": "se",
    "shortcut.0": "down.0",
    "shortcut.1": "down.1",
}
IN_NETWORK = {
    "stem.conv": "conv1",
    "stem.bn": "bn1",
    "stem.relu": "relu",
    "stem": "maxpool",
    "global_average": "pool",
    "classifier": "fc",
}


def map_plain(model):
    """The path of the module of each stage, in a `PlainBlock` or a `PlainNetwork`."""
    if isinstance(model, PlainBlock):
        paths = dict(IN_BLOCK)  # its output is that of the model
    else:
        paths = dict(IN_NETWORK)
        for stage, blocks in enumerate(model.layers):
            for number in range(len(blocks)):
                name, path = f"stages.{stage}.{number}", f"layers.{stage}.{number}"
                paths |= {f"{name}.{part}": f"{path}.{at}" for part, at in IN_BLOCK.items()}
                paths[name] = path
    known = dict(model.named_modules())
    inner = {path: f"{path}.conv" for path, module in known.items() if isinstance(module, Padded)}
    return {stage: inner.get(path, path) for stage, path in paths.items() if path in known}


def find_block(model, name):
    """A block by the name that our network gives it; of a block, itself."""
    if isinstance(model, PlainBlock):
        return model
    _, stage, number = name.split(".")
    return model.layers[int(stage)][int(number)]


def build_plain(config, arrays, dtype="float32"):
    """A plain model with canonical arrays, in evaluation mode."""
    model = (PlainBlock if isinstance(config, BlockConfig) else PlainNetwork)(config)
    model = model.to(getattr(torch, dtype))
    paths = map_plain(model)
    state = {}
    for name, array in arrays.items():
        stage, _, leaf = name.rpartition(".")
        state[f"{paths[stage]}.{leaf}"] = torch.tensor(np.asarray(array))
    counters = {f"{path}.num_batches_tracked" for path in paths.values()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert set(missing) <= counters, missing
    return model.eval()


def count_calls(model, x):
    """How often each module is called, by path."""
    calls = dict.fromkeys(dict(model.named_modules()), 0)
    hooks = []
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    for path, module in model.named_modules():

        def count(module, inputs, path=path):
            calls[path] += 1

        hooks.append(module.register_forward_pre_hook(count))
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    for buffer, value in before:
        buffer.copy_(value)
    return calls


# The same model as other people may write it, and right


class Flat(nn.Module):
    """Pooling that does not keep the axes."""

    def forward(self, x):
        return x.mean((2, 3))


class LinearSE(nn.Module):
    """A gate of linear layers on flat values."""

    def __init__(self, se):
        super().__init__()
        self.squeeze, self.act, self.gate = Flat(), nn.ReLU(inplace=True), nn.Sigmoid()
        self.fc1, self.fc2 = (self.as_linear(conv) for conv in (se.fc1, se.fc2))

    @staticmethod
    def as_linear(conv):
        linear = nn.Linear(conv.in_channels, conv.out_channels).to(conv.weight.dtype)
        linear.weight.data, linear.bias.data = conv.weight.data.flatten(1), conv.bias.data
        return linear

    def forward(self, x):
        scale = self.gate(self.fc2(self.act(self.fc1(self.squeeze(x)))))
        return x * scale[:, :, None, None]


def gate_by_linear(model):
    for block in blocks_of(model):
        block.se = LinearSE(block.se)


class Padded(nn.Module):
    """A convolution after a layer of its own that pads."""

    def __init__(self, conv):
        super().__init__()
        conv.padding = (0, 0)
        self.pad, self.conv = nn.ZeroPad2d(1), conv

    def forward(self, x):
        return self.conv(self.pad(x))


def blocks_of(model):
    return [module for module in model.modules() if isinstance(module, PlainBlock)]


def pad_in_layers(model):
    """Convolutions that are padded by a layer before them."""
    for module in list(model.modules()):
        for name, conv in list(module.named_children()):
            if isinstance(conv, nn.Conv2d) and conv.padding == (1, 1):
                setattr(module, name, Padded(conv))
