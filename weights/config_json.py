"""Configs as JSON."""

from __future__ import annotations

from typing import Any

from weights.checks import list_names, quote
from weights.config import BlockConfig, BottleneckConfig, Config, NetworkConfig
from weights.errors import ArgumentError
from weights.fields import infer_kind, parse_json
from weights.language import say


def config_from_json(text: str, source: str = "the config") -> Config:
    """The config that `to_json` wrote; without "model", the one that has these fields.

    source: what to call it in an error.
    """
    models: dict[str, Any] = {e.model: e for e in (BlockConfig, BottleneckConfig, NetworkConfig)}
    values = parse_json(text, source)
    found, named = values, isinstance(values, dict) and "model" in values
    if isinstance(values, dict):
        found = values.pop("model", None) or infer_kind(values, models)
        if found == NetworkConfig.model and not {"widths", "depths"} & set(values) and not named:
            found = None  # a network has defaults for everything, and this may be something else
        if found is None:
            fields = say("the fields {names}", names=list_names(values)) if values else "none"
            raise ArgumentError(
                say(
                    '{source}: expected "model", one of {known}, or the fields of one of '
                    "them, got {fields}",
                    source=source,
                    known=", ".join(models),
                    fields=fields,
                )
            )
    if not isinstance(values, dict) or not isinstance(found, str) or found not in models:
        raise ArgumentError(
            say(
                '{source}: expected an object whose "model" is one of {known}, got {found}',
                source=source,
                known=", ".join(models),
                found=quote(found),
            )
        )
    try:
        config: Config = models[found].from_dict(values)
        return config
    except ArgumentError as error:
        raise ArgumentError(f"{source}: {error}") from None
