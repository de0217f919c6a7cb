"""What is built: the configuration of a block and of a network. Frozen, validated, JSON."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Self

from weights.attention import ATTENTION, attention_parameters, plain_options
from weights.checks import Pair, at_least, batch_norm_numbers, pair_of, truth


class Options(Mapping[str, Any]):
    """A mapping that cannot change and can be hashed, so that a config can."""

    def __init__(self, items: Mapping[str, Any] | None = None):
        self._items = dict(items or {})

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def _odd_kernel(name: str, value: object) -> Pair:
    kernel_size = pair_of(name, value)
    if any(size % 2 == 0 for size in kernel_size):
        odd = tuple(size + 1 - size % 2 for size in kernel_size)
        raise ValueError(
            f"{name}: expected odd sizes, got {value!r}: no padding lets an even kernel keep the "
            f"size of its input, so main path and shortcut would differ. Use {odd} with padding "
            f"{tuple(size // 2 for size in odd)}"
        )
    return kernel_size


class _Config:
    """JSON for a frozen dataclass, with the name of the model it describes."""

    model = ""

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """The constructor's arguments as plain values (pairs as lists, options as a dict)."""

        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            return (
                {name: plain(item) for name, item in value.items()}
                if isinstance(value, Options)
                else value
            )

        return {item.name: plain(getattr(self, item.name)) for item in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        known = [item.name for item in fields(cls)]  # type: ignore[arg-type]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(
                f"{cls.__name__}: no field {', '.join(map(repr, unknown))}; its fields are "
                f"{', '.join(known)}"
            )
        missing = [
            item.name for item in fields(cls) if item.default is MISSING and item.name not in values
        ]  # type: ignore[arg-type]
        if missing:
            raise ValueError(f"{cls.__name__}: missing {', '.join(missing)}")
        return cls(**values)

    def to_json(self) -> str:
        return json.dumps({"model": self.model, **self.to_dict()})


def _attention_words(attention: str, options: Mapping[str, Any] | None) -> str:
    values = ", ".join(f"{name} {value}" for name, value in (options or {}).items())
    return attention + (f" ({values})" if values else "")


