"""Puts a recognition into words. What is said are the facts of `recognition` and `deviations`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resattn.recognition import words_en, words_zh
from resattn.recognition.deviations import Deviation, Facts
from resattn.recognition.drawings import draw_model
from weights.config import BlockConfig, Config, NetworkConfig
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS

if TYPE_CHECKING:
    from resattn.recognition.recognition import Recognition
    from weights import Difference

LANGUAGES: dict[str, Mapping[str, str]] = {"en": words_en.WORDS, "zh": words_zh.WORDS}
MOST_NAMES = 8  # in a sentence; of more, the first ones and a count are given


def describe_recognition(found: Recognition, language: str) -> list[str]:
    """The lines for one language. Raises ArgumentError for an unknown one."""
    if language not in LANGUAGES:
        raise ArgumentError(f"language: expected one of {', '.join(LANGUAGES)}, got {language!r}")
    return list(_Wording(LANGUAGES[language]).lines(found))


def describe_proof(proof: Difference, shape: Sequence[int], language: str) -> str:
    """What `prove_recognition` found for images of a shape. Raises ArgumentError for an unknown
    language.
    """
    if language not in LANGUAGES:
        raise ArgumentError(f"language: expected one of {', '.join(LANGUAGES)}, got {language!r}")
    key = "proven" if proof.ok else "disproven"
    size, distance = " x ".join(map(str, shape)), f"{proof.relative:.1e}"
    return _Wording(LANGUAGES[language]).say(key, shape=size, distance=distance)


def describe_operations(operations: Sequence[Facts], language: str = "en") -> str:
    """Some operations of `describe_node`, as a list in one line."""
    words = _Wording(LANGUAGES[language])
    return words.join([words.operation(each) for each in operations])


class _Wording:
    def __init__(self, words: Mapping[str, str]):
        self.words = words

    def say(self, key: str, **values: Any) -> str:
        return self.words[key].format(**values).replace("） ", "）")  # a Chinese bracket is wide

    def join(self, names: Sequence[str], key: str = "list") -> str:
        if len(names) > MOST_NAMES:
            first = self.words[key].join(names[: MOST_NAMES - 1])
            return self.say("and_more", names=first, count=len(names) - MOST_NAMES + 1)
        return self.words[key].join(names)

    # The whole

    def lines(self, found: Recognition) -> Iterator[str]:
        yield self.headline(found)
        if found.config is not None:
            yield self.signs(found)
            if found.unused:
                yield self.say("sign.unused", names=self.join(found.unused))
        elif found.nearest is not None and found.differences:
            count = len(self.groups(found.differences))
            key = "nearest.1" if count == 1 else "nearest"
            yield self.say(key, config=self.config(found.nearest), count=count)
            yield from (f"- {each}" for each in self.differences(found.differences))
        for key, ops in (("before", found.before), ("after", found.after)):
            if ops and found.nearest is not None:
                yield self.say(key, ops=self.join([self.operation(each) for each in ops]))
        if found.alternatives:
            parts = bool(found.differences) or found.nearest is None
            yield self.words["choose.parts" if parts else "choose"]
            yield from self.alternatives(found.alternatives, parts)

    def headline(self, found: Recognition) -> str:
        reading = found.reading
        values = {"title": reading.title, "framework": FRAMEWORKS[reading.framework].label}
        config = found.config
        if config is None and found.alternatives and not found.differences:
            config = found.nearest
        if config is None:
            key = "none" if found.nearest else "several" if found.alternatives else "no_sum"
            return self.say(key, **values)
        whole = found.is_whole and not found.module
        key = "whole" if whole else "part" if found.module else "part.unnamed"
        return self.say(key, config=self.config(config), module=found.module, **values)

    def signs(self, found: Recognition) -> str:
        assert found.config is not None
        nodes = draw_model(found.config, found.size).nodes.nodes
        sums = len(found.config.blocks())
        signs = [
            self.say("sign.operations", count=len(nodes) - 1),
            self.say("sign.sums.1" if sums == 1 else "sign.sums", count=sums),
            self.say("sign.parameters", count=len(found.parameters)),
            self.say("sign.size", size=_join_sizes(found.size)),
        ]
        return self.say("signs", signs=self.words["separator"].join(signs))

    def alternatives(self, several: Sequence[Recognition], parts: bool) -> Iterator[str]:
        moved = {
            name
            for each in several
            for name, own in each.parameters.items()
            if own != several[0].parameters.get(name)
        }
        for number, each in enumerate(several, 1):
            assert each.nearest is not None
            where = self.say("choose.where", module=each.module) if each.module else ""
            if not parts:
                named = [(name, own) for name, own in each.parameters.items() if name in moved]
                pairs = [self.say("pair", name=name, own=own) for name, own in named]
                where = self.say("choose.names", pairs=self.join(pairs))
            config = self.config(each.nearest)
            yield self.say("choose.number", number=number, config=config, where=where)

    # A config

    def config(self, config: Config) -> str:
        parts = [self.network(config)] if isinstance(config, NetworkConfig) else []
        if isinstance(config, BlockConfig):
            parts = [self.block(config)]
        kinds = dict.fromkeys(
            (block.attention, block.attention_options) for block in config.blocks()
        )
        parts += [self.attention(kind, options) for kind, options in kinds]
        shown = config.to_dict()
        changed = [name for name, is_set in config.changed_options().items() if is_set]
        names = [name for name in changed if name not in _SAID]
        parts += [self.say("options", name=name, value=shown[name]) for name in names]
        return self.words["comma"].join(parts)

    def network(self, config: NetworkConfig) -> str:
        forms = set(config.forms)
        form = self.words[f"form.{forms.pop() if len(forms) == 1 else 'mixed'}"]
        classes = self.say("classes" if config.classes else "classes.0", count=config.classes)
        widths = self.join([str(width) for width in config.widths])
        count = sum(config.depths)
        return self.say("network", count=count, form=form, widths=widths, classes=classes)

    def block(self, config: BlockConfig) -> str:
        values = {
            "in": config.in_channels,
            "out": config.out_channels,
            "kernel": _join_sizes(config.kernel_size),
            "stride": _short_pair(config.stride),
            "hidden": getattr(config, "hidden_channels", 0),
        }
        form = "bottleneck" if hasattr(config, "hidden_channels") else "basic"
        return self.say(f"block.{form}", **values)

    def attention(self, kind: str, options: Mapping[str, Any]) -> str:
        if kind == "none":
            return self.words["attention.none"]
        named = [self.say("options", name=name, value=value) for name, value in options.items()]
        return self.say("attention", kind=f"{kind} ({', '.join(named)})" if named else kind)

    # Differences

    def groups(self, differences: Sequence[Deviation]) -> list[list[Deviation]]:
        """Differences that are the same at several places of a network together."""
        found: dict[Any, list[Deviation]] = {}
        for each in differences:
            found.setdefault((each.key, _place_in_block(each.stage), each.values), []).append(each)
        return list(found.values())

    def differences(self, differences: Sequence[Deviation]) -> Iterator[str]:
        for group in self.groups(differences):
            text = self.difference(group[0])
            more = len(group) - 1
            yield text + (self.say("times.1" if more == 1 else "times", count=more) if more else "")

    def difference(self, each: Deviation) -> str:
        values = {name: self.value(each.key, name, value) for name, value in each.values}
        place = self.place(each)
        if each.key == "fails":
            main, shortcut = each["sizes"]
            sizes = {"main": _join_sizes(main), "shortcut": _join_sizes(shortcut)}
            return self.say("fails", place=place, **sizes)
        key = "bias.not" if each.key == "bias" and not each["value"] else each.key
        key = _KEYS.get(key, key)
        text = self.say(key, place=place, **values)
        if dict(each.values).get("fails"):
            text += self.say("fails.because", **values)
        return text

    def place(self, each: Deviation) -> str:
        own, stage = each.origin.module, each.stage or each.origin.module
        alone = own == stage or each.key in _EXTRA
        key = "place" if not own else "place.same" if alone else "place.module"
        text = self.say(key, module=own, stage=stage)
        if each.origin.file:
            file = Path(each.origin.file).name
            text += self.say("line", file=file, line=each.origin.line)
        return text

    def value(self, key: str, name: str, value: Any) -> str:
        if name == "ops":
            return self.join([self.operation(each) for each in value])
        if name == "op" or (key == "another" and name == "ours"):
            return self.operation(value)
        if name == "role":
            return self.words[f"role.{value}"]
        if key == "axes":
            return self.axes(value or ())
        if value is None:
            return self.words["fill.none"]
        if key == "kernel":
            return _join_sizes(value)
        if name == "functions":
            return self.join(value)
        return _short_pair(value) if isinstance(value, tuple) else str(value)

    def axes(self, axes: Sequence[str]) -> str:
        names = [name for axis in axes for name in axis.split("/")]
        order = ("channels", "rows", "cols")
        known = [self.words[f"axis.{name}"] for name in order if name in names]
        rest = [name for name in names if name not in order]
        return self.words["axes.and"].join([*known, *rest])

    def operation(self, values: Facts) -> str:
        """An operation of `describe_node`."""
        facts = dict(values)
        key = f"op.{facts['op']}"
        if facts.get("groups", 1) > 1:
            key += ".groups"
        if key not in self.words:
            return str(facts["op"])
        if "kernel" in facts:
            facts["kernel"] = _join_sizes(facts["kernel"])
        if "axes" in facts:
            facts["axes"] = self.axes(facts["axes"])
        if "part" in facts:
            facts["part"] += 1
        for name in ("a", "b"):
            if name in facts:
                facts[name] = f"{facts[name]:g}"
        return self.say(key, **facts)


_SAID = ("form", "hidden_channels", "hidden_widths")  # by the rest of a config's words
_KEYS = {
    "attention": "attention.unlike",
    "extra_attention": "attention.extra",
    "moved_attention": "attention.moved",
}
_EXTRA = (
    "extra",
    "extra_attention",
    "moved_attention",
    "preactivation",
)  # nothing of ours is there


def _place_in_block(stage: str) -> str:
    """A stage without the number of its block."""
    parts = stage.split(".")
    return ".".join(parts[3:]) if parts[0] == "stages" else stage


def _join_sizes(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _short_pair(pair: Sequence[int]) -> str:
    """One number if both are the same."""
    return str(pair[0]) if len(set(pair)) == 1 else f"({', '.join(map(str, pair))})"
