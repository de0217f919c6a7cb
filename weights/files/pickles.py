"""What a pickle would do, found without doing it.

PyTorch's reader with `weights_only=True` runs no code of a file, but still makes what the file asks
for: arrays of bytes of any size, tuples in tuples whose hash takes for ever.
"""

from __future__ import annotations

import pickletools
import re
from typing import BinaryIO

from weights.errors import WeightsError

_MOST_WORDS = 2_000_000  # of one pickle; a network of 1,000 layers with its optimizer needs 300,000
_DEEPEST = 8  # tuples in tuples
_ALLOWED = re.compile(
    r"collections (OrderedDict|Counter|defaultdict)"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state"
    r"|sparse_tensor|qtensor)"
    r"|torch (\w+Storage|Size|device|b?float\w*|u?int\d+|bool|complex\d+|per_\w+)"
    r"|torch\.storage (UntypedStorage|TypedStorage)"
    r"|torch\.nn\.parameter Parameter|torch\.serialization _get_layout"
    r"|torch\._tensor _rebuild_from_type_v2"
    r"|(builtins|__builtin__) (set|complex)|_codecs encode"
)
# The words that PyTorch reads: how many values each takes, and whether it leaves one.
_CONSTANTS = (
    *("NONE", "NEWFALSE", "NEWTRUE", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
    "GLOBAL",
)
_WORDS = {
    **dict.fromkeys(_CONSTANTS, (0, True)),
    **dict.fromkeys(("PROTO", "STOP"), (0, False)),
    **dict.fromkeys(("BUILD", "APPEND"), (1, False)),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), (2, True)),
    "SETITEM": (2, False),
    "BINPERSID": (1, True),
}
_TO_MARK = ("APPENDS", "SETITEMS")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}


def check_pickle(file: BinaryIO, source: str) -> None:
    """Reads one pickle. Raises WeightsError for one that names anything but plain tensors and
    numbers, is too long, or that PyTorch does not read.
    """
    depths: list[int] = []  # for each value on the stack, how many tuples are in each other
    marks: list[int] = []
    memo: dict[int, int] = {}
    try:
        for count, (word, argument, _) in enumerate(pickletools.genops(file)):
            if count > _MOST_WORDS:
                raise WeightsError(
                    f"{source}: describes its tensors in more words than a weights file needs", []
                )
            if word.name == "GLOBAL" and not _ALLOWED.fullmatch(str(argument)):
                raise refuse_object(source, str(argument).replace(" ", "."))
            _apply(word.name, argument, depths, marks, memo)
            if depths and depths[-1] > _DEEPEST:
                raise WeightsError(
                    f"{source}: has more than {_DEEPEST} tuples in each other, as no weights have",
                    [],
                )
    except (ValueError, IndexError, KeyError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"{source}: is not a whole PyTorch file of plain floating point tensors "
            f"({ascii(str(error))[1:-1][:100]})",
            [],
        ) from None


def refuse_object(source: str, name: str | None) -> WeightsError:
    """The error of a file with other Python objects. name: of one of them."""
    said = f" (this one names {ascii(name)[1:-1][:100]})" if name else ""
    return WeightsError(
        f"{source}: is not a PyTorch file of plain tensors, or not a whole one; files with other "
        "Python objects in them are refused, since reading them would run their code; save the "
        f"model's state_dict() alone{said}",
        [],
    )


def _apply(
    word: str, argument: object, depths: list[int], marks: list[int], memo: dict[int, int]
) -> None:
    """What a word of a pickle does to the stack."""
    if word in _TUPLES:
        size = _TUPLES[word]
        start = marks.pop() if size is None else len(depths) - size
        if start < 0:
            raise ValueError("its stack is too short")
        depths[start:] = [1 + max(depths[start:], default=0)]
    elif word == "MARK":
        marks.append(len(depths))
    elif word in _TO_MARK:
        del depths[marks.pop() :]
    elif word in ("BINPUT", "LONG_BINPUT"):
        memo[int(str(argument))] = depths[-1]
    elif word in ("BINGET", "LONG_BINGET"):
        depths.append(memo[int(str(argument))])
    elif word in _WORDS:
        taken, leaves = _WORDS[word]
        if taken > len(depths):
            raise ValueError("its stack is too short")
        del depths[len(depths) - taken :]
        depths += [0] if leaves else []
    else:
        raise ValueError(f"torch.save does not write the word {word}")
