"""Every sentence about live models is said of some model, in both languages."""

from __future__ import annotations

from typing import Any

import pytest

import resattn
from resattn.explaining.executed import words
from resattn.explaining.words import WORDS
from resattn.reading.models import read_model
from shared_tests.cases import ATTENTION_VARIANTS
from shared_tests.handmade_cases import make_net, make_sketch
from weights.live import adapter


def make_model(torch: Any, forward: Any, **layers: Any) -> Any:
    """A module with these layers that computes forward(self, x)."""

    class Written(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, layer in layers.items():
                setattr(self, name, layer)

        def forward(self, x: Any) -> Any:
            return forward(self, x)

    return Written()


def written_models(torch: Any) -> dict[str, Any]:
    nn = torch.nn

    def conv(given: int = 4, made: int = 4, kernel: int = 3, **options: Any) -> Any:
        return nn.Conv2d(given, made, kernel, padding=kernel // 2, **options)

    def fails(join: Any) -> Any:
        return make_model(torch, lambda m, x: join(m.a(x), m.b(x)), a=conv(), b=conv(stride=2))

    def branched(m: Any, x: Any) -> Any:
        y = m.first(x)
        return torch.relu(m.b(y) + m.c(y) + x)

    def long() -> Any:
        return make_model(
            torch,
            lambda m, x: m.c(torch.relu(m.b(torch.relu(m.a(x))))) + m.s(x),
            a=conv(), b=conv(), c=conv(), s=nn.Sequential(conv(), conv()),
        )  # fmt: skip

    def standardize(m: Any, x: Any) -> Any:
        y = m.a(x)
        centred = y - y.mean(1, keepdim=True)
        return centred / torch.sqrt((centred**2).mean(1, keepdim=True) + 1e-6)

    return {
        "product": fails(lambda x, y: x * y),
        "difference": fails(lambda x, y: x - y),
        "quotient": fails(lambda x, y: x / y),
        "concatenate": fails(lambda x, y: torch.cat([x, y], 1)),
        "matrix_product": fails(lambda x, y: x @ y),
        "unknown": fails(lambda x, y: torch.where(x > 0, x, y)),
        "convolution": nn.Sequential(conv(4, 6), conv(4, 4)),
        "branches": make_model(
            torch, branched, first=conv(), b=conv(kernel=1), c=conv(kernel=5), unused=conv()
        ),
        "long shortcuts": nn.Sequential(long(), long()),
        "channels": make_model(torch, lambda m, x: m.a(x) + x, a=conv(4, 6)),
        "between": make_model(
            torch,
            lambda m, x: m.last(torch.relu(m.a(torch.relu(m.b(x))) + x)),
            a=conv(), b=conv(), last=conv(),
        ),
        "scale": make_model(
            torch, lambda m, x: m.a(x) * m.gain, a=conv(), gain=nn.Parameter(torch.ones(4, 1, 1))
        ),
        "standardize": make_model(torch, standardize, a=conv()),
        "total": make_model(torch, lambda m, x: m.a(x).sum((2, 3)), a=conv()),
        "part": make_model(
            torch, lambda m, x: torch.cat(torch.chunk(m.a(x), 4, 1)[::-1], 1), a=conv(4, 8)
        ),
        "average": nn.Sequential(conv(), nn.AvgPool2d(3, 2, 1)),
        "cumsum": make_model(torch, lambda m, x: torch.cumsum(torch.tanh(m.a(x)), 2), a=conv()),
    }  # fmt: skip


TRIPLET = next(config for config, _ in ATTENTION_VARIANTS if config.attention == "triplet")
MODELS = {
    "sketch": (lambda torch: make_sketch("torch", 2), (16, 12)),
    "net": (lambda torch: make_net("torch"), (32, 32)),
    "triplet": (lambda torch: adapter("torch").create(TRIPLET, dtype="float32"), (9, 8)),
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_sentence_is_said(torch, monkeypatch, language):
    said = set()

    class Listening(dict):
        def __getitem__(self, key):
            said.add(key)
            return super().__getitem__(key)

        def get(self, key, default=None):
            said.add(key)
            return super().get(key, default)

    monkeypatch.setitem(WORDS, language, Listening(WORDS[language]))
    models = {name: (model, (8, 6)) for name, model in written_models(torch).items()}
    models |= {name: (make(torch), size) for name, (make, size) in MODELS.items()}
    for model, size in models.values():
        explained = resattn.explain(read_model(model, size))
        assert explained.lines(100, language)
        assert explained.to_dict(language)["steps"]
    assert set(words.WORDS[language]) - said == set()


@pytest.mark.parametrize(
    "operation",
    ["product", "difference", "quotient", "concatenate", "matrix_product", "convolution"],
)
def test_operations_that_fail(torch, operation):
    explained = resattn.explain(read_model(written_models(torch)[operation], (8, 6)))
    assert explained.graph.failure.operation == operation
    shown = "\n".join(line for line, _ in explained.lines(200))
    assert f"Here {words.WORDS['en'][f'failed.{operation}']} of values of the shapes " in shown
