"""Where weights came from: what a file, or the model card and config.json beside it, says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weights.checks import quote
from weights.errors import ArgumentError
from weights.fields import parse_json

MODEL_CARD = "README.md"  # a model card has a header of "key: value" lines between two lines of ---
HUB_CONFIG = "config.json"
_MOST = 1 << 20  # bytes that are read of each
KEPT = ("license", "hf_hub_id", "tag", "origin_url", "paper_name", "paper_ids", "url", "source")


def find_origin(path: Path) -> dict[str, Any]:
    """The origin of a file that another library wrote: its name; and architecture, repository,
    licence and pretrained_cfg from a config.json and a model card in its folder.

    Raises ArgumentError for a config.json that is no JSON.
    """
    found: dict[str, Any] = {"file": path.name}
    beside = path.parent / HUB_CONFIG
    if beside.is_file():
        values = parse_json(_start(beside), beside.name)
        if isinstance(values, Mapping) and isinstance(values.get("architecture"), str):
            found["architecture"] = values["architecture"]
            pretrained = values.get("pretrained_cfg")
            if isinstance(pretrained, Mapping):
                found["pretrained_cfg"] = dict(pretrained)
                found |= {key: pretrained[key] for key in KEPT if pretrained.get(key)}
    return found | _card(path.parent / MODEL_CARD)


def _card(path: Path) -> dict[str, str]:
    """The licence and the repository in the header of a model card."""
    if not path.is_file():
        return {}
    lines = _start(path).splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    found = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, colon, value = line.partition(":")
        if colon and key in ("license", "repository", "revision", "base_model") and value.strip():
            found[key] = value.strip()
    return found


def _start(path: Path) -> str:
    """The text of a small file, or the start of one that is not."""
    with path.open("rb") as file:
        return file.read(_MOST).decode("utf-8", errors="replace")


def origin_from_json(text: str | None, source: str) -> dict[str, Any]:
    """What `json.dumps` wrote of an origin."""
    values = {} if text is None else parse_json(text, source)
    if not isinstance(values, dict):
        raise ArgumentError(f"{source}: expected an object as its origin, got {quote(text)}")
    return values


def origin_to_json(origin: Mapping[str, Any] | None) -> str | None:
    return json.dumps(dict(origin)) if origin else None
