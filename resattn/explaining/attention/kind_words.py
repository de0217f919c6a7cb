"""The type of the words about an attention kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class KindWords:
    """The sentences of an attention kind, and what decides when each of them is used.

    reasons: why each operation is there: the key of a sentence without "why.", by the operation's
        name within the module. "fc1 2" is the second use of fc1, "" the module's output, " sum" the
        output if it is a sum, "* convolution" any other convolution.
    facts: the keys of the facts for a port without "fact.". {name} is the value of an option.
    numbers: further values for the sentences of the facts: (channels, **options) -> number.
    en, zh: the sentences in English and in Chinese, by their whole keys.
    """

    reasons: Mapping[str, str] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    numbers: Mapping[str, Callable[..., int]] = field(default_factory=dict)
    en: Mapping[str, str] = field(default_factory=dict)
    zh: Mapping[str, str] = field(default_factory=dict)
