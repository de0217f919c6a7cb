"""Writing back: which networks of another library compute what a config of ours computes."""

from weights.config import NetworkConfig
from weights.dialects.dialect import Dialect
from weights.dialects.recognise import fit
from weights.errors import ArgumentError
from weights.schema import schema

# Fields that do not change what a trained network computes from an image of a fixed size, or that
# are arguments of theirs whatever the architecture.
APART = ("bn_decay", "zero_init", "drop_path", "dropout", "output_stride", "preprocessing")


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
    """The fields in which two configs compute something else: "stem_pool max, here max_ceil"."""
    return ", ".join(
        f"{name} {getattr(theirs, name)}, here {getattr(ours, name)}"
        for name in theirs.__dataclass_fields__
        if name not in APART and getattr(theirs, name) != getattr(ours, name)
    )
