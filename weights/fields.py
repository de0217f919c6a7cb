"""Fields of frozen dataclasses that are checked and converted when they are set, and their JSON."""

import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import partial
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from weights.checks import DEEPEST, list_names, quote
from weights.errors import ArgumentError
from weights.language import say

Given = TypeVar("Given")
Stored = TypeVar("Stored")


class Checked(Generic[Given, Stored]):
    """A field of a dataclass that takes a `Given` and holds a `Stored`.

    convert: (name of the field, value) -> what is held; it raises ArgumentError. default: what is
    taken where nothing is given; without one the field must be given. mentioned: whether the plain
    values hold it where it has its default.
    """

    def __init__(
        self,
        convert: Callable[[str, Any], Stored],
        default: Any = MISSING,
        *,
        mentioned: bool = True,
    ):
        self.convert = convert
        self.default = default
        self.mentioned = mentioned

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Stored: ...

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is not None:
            return instance.__dict__[self.name]
        if self.default is MISSING:  # dataclasses takes that for a field without a default
            raise AttributeError(self.name)
        return self.default

    def __set__(self, instance: object, value: Given) -> None:
        instance.__dict__[self.name] = self.convert(self.name, value)


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


class Plain:
    """The base of frozen dataclasses that JSON can hold."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    synonyms: ClassVar[dict[str, str]] = {}  # names of other libraries that `from_dict` takes

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """The constructor's arguments as plain values (pairs as lists, options as a dict).

        Options that are not mentioned at their default are left out.
        """
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        changed = self.changed_options()
        return {name: _plain(value) for name, value in values.items() if changed.get(name, True)}

    def changed_options(self) -> dict[str, bool]:
        """For each option that is not mentioned at its default: whether its value is another."""
        held = {item.name: inspect.getattr_static(type(self), item.name) for item in fields(self)}
        return {
            name: bool(getattr(self, name) != field.convert(name, field.default))
            for name, field in held.items()
            if isinstance(field, Checked) and not field.mentioned
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The object of which `to_dict` gave the values.

        Raises ArgumentError for fields that do not exist or are missing, and what the constructor
        raises.
        """
        twice = [name for name, field in cls.synonyms.items() if {name, field} <= set(values)]
        if twice:
            raise ArgumentError(
                say(
                    "{model}: {name} is another name of {other}; expected one of them",
                    model=cls.__name__,
                    name=twice[0],
                    other=cls.synonyms[twice[0]],
                )
            )
        values = {cls.synonyms.get(name, name): value for name, value in values.items()}
        known = {item.name: item for item in fields(cls)}
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ArgumentError(
                say(
                    "{model}: no field {names}; its fields are {known}",
                    model=cls.__name__,
                    names=list_names(unknown),
                    known=", ".join(known),
                )
            )
        needed = [name for name, item in known.items() if item.default is MISSING]
        missing = [name for name in needed if name not in values]
        if missing:
            raise ArgumentError(
                say("{model}: missing {names}", model=cls.__name__, names=", ".join(missing))
            )
        return cls(**values)


def infer_kind(values: Mapping[str, Any], kinds: Mapping[str, type[Plain]]) -> str | None:
    """The name of the first class that has all of these fields and needs no other."""
    for name, kind in kinds.items():
        known = {item.name: item.default is MISSING for item in fields(kind)}
        given = {kind.synonyms.get(each, each) for each in values}
        if given <= set(known) and {each for each, needed in known.items() if needed} <= given:
            return name
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, Plain):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Options):
        return {name: _plain(item) for name, item in value.items()}
    return value


MOST_TEXT = 2**20  # characters of JSON; a network of a thousand blocks takes a hundredth of that


def parse_json(text: str, source: str, most: int = MOST_TEXT) -> Any:
    """What a JSON text holds. source: what to call it in an error. most: characters it may have.

    Raises ArgumentError for text that is no JSON, is longer, has an object with a key twice,
    an integer of thousands of digits, or more than `DEEPEST` lists and objects within each other.
    """
    if len(text) > most:
        raise ArgumentError(
            say(
                "{name}: expected at most {most:,} characters of JSON, got {count:,}",
                name=source,
                most=most,
                count=len(text),
            )
        )
    try:
        values = json.loads(text, object_pairs_hook=partial(_object, source))
    except RecursionError:
        values = None
        depth = DEEPEST + 1
    except ArgumentError:
        raise
    except ValueError as error:  # json's own, and int's for more than 4300 digits
        raise ArgumentError(
            say(
                "{name}: expected JSON, got {text} ({reason})",
                name=source,
                text=quote(text, 60),
                reason=error,
            )
        ) from None
    else:
        depth = _depth(values)
    if depth > DEEPEST:
        raise ArgumentError(
            say(
                "{name}: expected JSON with at most {depth} lists and objects within "
                "each other, got {text}",
                name=source,
                depth=DEEPEST,
                text=quote(text, 60),
            )
        )
    return values


def _object(source: str, items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        names = Counter(name for name, _ in items)
        twice = [name for name, times in names.items() if times > 1]
        raise ArgumentError(
            say(
                "{name}: has {names} more than once in one object",
                name=source,
                names=list_names(twice),
            )
        )
    return found


def _depth(value: Any) -> int:
    """How many lists and objects are within each other, counted up to one more than `DEEPEST`."""
    level = [value]
    for depth in range(DEEPEST + 1):
        level = [each for each in level if isinstance(each, (list, dict))]
        if not level:
            return depth
        level = [item for each in level
                 for item in (each.values() if isinstance(each, dict) else each)]  # fmt: skip
    return DEEPEST + 1
