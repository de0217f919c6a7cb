"""The decay of running statistics, which no operation in evaluation shows."""

from __future__ import annotations

from collections.abc import Mapping

from weights.config import Config
from weights.schema import schema


def with_decay(
    config: Config, parameters: Mapping[str, str], decays: Mapping[str, float]
) -> Config:
    """The config with the decay that all batch norms of a model have, if it is one.

    parameters: own names by canonical name. decays: by the path of the model's own module.
    """
    outside = [
        each for each in schema(config) if each.role == "norm mean" and "attention" not in each.name
    ]
    modules = [parameters[each.name].rpartition(".")[0] for each in outside]
    found = {round(decays[module], 12) for module in modules if module in decays}
    if len(found) != 1 or not all(module in decays for module in modules):
        return config
    return type(config).from_dict({**config.to_dict(), "bn_decay": found.pop()})
