"""Configs as JSON."""

from __future__ import annotations

from typing import Any

from weights.checks import list_names, quote
from weights.config import BlockConfig, BottleneckConfig, Config, NetworkConfig
from weights.errors import ArgumentError
from weights.fields import infer_kind, parse_json


def config_from_json(text: str, source: str = "the config") -> Config:
    """The config that `to_json` wrote; without "model", the one that has these fields.

    source: what to call it in an error.
    """
    models: dict[str, Any] = {e.model: e for e in (BlockConfig, BottleneckConfig, NetworkConfig)}
    values = parse_json(text, source)
    found = values
    if isinstance(values, dict):
        found = values.pop("model", None) or infer_kind(values, models)
        if found is None:
            raise ArgumentError(
                f'{source}: expected "model", one of {", ".join(models)}, or the fields of one of '
                f"them, got the fields {list_names(values)}"
            )
    if not isinstance(values, dict) or not isinstance(found, str) or found not in models:
        raise ArgumentError(
            f'{source}: expected an object whose "model" is one of {", ".join(models)}, got '
            f"{quote(found)}"
        )
    try:
        config: Config = models[found].from_dict(values)
        return config
    except ArgumentError as error:
        raise ArgumentError(f"{source}: {error}") from None
