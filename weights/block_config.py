"""The configuration of a block: frozen, validated, stored as JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from weights.attention import ATTENTION, attention_parameters, plain_options
from weights.checks import (
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
from weights.fields import Checked, Options, Plain
from weights.language import say

NORM_KINDS = ("batch", "group", "folded")
ANTIALIASES = ("none", "average", "blur")
SHORTCUTS = ("convolution", "average", "subsample")
STRIDE_PLACES = ("conv1", "conv2")
MOST_BLOCKS = 1000  # in a network, and convolutions in a stem; published ones have up to 600

count = partial(at_least, least=1)


def one_a_stage(name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)) or not value:
        raise ArgumentError(
            f"{name}: expected one value for each stage, as in (1, 2), got {quote(value)}"
        )
    at_most(name, len(value), MOST_BLOCKS, "values")
    return tuple(value)


def counts(name: str, value: object) -> tuple[int, ...]:
    return tuple(count(name, each) for each in one_a_stage(name, value))


def odd_kernel(name: str, value: object) -> Pair:
    kernel_size = pair_of(name, value)
    if any(size % 2 == 0 for size in kernel_size):
        odd = tuple(size + 1 - size % 2 for size in kernel_size)
        raise ArgumentError(
            f"{name}: expected odd sizes, got {quote(value)}: no padding lets an even kernel keep "
            f"the size of its input, so main path and shortcut would differ. Use {odd} with "
            f"padding {tuple(size // 2 for size in odd)}"
        )
    return kernel_size


def optional_count(name: str, value: object) -> int | None:
    return None if value is None else count(name, value)


def options_of(name: str, value: object) -> Options:
    return Options(plain_options(value))


def choice(choices: tuple[str, ...], default: str) -> Any:
    """An option that is one of some words."""
    return optional(partial(one_of, choices=choices), default)


def optional(convert: Callable[[str, Any], Any], default: Any) -> Any:
    """An option of published networks: files do not mention it where it has its default."""
    return Checked(convert, default, mentioned=False)


def _margin(name: str, value: object) -> Pair | str | None:
    if isinstance(value, str):
        return one_of(name, value, (SAME,))
    return None if value is None else pair_of(name, value, least=0)


class Model(Plain):
    """A config of a model. JSON holds it with the name of the model that it describes."""

    model = ""

    norm = "batch"

    def to_json(self) -> str:
        return json.dumps({"model": self.model, **self.to_dict()})

    @property
    def norm_words(self) -> str:
        """What `describe` says about folded batch norms."""
        return say(", batch norms folded") if self.norm == "folded" else ""


def attention_words(attention: str, options: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {value}" for name, value in options.items())
    return attention + (f" ({values})" if values else "")


@dataclass(frozen=True)
class BlockConfig(Model):
    """A residual block with attention: conv1 bn1 relu conv2 bn2 attention, plus shortcut, relu.

    in_channels, out_channels: channels of the input and the output.
    kernel_size, stride, padding: an int or a (height, width) pair, in pixels; kept as pairs. conv1
        has the stride, conv2 stride 1 (He et al. 2015, section 3.3). padding None means kernel_size
        // 2, the only padding with which both paths end at the same size at every size of image;
        "same" is that of TensorFlow and JAX: enough that sizes are divided by the stride and
        rounded up, half of it before the image, an odd rest after it.
    attention, attention_options: a kind of `weights.attention.ATTENTION` and its options.
    conv_bias: whether convolutions have a bias (those inside attention follow their own
        definition).
    bn_eps: added to the variance, by either norm. bn_decay: the part of the running statistics that
        is kept at each training step.

    What follows is for published networks; the defaults are the block above.

    shortcut: "convolution", a convolution with the stride and a norm; "average", an average pooling
        with the stride, then a 1x1 convolution and a norm (He et al. 2018, Bag of Tricks, figure
        2c); or "subsample", every stride-th pixel, and channels of zeros on both sides (He et al.
        2015, section 4.2, option A). shortcut_kernel_size: of its convolution where it has a
        stride. projects_always: whether a shortcut without stride and new channels has these
        layers, too.
    antialias: where the stride of the main path is: "none", in a convolution; or in a pooling after
        that convolution, which then has stride 1: "average", a 2x2 average pooling; "blur", a 3x3
        binomial filter (Zhang 2019, Making Convolutional Networks Shift-Invariant Again).
    relu_before_attention: whether a relu is between the last norm and the attention.
    norm, norm_groups: "batch"; "group" with so many groups (Wu & He 2018); or "folded", for
        inference: none, since the batch norms are part of the weights and biases of the
        convolutions before them (see `weights.fold`).
    dilation: distance between the values of the 3x3 kernels, of the first and of the others, an int
        or a pair of them; for networks with an output stride.
    drop_path: probability that a training step leaves the main path of an image out (Huang et al.
        2016, Deep Networks with Stochastic Depth).
    zero_init: whether the last norm's scale starts at 0.
    Raises ArgumentError, naming the field, what was expected and what came.
    """

    model = "ResidualBlockWithAttention"

    in_channels: Checked[int, int] = Checked(count)
    out_channels: Checked[int, int] = Checked(count)
    kernel_size: Checked[int | Pair, Pair] = Checked(odd_kernel, 3)
    stride: Checked[int | Pair, Pair] = Checked(pair_of, 1)
    padding: Checked[int | Pair | str | None, Any] = Checked(_margin, None)
    attention: str = "se"
    attention_options: Checked[Mapping[str, Any] | None, Options] = Checked(options_of, None)
    conv_bias: Checked[bool, bool] = Checked(truth, True)
    bn_eps: Checked[float, float] = Checked(positive, 1e-5)
    bn_decay: Checked[float, float] = Checked(decay_of, 0.9)
    shortcut: Checked[str, str] = choice(SHORTCUTS, "convolution")
    shortcut_kernel_size: Checked[int | Pair, Pair] = optional(odd_kernel, 1)
    projects_always: Checked[bool, bool] = optional(truth, False)
    antialias: Checked[str, str] = choice(ANTIALIASES, "none")
    relu_before_attention: Checked[bool, bool] = optional(truth, False)
    norm: Checked[str, str] = choice(NORM_KINDS, "batch")
    norm_groups: Checked[int, int] = optional(count, 32)
    dilation: Checked[int | Pair, Pair] = optional(pair_of, 1)
    drop_path: Checked[float, float] = optional(fraction, 0.0)
    zero_init: Checked[bool, bool] = optional(truth, False)

    def __post_init__(self) -> None:
        keeping = (self.kernel_size[0] // 2, self.kernel_size[1] // 2)
        if self.padding not in (None, keeping, SAME):
            raise ArgumentError(
                f"padding: {_short(self.padding)} with kernel_size {_short(self.kernel_size)} "
                f"makes main path and shortcut differ in size; the padding that works is {keeping} "
                f"(kernel_size // 2), or leave it out; or {SAME!r}"
            )
        if self.padding is None:
            self._set(padding=keeping)
        self._check_options()
        attention_parameters(self.attention, self.out_channels, self.attention_options)

    def _check_options(self) -> None:
        """Refuses options that do not go together."""
        if self.shortcut != "convolution" and self.shortcut_kernel_size != (1, 1):
            raise ArgumentError(
                f"shortcut_kernel_size: a shortcut of the kind {self.shortcut!r} has no other "
                f"convolution than 1x1, got {_short(self.shortcut_kernel_size)}"
            )
        if self.shortcut == "subsample" and self.in_channels > self.out_channels:
            raise ArgumentError(
                f"shortcut: 'subsample' adds channels, but in_channels {self.in_channels} is more "
                f"than out_channels {self.out_channels}; use 'convolution'"
            )
        if self.dilation != (1, 1) and (self.antialias != "none" or self.shortcut == "average"):
            raise ArgumentError(
                f"dilation: {self.dilation} cannot be used with antialias {self.antialias!r} and "
                f"shortcut {self.shortcut!r}; use antialias 'none' and shortcut 'convolution'"
            )
        if self.antialias != "none" and self.stride not in ((1, 1), (2, 2)):
            raise ArgumentError(
                f"stride: expected 1 or 2 with antialias {self.antialias!r}, got {self.stride}"
            )
        if self.norm == "folded" and not self.conv_bias:
            raise ArgumentError(
                "conv_bias: expected True with norm 'folded', got False: the offsets of the norms "
                "are in the biases of the convolutions"
            )
        if self.norm == "group":
            for channels in self.normed_channels:
                if channels % self.norm_groups:
                    raise ArgumentError(
                        f"norm_groups: {self.norm_groups} groups do not divide {channels} channels"
                    )

    @property
    def normed_channels(self) -> tuple[int, ...]:
        """The channels of the norms of the main path."""
        return (self.out_channels, self.out_channels)

    @property
    def plain(self) -> dict[str, Any]:
        """The arguments of the block as the paper has it.

        Raises ArgumentError where an option of published networks is set.
        """
        if not self.is_plain:
            raise ArgumentError(
                f"{', '.join(self._set_options)}: options of published networks; make the block "
                "with build_block(config)"
            )
        options = self.changed_options()
        return {item.name: getattr(self, item.name) for item in fields(self)
                if item.name not in options}  # fmt: skip

    @property
    def is_plain(self) -> bool:
        """Whether it is the block as the paper has it, without an option of published networks."""
        return not self._set_options

    @property
    def _set_options(self) -> list[str]:
        changed = [name for name, is_set in self.changed_options().items() if is_set]
        return [*changed, "padding"] if self.padding == SAME else changed

    @property
    def shortcut_form(self) -> str:
        """The shortcut that this block has: "identity", "subsample", "projection" (a convolution
        and a norm), or "average" (the same after an average pooling).
        """
        if self.shortcut == "subsample":
            return "subsample" if self.changes else "identity"
        if not self.changes and not self.projects_always:
            return "identity"
        pools = self.shortcut == "average" and self.stride != (1, 1)
        return "average" if pools else "projection"

    @property
    def projects(self) -> bool:
        """Whether the shortcut has layers."""
        return self.shortcut_form in ("projection", "average")

    @property
    def changes(self) -> bool:
        """Whether channels or size change."""
        return self.in_channels != self.out_channels or self.stride != (1, 1)

    @property
    def shortcut_kernel(self) -> Pair:
        """The kernel of the shortcut's convolution: 1x1 where it has no stride."""
        strided = self.stride != (1, 1) or self.dilation != (1, 1)
        return self.shortcut_kernel_size if strided and self.shortcut == "convolution" else (1, 1)

    @property
    def main_stride(self) -> dict[str, Pair]:
        """The stride of conv1 and of conv2."""
        found = dict.fromkeys(STRIDE_PLACES, (1, 1))
        if not self.pools:
            found[self._stride_place] = self.stride
        return found

    @property
    def _stride_place(self) -> str:
        return "conv1"

    @property
    def pools(self) -> bool:
        """Whether a pooling has the stride of the main path."""
        return self.antialias != "none" and self.stride != (1, 1)

    def blocks(self) -> "tuple[BlockConfig, ...]":
        """The block itself; a network has several."""
        return (self,)

    def named_blocks(self) -> "dict[str, BlockConfig]":
        """The block itself, under the name ""; a network has several."""
        return {"": self}

    @property
    def last_layer(self) -> str:
        """The name of the last layer of the main path: its last norm, or where norms are folded its
        last convolution.
        """
        return f"{'conv' if self.norm == 'folded' else 'bn'}{len(self.normed_channels)}"

    @property
    def has_fixed_size(self) -> bool:
        """Whether its attention was made for maps of one size."""
        built_in = ATTENTION[self.attention].built_in
        return built_in and self.attention_options.get("size") is not None

    @property
    def input_size(self) -> Pair | None:
        """The size (height, width) of images where attention takes maps of one size, else None."""
        return input_size([(self, self.stride)])

    def describe(self) -> str:
        """One line for people."""
        kernel, stride = (" x ".join(map(str, pair)) for pair in (self.kernel_size, self.stride))
        attention = attention_words(self.attention, self.attention_options)
        return say(
            "{form}, {in_channels} to {out_channels} channels, kernel {kernel}, stride {stride}, "
            "attention {attention}{norm}",
            form=self._form,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel=kernel,
            stride=stride,
            attention=attention,
            norm=self.norm_words,
        )

    @property
    def _form(self) -> str:
        return say("a block")


