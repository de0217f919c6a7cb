"""The tools of the residual attention block: compare, trace, record, train, explain, draw.

Each name is imported when it is first asked for, so that `import resattn` takes no time.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resattn.checking.crosscheck import crosscheck
    from resattn.drawing.pictures import draw
    from resattn.explaining.explanation import explain
    from resattn.reading.models import read_model
    from resattn.recognition.proof import prove_recognition
    from resattn.recognition.recognition import recognise_model
    from resattn.recording.compare import compare
    from resattn.recording.record import record
    from resattn.tracing.mapped import Mapped, map_model
    from resattn.tracing.trace import trace
    from resattn.training.trainer import Trainer, resume
    from weights.recipe import Recipe

__all__ = [
    "Mapped",
    "Recipe",
    "Trainer",
    "compare",
    "crosscheck",
    "draw",
    "explain",
    "map_model",
    "prove_recognition",
    "read_model",
    "recognise_model",
    "record",
    "resume",
    "trace",
]

_HOMES = {
    "Mapped": "resattn.tracing.mapped",
    "Recipe": "weights.recipe",
    "Trainer": "resattn.training.trainer",
    "compare": "resattn.recording.compare",
    "crosscheck": "resattn.checking.crosscheck",
    "draw": "resattn.drawing.pictures",
    "explain": "resattn.explaining.explanation",
    "map_model": "resattn.tracing.mapped",
    "prove_recognition": "resattn.recognition.proof",
    "read_model": "resattn.reading.models",
    "recognise_model": "resattn.recognition.recognition",
    "record": "resattn.recording.record",
    "resume": "resattn.training.trainer",
    "trace": "resattn.tracing.trace",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if "IPython" in sys.modules:
    from resattn.notebooks import register_in_notebook

    register_in_notebook()
