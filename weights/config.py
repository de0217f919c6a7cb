"""What is built: the configuration of a block and of a network. Frozen, validated, JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from weights.attention import ATTENTION, attention_parameters, plain_options
from weights.checks import Pair, at_least, decay_of, pair_of, positive, truth
from weights.errors import ArgumentError
from weights.fields import Checked, Options, Plain, parse_json

_count = partial(at_least, least=1)


def _odd_kernel(name: str, value: object) -> Pair:
    kernel_size = pair_of(name, value)
    if any(size % 2 == 0 for size in kernel_size):
        odd = tuple(size + 1 - size % 2 for size in kernel_size)
        raise ArgumentError(
            f"{name}: expected odd sizes, got {value!r}: no padding lets an even kernel keep the "
            f"size of its input, so main path and shortcut would differ. Use {odd} with padding "
            f"{tuple(size // 2 for size in odd)}"
        )
    return kernel_size


def _margin(name: str, value: object) -> Pair | None:
    return None if value is None else pair_of(name, value, least=0)


def _one_a_stage(name: str, value: object) -> tuple[object, ...]:
    if not isinstance(value, (tuple, list)) or not value:
        raise ArgumentError(
            f"{name}: expected one value for each stage, as in (1, 2), got {value!r}"
        )
    return tuple(value)


def _counts(name: str, value: object) -> tuple[int, ...]:
    return tuple(_count(name, each) for each in _one_a_stage(name, value))


def _strides(name: str, value: object) -> tuple[Pair, ...] | None:
    return None if value is None else tuple(pair_of(name, v) for v in _one_a_stage(name, value))


def _optional_count(name: str, value: object) -> int | None:
    return None if value is None else _count(name, value)


def _options(name: str, value: object) -> Options:
    return Options(plain_options(value))


def _kinds(name: str, value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _options_a_stage(name: str, value: object) -> Options | tuple[Options, ...]:
    if isinstance(value, (tuple, list)):
        return tuple(_options(name, each) for each in value)
    return _options(name, value)


class _Model(Plain):
    """A config of a model. JSON holds it with the name of the model that it describes."""

    model = ""

    def to_json(self) -> str:
        return json.dumps({"model": self.model, **self.to_dict()})


def _attention_words(attention: str, options: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {value}" for name, value in options.items())
    return attention + (f" ({values})" if values else "")


@dataclass(frozen=True)
class BlockConfig(_Model):
    """A residual block with attention: conv1 bn1 relu conv2 bn2 attention, plus shortcut, relu.

    in_channels, out_channels: channels of the input and the output.
    kernel_size, stride, padding: an int or a (height, width) pair, in pixels; kept as pairs. conv1
        has the stride, conv2 stride 1 (He et al. 2015, section 3.3). padding None means kernel_size
        // 2, the only padding with which both paths end at the same size.
    attention, attention_options: a kind of `weights.attention.ATTENTION` and its options.
    conv_bias: whether convolutions have a bias (those inside attention follow their own
        definition).
    bn_eps: added to the variance. bn_decay: the part of the running statistics that is kept at each
        training step.
    Raises ArgumentError, naming the field, what was expected and what came.
    """

    model = "ResidualBlockWithAttention"

    in_channels: Checked[int, int] = Checked(_count)
    out_channels: Checked[int, int] = Checked(_count)
    kernel_size: Checked[int | Pair, Pair] = Checked(_odd_kernel, 3)
    stride: Checked[int | Pair, Pair] = Checked(pair_of, 1)
    padding: Checked[int | Pair | None, Pair] = Checked(_margin, None)  # type: ignore[arg-type]
    attention: str = "se"
    attention_options: Checked[Mapping[str, Any] | None, Options] = Checked(_options, None)
    conv_bias: Checked[bool, bool] = Checked(truth, True)
    bn_eps: Checked[float, float] = Checked(positive, 1e-5)
    bn_decay: Checked[float, float] = Checked(decay_of, 0.9)

    def __post_init__(self) -> None:
        keeping = (self.kernel_size[0] // 2, self.kernel_size[1] // 2)
        if self.padding not in (None, keeping):
            raise ArgumentError(
                f"padding: {_short(self.padding)} with kernel_size {_short(self.kernel_size)} "
                f"makes main path and shortcut differ in size; the padding that works is {keeping} "
                "(kernel_size // 2), or leave it out"
            )
        self._set(padding=keeping)
        attention_parameters(self.attention, self.out_channels, self.attention_options)

    @property
    def projects(self) -> bool:
        """Whether the shortcut is a 1x1 convolution and a batch norm, or else the identity."""
        return self.in_channels != self.out_channels or self.stride != (1, 1)

    def blocks(self) -> "tuple[BlockConfig, ...]":
        """Itself: what a network has several of."""
        return (self,)

    def named_blocks(self) -> "dict[str, BlockConfig]":
        """Itself, under the name "": what a network has several of."""
        return {"": self}

    @property
    def has_fixed_size(self) -> bool:
        """Whether its attention was made for maps of one size."""
        built_in = ATTENTION[self.attention].built_in
        return built_in and self.attention_options.get("size") is not None

    @property
    def input_size(self) -> Pair | None:
        """The size (height, width) of images where attention takes maps of one size, else None."""
        return _input_size([(self, self.stride)])

    def describe(self) -> str:
        """One line for people."""
        kernel, stride = (" x ".join(map(str, pair)) for pair in (self.kernel_size, self.stride))
        channels = f"{self.in_channels} to {self.out_channels} channels"
        attention = _attention_words(self.attention, self.attention_options)
        return f"a block, {channels}, kernel {kernel}, stride {stride}, attention {attention}"


def _short(pair: Pair) -> str:
    return str(pair[0] if pair[0] == pair[1] else pair)


@dataclass(frozen=True)
class NetworkConfig(_Model):
    """A residual network of such blocks: stem, stages, global average pooling, classifier.

    He et al. 2015, table 1 (ImageNet) and section 4.2 (CIFAR).

    in_channels: channels of the image. classes: outputs of the classifier.
    widths, depths, strides: for each stage its channels, its number of blocks and the stride of its
        first block; strides None means 1 for the first stage and 2 for the others.
    stem_channels (None: the first width), stem_kernel_size, stem_stride: the first convolution.
    stem_pool: whether a 3x3 maximum pooling with stride 2 and padding 1 follows it.
    kernel_size, conv_bias, bn_eps, bn_decay: of every block, as in `BlockConfig`; the last three
        also of the stem.
    attention, attention_options: of every block, or a tuple of one for each stage, as in ("none",
        "none", "none", "mhsa").
    Raises ArgumentError, naming the field, what was expected and what came.
    """

    model = "ResidualAttentionNetwork"

    in_channels: Checked[int, int] = Checked(_count, 3)
    classes: Checked[int, int] = Checked(_count, 1000)
    widths: Checked[tuple[int, ...], tuple[int, ...]] = Checked(_counts, (64, 128, 256, 512))
    depths: Checked[tuple[int, ...], tuple[int, ...]] = Checked(_counts, (2, 2, 2, 2))
    strides: Checked[tuple[int | Pair, ...] | None, tuple[Pair, ...]] = Checked(
        _strides,  # type: ignore[arg-type]
        None,
    )
    stem_channels: Checked[int | None, int] = Checked(
        _optional_count,  # type: ignore[arg-type]
        None,
    )
    stem_kernel_size: Checked[int | Pair, Pair] = Checked(_odd_kernel, 3)
    stem_stride: Checked[int | Pair, Pair] = Checked(pair_of, 1)
    stem_pool: Checked[bool, bool] = Checked(truth, False)
    kernel_size: Checked[int | Pair, Pair] = Checked(_odd_kernel, 3)
    attention: Checked[str | tuple[str, ...], str | tuple[str, ...]] = Checked(_kinds, "se")
    attention_options: Checked[
        Mapping[str, Any] | tuple[Mapping[str, Any] | None, ...] | None,
        Options | tuple[Options, ...],
    ] = Checked(_options_a_stage, None)
    conv_bias: Checked[bool, bool] = Checked(truth, False)
    bn_eps: Checked[float, float] = Checked(positive, 1e-5)
    bn_decay: Checked[float, float] = Checked(decay_of, 0.9)

    def __post_init__(self) -> None:
        if self.strides is None:
            self._set(strides=(1,) + (2,) * (len(self.widths) - 1))
        if self.stem_channels is None:
            self._set(stem_channels=self.widths[0])
        lengths = [len(each) for each in (self.widths, self.depths, self.strides)]
        if len(set(lengths)) > 1:
            raise ArgumentError(
                "widths, depths, strides: expected as many values in each, one a stage, got "
                f"{lengths[0]}, {lengths[1]} and {lengths[2]}"
            )
        self._check_attention()
        self.stages()  # each block checks its own
        _ = self.input_size  # refuses sizes that no image gives to all

    def _check_attention(self) -> None:
        """Refuses tuples that do not have one value for each stage."""
        attention, options = self.attention, self.attention_options
        for name, value in (("attention", attention), ("attention_options", options)):
            if isinstance(value, tuple) and len(value) != len(self.widths):
                raise ArgumentError(
                    f"{name}: expected one for each of the {len(self.widths)} stages, got "
                    f"{len(value)}: {value}"
                )
        if isinstance(attention, tuple) and not isinstance(options, tuple) and options:
            raise ArgumentError(
                "attention_options: expected a tuple with one mapping (or None) for each stage, as "
                f"attention is one, got {options}"
            )

    def stages(self) -> tuple[tuple[BlockConfig, ...], ...]:
        """The blocks, stage by stage."""
        found, channels = [], self.stem_channels
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            blocks = []
            for position in range(depth):
                blocks.append(self._block(stage, channels, width, first=position == 0))
                channels = width
            found.append(tuple(blocks))
        return tuple(found)

    def _block(self, stage: int, channels: int, width: int, first: bool) -> BlockConfig:
        attention, options = self.attention, self.attention_options
        return BlockConfig(
            channels,
            width,
            self.kernel_size,
            self.strides[stage] if first else 1,
            attention=attention[stage] if isinstance(attention, tuple) else attention,
            attention_options=options[stage] if isinstance(options, tuple) else options,
            conv_bias=self.conv_bias,
            bn_eps=self.bn_eps,
            bn_decay=self.bn_decay,
        )

    def blocks(self) -> tuple[BlockConfig, ...]:
        """The blocks, in the order of execution."""
        return tuple(block for blocks in self.stages() for block in blocks)

    def named_blocks(self) -> dict[str, BlockConfig]:
        """The blocks by their names, in the order of execution."""
        return {
            f"stages.{stage}.{position}": block
            for stage, blocks in enumerate(self.stages())
            for position, block in enumerate(blocks)
        }

    @property
    def input_size(self) -> Pair | None:
        """The size (height, width) of images where attention takes maps of one size, else None.

        Raises ArgumentError where no size gives all attention modules what they take.
        """
        pool = 2 if self.stem_pool else 1
        rows, cols = (pool * step for step in self.stem_stride)
        blocks = []
        for block in self.blocks():
            rows, cols = rows * block.stride[0], cols * block.stride[1]
            blocks.append((block, (rows, cols)))
        return _input_size(blocks)

    def describe(self) -> str:
        """One line for people."""
        widths = ", ".join(map(str, self.widths))
        firsts = [blocks[0] for blocks in self.stages()]
        words = [_attention_words(each.attention, each.attention_options) for each in firsts]
        attention = words[0] if len(set(words)) == 1 else ", ".join(words)
        return f"a network of {sum(self.depths)} blocks, widths {widths}, attention {attention}"


def _input_size(blocks: list[tuple[BlockConfig, Pair]]) -> Pair | None:
    """The greatest image of which every block with a map of fixed size gets that size.

    blocks: each with how many times smaller than the image its map is; odd kernels that are padded
    by half make that ceil(size / times).
    """
    fixed = [
        (pair_of("size", block.attention_options["size"]), times)
        for block, times in blocks
        if block.has_fixed_size
    ]
    if not fixed:
        return None
    greatest = [min(size[axis] * times[axis] for size, times in fixed) for axis in (0, 1)]
    least = [max((size[axis] - 1) * times[axis] + 1 for size, times in fixed) for axis in (0, 1)]
    if least[0] > greatest[0] or least[1] > greatest[1]:
        wanted = ", ".join(
            f"{size[0]} x {size[1]} where maps are 1/{times[0]} x 1/{times[1]}"
            for size, times in fixed
        )
        raise ArgumentError(
            f"attention_options: no image gives every stage a map of its size: {wanted}; give each "
            "stage its own size, or another attention"
        )
    return greatest[0], greatest[1]


Config = BlockConfig | NetworkConfig


def own_kinds(config: Config) -> tuple[str, ...]:
    """The attention kinds in it that a user registered."""
    kinds = dict.fromkeys(block.attention for block in config.blocks())
    return tuple(kind for kind in kinds if not ATTENTION[kind].built_in)


_IMAGENET: dict[str, Any] = {"stem_kernel_size": 7, "stem_stride": 2, "stem_pool": True}
_CIFAR: dict[str, Any] = {"widths": (16, 32, 64), "classes": 10}

PRESETS: dict[str, dict[str, Any]] = {
    "resnet18": {**_IMAGENET, "depths": (2, 2, 2, 2), "attention": "none"},
    "resnet34": {**_IMAGENET, "depths": (3, 4, 6, 3), "attention": "none"},
    "se-resnet18": {**_IMAGENET, "depths": (2, 2, 2, 2), "attention": "se"},
    "se-resnet34": {**_IMAGENET, "depths": (3, 4, 6, 3), "attention": "se"},
    "resnet20": {**_CIFAR, "depths": (3, 3, 3), "attention": "none"},
    "se-resnet20": {**_CIFAR, "depths": (3, 3, 3), "attention": "se"},
}


def preset(name: str, **changes: Any) -> NetworkConfig:
    """A well-known network by name, with fields changed: `preset("resnet18", classes=10)`.

    resnet18 and resnet34: He et al. 2015, table 1; se-resnet18 and se-resnet34: the same with
    squeeze-and-excitation; resnet20 and se-resnet20: the CIFAR network of He et al. 2015, section
    4.2, with projection shortcuts.
    Raises ArgumentError for a name that does not exist.
    """
    if name not in PRESETS:
        raise ArgumentError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return NetworkConfig.from_dict({**PRESETS[name], **changes})


def config_from_json(text: str, source: str = "the config") -> Config:
    """The config that `to_json` wrote. source: what to call it in an error."""
    models: dict[str, type[BlockConfig] | type[NetworkConfig]] = {
        kind.model: kind for kind in (BlockConfig, NetworkConfig)
    }
    values = parse_json(text, source)
    found = values.pop("model", None) if isinstance(values, dict) else values
    if not isinstance(values, dict) or not isinstance(found, str) or found not in models:
        raise ArgumentError(
            f'{source}: expected an object whose "model" is one of {", ".join(models)}, got '
            f"{found!r}"
        )
    try:
        return models[found].from_dict(values)
    except ArgumentError as error:
        raise ArgumentError(f"{source}: {error}") from None
