"""Writing back: which networks of another library compute what a config of ours computes."""

from weights.attention import ATTENTION
from weights.config import NetworkConfig
from weights.dialects.derive import NOT_IN_SHAPES
from weights.dialects.dialect import Dialect
from weights.dialects.recognise import fit
from weights.errors import ArgumentError
from weights.schema import schema

# Fields that names and shapes do not say, and that change what a trained network computes.
DECISIVE = tuple(name for name in NOT_IN_SHAPES if name != "bn_decay")
# Options of attention that only decide shapes.
WIDTHS = ("reduction", "divisor", "hidden_channels", "kernel_size")


def find_architectures(dialect: Dialect, config: NetworkConfig) -> tuple[str, ...]:
    """The networks of a dialect that compute what a config computes; none for a network of one's
    own, which only a model of the same making can load.

    Raises ArgumentError where a network of theirs has the config's names and shapes but computes
    something else: it would load the weights strictly, and be wrong.
    """
    held = {each.name: each.shape for each in schema(config)}
    same, alike = [], []
    for name in dialect.architectures:
        made = fit(dialect, name, config, held)
        if made is None:
            continue
        unlike = list_differences(made, config)
        same += [] if unlike else [name]
        alike += [f"{name} has {unlike}"] if unlike else []
    if alike and not same:
        raise ArgumentError(
            f"dialect: {dialect.title} has no network that computes the same. It would load these "
            f"names and shapes strictly and be wrong: {'; '.join(alike)}"
        )
    return tuple(same)


def list_differences(theirs: NetworkConfig, ours: NetworkConfig) -> str:
    """In what two networks of the same names and shapes compute something else.

    For people: "stem_pool max, here max_ceil".
    """
    named = {name: (getattr(theirs, name), getattr(ours, name)) for name in DECISIVE}
    if theirs.norm == "batch":
        del named["norm_groups"]
    named["attention"] = (_describe_attention(theirs), _describe_attention(ours))
    return ", ".join(
        f"{name} {one}, here {two}" for name, (one, two) in named.items() if one != two
    )


# What names, shapes and `DECISIVE` leave open, and training depends on.
_TRAINED = ("bn_decay", "zero_init", "drop_path", "dropout")


def is_same_network(one: NetworkConfig, other: NetworkConfig) -> bool:
    """Whether two configs compute the same, in evaluation and in training, under the same names.

    They may describe it with other fields, as widths that are those by default.
    """
    same = all(getattr(one, name) == getattr(other, name) for name in _TRAINED)
    return same and schema(one) == schema(other) and not list_differences(one, other)


def _describe_attention(config: NetworkConfig) -> str:
    """The kinds of the stages with the options that are not in shapes."""
    words = []
    for blocks in config.stages():
        kind = blocks[0].attention
        held = {**ATTENTION[kind].options, **blocks[0].attention_options}
        options = {name: value for name, value in held.items() if name not in WIDTHS}
        words.append(f"{kind} {options or ''}".strip())
    return ", ".join(dict.fromkeys(words))
