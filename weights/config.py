"""The configuration of a network: frozen, validated, stored as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from weights.attention import ATTENTION
from weights.block_config import (
    ANTIALIASES,
    MOST_BLOCKS,
    NORM_KINDS,
    SHORTCUTS,
    STRIDE_PLACES,
    BlockConfig,
    BottleneckConfig,
    Model,
    attention_words,
    bottleneck_widths,
    choice,
    count,
    counts,
    input_size,
    odd_kernel,
    one_a_stage,
    optional,
    optional_count,
    options_of,
)
from weights.checks import (
    BELOW,
    SAME,
    Pair,
    at_least,
    at_most,
    decay_of,
    fraction,
    one_of,
    pair_of,
    positive,
    quote,
    truth,
)
from weights.errors import ArgumentError
from weights.fields import Checked, Options
from weights.language import mark, say
from weights.preprocessing import Preprocessing

__all__ = [
    "STEM_POOLS",
    "BlockConfig",
    "BottleneckConfig",
    "Config",
    "NetworkConfig",
    "bottleneck_widths",
    "own_kinds",
    "without_chance",
]

BLOCK_FORMS = ("basic", "bottleneck")
STEM_POOLS = ("max", "max_ceil", "max_same", "max_blur", "average", "convolution")

Widths = tuple[int | tuple[int, ...], ...]


def _depths(name: str, value: object) -> tuple[int, ...]:
    depths = counts(name, value)
    at_most(name, sum(depths), MOST_BLOCKS, "blocks in all")
    return depths


def _strides(name: str, value: object) -> tuple[Pair, ...] | None:
    return None if value is None else tuple(pair_of(name, v) for v in one_a_stage(name, value))


def _stem_channels(name: str, value: object) -> int | tuple[int, ...] | None:
    if isinstance(value, (tuple, list)):
        at_most(name, len(value), MOST_BLOCKS, "convolutions")
        channels = tuple(count(name, each) for each in value)
        if len(channels) < 2:
            raise ArgumentError(
                f"{name}: expected a number, or two or more of them, got {quote(value)}"
            )
        return channels
    return None if value is None else count(name, value)


def _stem_pool(name: str, value: object) -> str | None:
    """True and False are from the time when there was one pooling."""
    if value is None or value is False:
        return None
    return "max" if value is True else one_of(name, value, STEM_POOLS)


def _hidden(name: str, value: object) -> Widths | None:
    if value is None:
        return None
    return tuple(
        counts(name, each) if isinstance(each, (tuple, list)) else count(name, each)
        for each in one_a_stage(name, value)
    )


def _forms(name: str, value: object) -> str | tuple[str, ...]:
    """One for all stages, or one for each."""
    if isinstance(value, (tuple, list)):
        return tuple(one_of(name, each, BLOCK_FORMS) for each in one_a_stage(name, value))
    return one_of(name, value, BLOCK_FORMS)


def _padding(name: str, value: object) -> str | None:
    return None if value is None else one_of(name, value, (SAME,))


def _preprocessing(name: str, value: object) -> Preprocessing | None:
    if isinstance(value, Mapping):
        return Preprocessing.from_dict(value)
    if value is None or isinstance(value, Preprocessing):
        return value
    raise ArgumentError(
        f"{name}: expected a weights.Preprocessing or its fields, got {quote(value)}"
    )


def _kinds(name: str, value: Any) -> Any:
    kinds = one_a_stage(name, value) if isinstance(value, (tuple, list)) else value
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        if not isinstance(kind, str):
            raise ArgumentError(
                f"{name}: expected one for all stages or one for each, of {', '.join(ATTENTION)}, "
                f"got {quote(value)}"
            )
    return kinds


def _options_a_stage(name: str, value: object) -> Options | tuple[Options, ...]:
    if isinstance(value, (tuple, list)):
        return tuple(options_of(name, each) for each in one_a_stage(name, value))
    return options_of(name, value)


@dataclass(frozen=True)
class NetworkConfig(Model):
    """A residual network of such blocks: stem, stages, global average pooling, classifier.

    He et al. 2015, table 1 (ImageNet) and section 4.2 (CIFAR).

    in_channels: channels of the image. classes: outputs of the classifier; 0: no classifier, the
        output is the average of each channel of the last stage.
    widths, depths, strides: for each stage the channels of its output, its number of blocks and the
        stride of its first block; strides None means 1 for the first stage and 2 for the others.
    stem_channels (None: the first width), stem_kernel_size, stem_stride: the first convolution.
        Several channels, as in (32, 32, 64), are as many convolutions with norm and relu; the first
        has the stride.
    stem_pool: what follows the stem: None; "max" (or True), 3x3 with stride 2 and padding 1;
        "max_ceil", the same without padding, a last window may reach over the edge; "max_same", the
        same with the padding of TensorFlow; "max_blur", 3x3 without stride, then a 3x3 binomial
        filter with stride 2; "average", 2x2 with stride 2; "convolution", 3x3 with stride 2, norm
        and relu (Bello et al. 2021, ResNet-RS).
    stem_padding: of the stem's convolutions, None or "same", as in `BlockConfig`.
    kernel_size, conv_bias, bn_eps, bn_decay: of every block, as in `BlockConfig`; the last three
        also of the stem.
    attention, attention_options: of every block, or a tuple of one for each stage, as in ("none",
        "none", "none", "mhsa").

    What follows is for published networks.

    form: of the blocks, "basic" or "bottleneck", or a tuple of one for each stage.
    hidden_widths, first_widths: of bottlenecks, `BottleneckConfig`'s hidden_channels and
        first_channels: for each stage one number, or one for each of its blocks (pruned networks).
    groups, stride_at: of bottlenecks.
    padding, shortcut, shortcut_kernel_size, antialias, relu_before_attention, norm, norm_groups,
        zero_init: of every block; norm also of the stem. projects_first: `BlockConfig`'s
        projects_always, for the first block of each stage.
    output_stride: None, or how many times smaller than the image maps become at most; stages that
        would make them smaller have dilated kernels instead (Chen et al. 2017, DeepLab v3).
    drop_path: of the last block; those before it have a share that grows linearly from 0. dropout:
        probability that training sets an average before the classifier to 0. Both draw their own
        random numbers in each framework, so training with them differs between frameworks.
    preprocessing: how images become the input, a `weights.Preprocessing`; None: not known. Nothing
        that the network computes depends on it.
    Raises ArgumentError, naming the field, what was expected and what came.
    """

    model = "ResidualAttentionNetwork"
    synonyms = {"num_classes": "classes"}  # noqa: RUF012  (timm's, torchvision's)

    in_channels: Checked[int, int] = Checked(count, 3)
    classes: Checked[int, int] = Checked(partial(at_least, least=0), 1000)
    widths: Checked[tuple[int, ...], tuple[int, ...]] = Checked(counts, (64, 128, 256, 512))
    depths: Checked[tuple[int, ...], tuple[int, ...]] = Checked(_depths, (2, 2, 2, 2))
    strides: Checked[tuple[int | Pair, ...] | None, tuple[Pair, ...]] = Checked(
        _strides,  # type: ignore[arg-type]
        None,
    )
    stem_channels: Checked[int | tuple[int, ...] | None, int | tuple[int, ...]] = Checked(
        _stem_channels,  # type: ignore[arg-type]
        None,
    )
    stem_kernel_size: Checked[int | Pair, Pair] = Checked(odd_kernel, 3)
    stem_stride: Checked[int | Pair, Pair] = Checked(pair_of, 1)
    stem_pool: Checked[str | bool | None, str | None] = Checked(_stem_pool, None)
    kernel_size: Checked[int | Pair, Pair] = Checked(odd_kernel, 3)
    attention: Checked[str | tuple[str, ...], str | tuple[str, ...]] = Checked(_kinds, "se")
    attention_options: Checked[
        Mapping[str, Any] | tuple[Mapping[str, Any] | None, ...] | None,
        Options | tuple[Options, ...],
    ] = Checked(_options_a_stage, None)
    conv_bias: Checked[bool, bool] = Checked(truth, False)
    bn_eps: Checked[float, float] = Checked(positive, 1e-5)
    bn_decay: Checked[float, float] = Checked(decay_of, 0.9)
    form: Checked[str | tuple[str, ...], str | tuple[str, ...]] = optional(_forms, "basic")
    hidden_widths: Checked[Widths | None, Widths | None] = optional(_hidden, None)
    first_widths: Checked[Widths | None, Widths | None] = optional(_hidden, None)
    groups: Checked[int, int] = optional(count, 1)
    stride_at: Checked[str, str] = choice(STRIDE_PLACES, "conv2")
    stem_padding: Checked[str | None, str | None] = optional(_padding, None)
    padding: Checked[str | None, str | None] = optional(_padding, None)
    shortcut: Checked[str, str] = choice(SHORTCUTS, "convolution")
    shortcut_kernel_size: Checked[int | Pair, Pair] = optional(odd_kernel, 1)
    projects_first: Checked[bool, bool] = optional(truth, False)
    antialias: Checked[str, str] = choice(ANTIALIASES, "none")
    relu_before_attention: Checked[bool, bool] = optional(truth, False)
    norm: Checked[str, str] = choice(NORM_KINDS, "batch")
    norm_groups: Checked[int, int] = optional(count, 32)
    zero_init: Checked[bool, bool] = optional(truth, False)
    output_stride: Checked[int | None, int | None] = optional(optional_count, None)
    drop_path: Checked[float, float] = optional(fraction, 0.0)
    dropout: Checked[float, float] = optional(fraction, 0.0)
    preprocessing: Checked[Preprocessing | Mapping[str, Any] | None, Preprocessing | None] = (
        optional(_preprocessing, None)
    )

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
        self._check_forms()
        self._check_attention()
        self._check_hidden()
        if self.norm == "group":
            for channels in self.stem_widths:
                if channels % self.norm_groups:
                    raise ArgumentError(
                        f"norm_groups: {self.norm_groups} groups do not divide the {channels} "
                        "channels of the stem"
                    )
        self.stages()  # each block checks its own
        _ = self.input_size  # refuses sizes that no image gives to all

    def _check_forms(self) -> None:
        if len(self.forms) != len(self.depths):
            raise ArgumentError(
                f"form: expected one for each of the {len(self.depths)} stages, got "
                f"{quote(self.form)}"
            )

    def _check_hidden(self) -> None:
        """Refuses widths of bottlenecks that are not one for each stage or block."""
        for name in ("hidden_widths", "first_widths"):
            value = getattr(self, name)
            if value is None:
                continue
            if "bottleneck" not in self.forms:
                raise ArgumentError(f"{name}: only bottlenecks have them; set form='bottleneck'")
            lengths = [
                len(each) if isinstance(each, tuple) else depth
                for each, depth in zip(value, self.depths, strict=False)
            ]
            if len(value) != len(self.depths) or lengths != list(self.depths):
                raise ArgumentError(
                    f"{name}: expected for each of the {len(self.depths)} stages one number, or "
                    f"one for each of its {quote(self.depths)} blocks, got {quote(value)}"
                )
        if "bottleneck" not in self.forms and (self.groups != 1 or self.stride_at != "conv2"):
            raise ArgumentError(
                "groups, stride_at: only bottlenecks have them; set form='bottleneck'"
            )

    @property
    def forms(self) -> tuple[str, ...]:
        """The form of the blocks of each stage."""
        return self.form if isinstance(self.form, tuple) else (self.form,) * len(self.depths)

    @property
    def stem_widths(self) -> tuple[int, ...]:
        """The channels of each of the stem's convolutions."""
        channels = self.stem_channels
        return channels if isinstance(channels, tuple) else (channels,)

    @property
    def stem_reduction(self) -> Pair:
        """How many times smaller than the image the maps after the stem are, (height, width)."""
        pool = 2 if self.stem_pool else 1
        rows, cols = self.stem_stride
        return pool * rows, pool * cols

    @property
    def has_plain_stem(self) -> bool:
        """Whether the stem is one convolution with batch norm and relu, and the usual pooling."""
        plain = len(self.stem_widths) == 1 and self.stem_padding is None
        return plain and self.norm == "batch" and self.stem_pool in (None, "max")

    @property
    def stem_names(self) -> tuple[tuple[str, str], ...]:
        """The names of each of the stem's convolutions and of its norm."""
        if len(self.stem_widths) == 1:
            return (("conv", "bn"),)
        return tuple((f"conv{i}", f"bn{i}") for i in range(1, len(self.stem_widths) + 1))

    def _check_attention(self) -> None:
        """Refuses tuples that do not have one value for each stage."""
        attention, options = self.attention, self.attention_options
        for name, value in (("attention", attention), ("attention_options", options)):
            if isinstance(value, tuple) and len(value) != len(self.widths):
                raise ArgumentError(
                    f"{name}: expected one for each of the {len(self.widths)} stages, got "
                    f"{len(value)}: {quote(value)}"
                )
        if isinstance(attention, tuple) and not isinstance(options, tuple) and options:
            raise ArgumentError(
                "attention_options: expected a tuple with one mapping (or None) for each stage, as "
                f"attention is one, got {quote(options)}"
            )

    def stages(self) -> tuple[tuple[BlockConfig, ...], ...]:
        """The blocks, stage by stage."""
        return _stages(self)

    def _make_stages(self) -> tuple[tuple[BlockConfig, ...], ...]:
        found, channels, number = [], self.stem_widths[-1], 0
        made: dict[tuple[Any, ...], BlockConfig] = {}
        total = sum(self.depths)
        steps = max(self.stem_reduction)
        dilation = 1
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            stride, before = self.strides[stage], dilation
            if self.output_stride is not None and steps >= self.output_stride:
                self._check_dilation(stage)
                stride, dilation = (1, 1), dilation * max(stride)
            steps *= max(stride)
            if steps >= BELOW:
                raise ArgumentError(
                    f"strides: stage {stage} has maps that are {steps:,} times smaller than the "
                    f"image, expected fewer than {BELOW:,} times; use smaller strides"
                )
            blocks = []
            for position in range(depth):
                place = {
                    "in_channels": channels,
                    "out_channels": width,
                    "stride": stride if position == 0 else 1,
                    "dilation": (before if position == 0 else dilation, dilation),
                    "projects_always": self.projects_first and position == 0,
                    "drop_path": self.drop_path * number / max(1, total - 1),
                }
                widths = [
                    _at(each, stage, position) for each in (self.hidden_widths, self.first_widths)
                ]
                key = (stage, *place.values(), *widths)
                if key not in made:  # most blocks of a stage are equal
                    made[key] = self._block(stage, position, place)
                blocks.append(made[key])
                channels, number = width, number + 1
            found.append(tuple(blocks))
        if self.output_stride is not None and steps > self.output_stride:
            raise ArgumentError(
                f"output_stride: maps become {steps} times smaller than the image, more than "
                f"{self.output_stride}; use a product of the first strides, the stem's included"
            )
        return tuple(found)

    def _check_dilation(self, stage: int) -> None:
        """Refuses to replace the stride of a stage by a dilation where that is not defined."""
        rows, cols = self.strides[stage]
        if rows != cols:
            raise ArgumentError(
                f"output_stride: stage {stage} has stride {(rows, cols)}, but dilated kernels are "
                "dilated by the same number along both axes; use strides that are the same for both"
            )
        if (rows, cols) != (1, 1) and (self.antialias != "none" or self.shortcut == "average"):
            raise ArgumentError(
                f"output_stride: cannot be used with antialias {self.antialias!r} and shortcut "
                f"{self.shortcut!r}; use antialias 'none' and shortcut 'convolution' or 'subsample'"
            )

    def _block(self, stage: int, position: int, place: Mapping[str, Any]) -> BlockConfig:
        attention, options = self.attention, self.attention_options
        names = (
            "kernel_size padding conv_bias bn_eps bn_decay shortcut shortcut_kernel_size antialias "
            "relu_before_attention norm norm_groups zero_init"
        )
        fields = {
            **{name: getattr(self, name) for name in names.split()},
            "attention": attention[stage] if isinstance(attention, tuple) else attention,
            "attention_options": options[stage] if isinstance(options, tuple) else options,
            **place,
        }
        if self.forms[stage] == "basic":
            return BlockConfig(**fields)
        return BottleneckConfig(
            **fields,
            hidden_channels=_at(self.hidden_widths, stage, position),
            first_channels=_at(self.first_widths, stage, position),
            groups=self.groups,
            stride_at=self.stride_at,
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
        rows, cols = self.stem_reduction
        blocks = []
        for block in self.blocks():
            rows, cols = rows * block.stride[0], cols * block.stride[1]
            blocks.append((block, (rows, cols)))
        return input_size(blocks)

    def describe(self) -> str:
        """One line for people."""
        widths = ", ".join(map(str, self.widths))
        firsts = [blocks[0] for blocks in self.stages()]
        words = [attention_words(each.attention, each.attention_options) for each in firsts]
        attention = words[0] if len(set(words)) == 1 else ", ".join(words)
        values = {"count": sum(self.depths), "widths": widths, "attention": attention}
        values["norm"] = self.norm_words
        if "basic" in self.forms:
            text = mark("a network of {count} blocks, widths {widths}, attention {attention}{norm}")
        else:
            text = mark(
                "a network of {count} bottlenecks, widths {widths}, attention {attention}{norm}"
            )
        return say(text, **values)


@lru_cache(maxsize=64)
def _stages(config: NetworkConfig) -> tuple[tuple[BlockConfig, ...], ...]:
    """Cached, since making and checking 200 blocks takes longer than using them."""
    return config._make_stages()


def _at(widths: Widths | None, stage: int, position: int) -> int | None:
    """The width of a block."""
    if widths is None:
        return None
    of_stage = widths[stage]
    return of_stage[position] if isinstance(of_stage, tuple) else of_stage


Config = BlockConfig | NetworkConfig  # a BottleneckConfig is a BlockConfig


def without_chance(config: Config) -> Config:
    """The same network without stochastic depth and dropout: what training computes of it does not
    depend on random numbers.
    """
    changes: dict[str, Any] = {
        name: 0.0 for name in ("drop_path", "dropout") if getattr(config, name, 0.0)
    }
    return replace(config, **changes) if changes else config


def own_kinds(config: Config) -> tuple[str, ...]:
    """The attention kinds in it that a user registered."""
    kinds = dict.fromkeys(block.attention for block in config.blocks())
    return tuple(kind for kind in kinds if not ATTENTION[kind].built_in)