@dataclass(frozen=True)
class BlockConfig(_Config):
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
    Raises ValueError, naming the field, what was expected and what came.
    """

    model = "ResidualBlockWithAttention"

    in_channels: int
    out_channels: int
    kernel_size: int | Pair = 3
    stride: int | Pair = 1
    padding: int | Pair | None = None
    attention: str = "se"
    attention_options: Mapping[str, Any] | None = None
    conv_bias: bool = True
    bn_eps: float = 1e-5
    bn_decay: float = 0.9

    def __post_init__(self) -> None:
        in_channels = at_least("in_channels", self.in_channels, 1)
        out_channels = at_least("out_channels", self.out_channels, 1)
        kernel_size = _odd_kernel("kernel_size", self.kernel_size)
        stride = pair_of("stride", self.stride)
        keeping = (kernel_size[0] // 2, kernel_size[1] // 2)
        padding = keeping if self.padding is None else pair_of("padding", self.padding, least=0)
        if padding != keeping:
            raise ValueError(
                f"padding: {self.padding!r} with kernel_size {self.kernel_size!r} makes main path "
                f"and shortcut differ in size; the padding that works is {keeping} (kernel_size // "
                "2), or leave it out"
            )
        options = Options(plain_options(self.attention_options))
        attention_parameters(self.attention, out_channels, options)
        truth("conv_bias", self.conv_bias)
        bn_eps, bn_decay = batch_norm_numbers(self.bn_eps, self.bn_decay)
        self._set(
            in_channels=in_channels, out_channels=out_channels, bn_eps=bn_eps, bn_decay=bn_decay
        )
        self._set(
            kernel_size=kernel_size, stride=stride, padding=padding, attention_options=options
        )

    @property
    def projects(self) -> bool:
        """Whether the shortcut is a 1x1 convolution and a batch norm (True) or the identity
        (False).
        """
        return self.in_channels != self.out_channels or self.stride != (1, 1)

    def blocks(self) -> "tuple[BlockConfig, ...]":
        """Itself: what a network has several of."""
        return (self,)

    @property
    def has_fixed_size(self) -> bool:
        """Whether its attention was made for maps of one size."""
        return (
            ATTENTION[self.attention].built_in
            and (self.attention_options or {}).get("size") is not None
        )

    @property
    def input_size(self) -> Pair | None:
        """The size of images (height, width) to use where the attention takes maps of one size
        alone, else None.
        """
        return _input_size([(self, self.stride)])  # type: ignore[list-item]

    def describe(self) -> str:
        """One line for people."""
        kernel, stride = (" x ".join(map(str, pair)) for pair in (self.kernel_size, self.stride))  # type: ignore[arg-type]
        head = f"a block, {self.in_channels} to {self.out_channels} channels, kernel {kernel}, stride {stride}"
        return f"{head}, attention {_attention_words(self.attention, self.attention_options)}"


@dataclass(frozen=True)
class NetworkConfig(_Config):
    """A residual network of such blocks: stem, stages, global average pooling, classifier (He et
    al. 2015).

    in_channels: channels of the image. classes: outputs of the classifier.
    widths, depths, strides: for each stage its channels, its number of blocks and the stride of its
        first block; strides None means 1 for the first stage and 2 for the others.
    stem_channels (None: the first width), stem_kernel_size, stem_stride: the first convolution.
        stem_pool: a 3x3 maximum pooling with stride 2 and padding 1 behind it.
    kernel_size, conv_bias, bn_eps, bn_decay: of every block, as in `BlockConfig`; the last three
        also of the stem.
    attention, attention_options: of every block, or a tuple of one for each stage, as in ("none",
        "none", "none", "mhsa").
    Raises ValueError, naming the field, what was expected and what came.
    """

    model = "ResidualAttentionNetwork"

    in_channels: int = 3
    classes: int = 1000
    widths: tuple[int, ...] = (64, 128, 256, 512)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    strides: tuple[int | Pair, ...] | None = None
    stem_channels: int | None = None
    stem_kernel_size: int | Pair = 3
    stem_stride: int | Pair = 1
    stem_pool: bool = False
    kernel_size: int | Pair = 3
    attention: str | tuple[str, ...] = "se"
    attention_options: Mapping[str, Any] | tuple[Mapping[str, Any] | None, ...] | None = None
    conv_bias: bool = False
    bn_eps: float = 1e-5
    bn_decay: float = 0.9

    def __post_init__(self) -> None:
        for name in ("widths", "depths", "strides"):
            value = getattr(self, name)
            if name == "strides" and value is None:
                continue
            if not isinstance(value, (tuple, list)) or not value:
                raise ValueError(
                    f"{name}: expected one value for each stage, as in (1, 2), got {value!r}"
                )
        strides = (1,) + (2,) * (len(self.widths) - 1) if self.strides is None else self.strides
        if not len(self.widths) == len(self.depths) == len(strides):
            raise ValueError(
                "widths, depths, strides: expected as many values in each, one a stage, got "
                f"{len(self.widths)}, {len(self.depths)} and {len(strides)}"
            )
        truth("stem_pool", self.stem_pool)
        stem_channels = self.widths[0] if self.stem_channels is None else self.stem_channels
        self._set(
            in_channels=at_least("in_channels", self.in_channels, 1),
            classes=at_least("classes", self.classes, 1),
            widths=tuple(at_least("widths", width, 1) for width in self.widths),
            depths=tuple(at_least("depths", depth, 1) for depth in self.depths),
            strides=tuple(pair_of("strides", stride) for stride in strides),
            stem_channels=at_least("stem_channels", stem_channels, 1),
            stem_kernel_size=_odd_kernel("stem_kernel_size", self.stem_kernel_size),
            stem_stride=pair_of("stem_stride", self.stem_stride),
            kernel_size=_odd_kernel("kernel_size", self.kernel_size),
            **self._attention(),
        )
        first = self.stages()[0][0]  # each block checks the rest
        self._set(bn_eps=first.bn_eps, bn_decay=first.bn_decay)
        _ = self.input_size  # refuses sizes that no image gives to all

    def blocks(self) -> tuple[BlockConfig, ...]:
        """The blocks, in the order of execution."""
        return tuple(block for blocks in self.stages() for block in blocks)

    @property
    def input_size(self) -> Pair | None:
        """The size of images (height, width) to use where some attention takes maps of one size
        alone, else None.

        Raises ValueError where no size gives all of them what they take.
        """
        pool = 2 if self.stem_pool else 1
        shrunk = tuple(pool * step for step in self.stem_stride)  # type: ignore[union-attr]
        blocks = []
        for block in self.blocks():
            shrunk = tuple(size * step for size, step in zip(shrunk, block.stride, strict=True))  # type: ignore[arg-type]
            blocks.append((block, shrunk))
        return _input_size(blocks)  # type: ignore[arg-type]

    def describe(self) -> str:
        """One line for people."""
        head = f"a network of {sum(self.depths)} blocks, widths {', '.join(map(str, self.widths))}"
        words = [
            _attention_words(blocks[0].attention, blocks[0].attention_options)
            for blocks in self.stages()
        ]
        return f"{head}, attention {words[0] if len(set(words)) == 1 else ', '.join(words)}"

    def _attention(self) -> dict[str, Any]:
        """The two fields, each one value or a tuple of one a stage."""
        attention: Any = (
            tuple(self.attention) if isinstance(self.attention, list) else self.attention
        )
        given: Any = self.attention_options
        options = (
            tuple(Options(plain_options(each)) for each in given)
            if isinstance(given, (tuple, list))
            else Options(plain_options(given))
        )
        for name, value in (("attention", attention), ("attention_options", options)):
            if isinstance(value, tuple) and len(value) != len(self.widths):
                raise ValueError(
                    f"{name}: expected one for each of the {len(self.widths)} stages, got "
                    f"{len(value)}: {value}"
                )
        if isinstance(attention, tuple) and not isinstance(options, tuple) and options:
            raise ValueError(
                "attention_options: expected a tuple with one mapping (or None) for each stage, "
                f"as attention is one, got {given}"
            )
        return {"attention": attention, "attention_options": options}

    def stages(self) -> tuple[tuple[BlockConfig, ...], ...]:
        """The blocks, stage by stage."""
        stages = []
        channels = self.stem_channels
        rows = zip(self.widths, self.depths, self.strides, strict=True)  # type: ignore[arg-type]
        for stage, (width, depth, stride) in enumerate(rows):
            attention = (
                self.attention[stage] if isinstance(self.attention, tuple) else self.attention
            )
            options = self.attention_options
            options = options[stage] if isinstance(options, tuple) else options
            blocks = []
            for position in range(depth):
                blocks.append(
                    BlockConfig(
                        channels,  # type: ignore[arg-type]
                        width,
                        self.kernel_size,
                        stride if position == 0 else 1,
                        attention=attention,
                        attention_options=options,
                        conv_bias=self.conv_bias,
                        bn_eps=self.bn_eps,
                        bn_decay=self.bn_decay,
                    )
                )
                channels = width
            stages.append(tuple(blocks))
        return tuple(stages)


def _input_size(blocks: list[tuple[BlockConfig, Pair]]) -> Pair | None:
    """The greatest image of which every block with a map of fixed size gets that size. blocks: each
    with how many times smaller than the image its map is; odd kernels padded by half make that
    ceil(size / times)."""
    fixed = [
        (pair_of("size", block.attention_options["size"]), times)
        for block, times in blocks
        if block.has_fixed_size
    ]  # type: ignore[index]
    if not fixed:
        return None
    greatest = [min(size[axis] * times[axis] for size, times in fixed) for axis in (0, 1)]
    least = [max((size[axis] - 1) * times[axis] + 1 for size, times in fixed) for axis in (0, 1)]
    if least[0] > greatest[0] or least[1] > greatest[1]:
        wanted = ", ".join(
            f"{size[0]} x {size[1]} where maps are 1/{times[0]} x 1/{times[1]}"
            for size, times in fixed
        )
        raise ValueError(
            f"attention_options: no image gives every stage a map of its size: {wanted}; give each "
            "stage its own size, or another attention"
        )
    return greatest[0], greatest[1]


Config = BlockConfig | NetworkConfig


def own_kinds(config: Config) -> tuple[str, ...]:
    """The attention kinds in it that a user registered."""
    return tuple(
        dict.fromkeys(
            block.attention for block in config.blocks() if not ATTENTION[block.attention].built_in
        )
    )


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
    Raises ValueError for a name that does not exist.
    """
    if name not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return NetworkConfig.from_dict({**PRESETS[name], **changes})


def config_from_json(text: str, source: str = "the config") -> Config:
    """The config that `to_json` wrote. source: what to call it in an error."""
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{source}: expected JSON, got {text[:60]!r} ({error})") from None
    kinds: dict[str, type[BlockConfig] | type[NetworkConfig]] = {
        kind.model: kind for kind in (BlockConfig, NetworkConfig)
    }
    found = values.get("model") if isinstance(values, dict) else values
    if not isinstance(values, dict) or not isinstance(found, str) or found not in kinds:
        raise ValueError(
            f'{source}: expected an object whose "model" is one of {", ".join(kinds)}, got {found!r}'
        )
    model = kinds[values.pop("model")]
    try:
        return model.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