@dataclass(frozen=True)
class BottleneckConfig(BlockConfig):
    """A residual bottleneck with attention: conv1 bn1 relu conv2 bn2 relu conv3 bn3 attention, plus
    shortcut, relu (He et al. 2015, figure 5).

    conv1 and conv3 are 1x1 convolutions, conv2 has kernel_size.

    hidden_channels: of conv2's output; None: out_channels // 4. first_channels: of conv1's output;
        None: hidden_channels.
    groups: of channels that conv2 keeps apart (Xie et al. 2017, ResNeXt).
    stride_at: "conv2", as torchvision has it, or "conv1", as the paper has it.
    The other fields: `BlockConfig`.
    """

    model = "ResidualBottleneckWithAttention"

    hidden_channels: Checked[int | None, Any] = optional(optional_count, None)
    first_channels: Checked[int | None, Any] = optional(optional_count, None)
    groups: Checked[int, int] = optional(count, 1)
    stride_at: Checked[str, str] = choice(STRIDE_PLACES, "conv2")

    def __post_init__(self) -> None:
        if self.hidden_channels is None:
            self._set(hidden_channels=max(1, self.out_channels // 4))
        if self.first_channels is None:
            self._set(first_channels=self.hidden_channels)
        for name in ("first_channels", "hidden_channels"):
            if getattr(self, name) % self.groups:
                raise ArgumentError(
                    f"groups: {self.groups} groups do not divide {name} {getattr(self, name)}"
                )
        if self.pools and self.stride_at == "conv1":
            raise ArgumentError(
                "stride_at: antialias takes the stride of conv2; use stride_at 'conv2'"
            )
        super().__post_init__()

    @property
    def _stride_place(self) -> str:
        return self.stride_at

    @property
    def normed_channels(self) -> tuple[int, ...]:
        return (self.first_channels, self.hidden_channels, self.out_channels)

    @property
    def _form(self) -> str:
        return say("a bottleneck")


def _short(pair: Pair) -> str:
    return str(pair[0] if pair[0] == pair[1] else pair)


def input_size(blocks: list[tuple[BlockConfig, Pair]]) -> Pair | None:
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


def bottleneck_widths(
    widths: tuple[int, ...], groups: int = 1, base_width: int = 64
) -> tuple[int, ...]:
    """The hidden widths of stages of bottlenecks, as ResNeXt and Wide ResNet count them.

    widths: of the outputs, 4 times the "planes". groups: "cardinality". base_width: of a group in
    the first stage of 64 planes: floor(planes * base_width / 64) * groups.
    """
    return tuple(width // 4 * base_width // 64 * groups for width in widths)
