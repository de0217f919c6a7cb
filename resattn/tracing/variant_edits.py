"""Mistakes in the connections of blocks with the options of published networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from resattn.tracing.computation import StageSpec
from resattn.tracing.parts import RELU, UNCHANGED, BlockParts, Edit
from resattn.tracing.steps import Program, Steps, TracedStep, insert_after
from weights.language import mark, say


def change_variant(place: BlockParts) -> Iterator[Edit]:
    """The option that a block has not, or without the one that it has."""
    yield from _relu_before_attention(place)
    if place.pool:
        yield from _change_antialias(place)
    yield from _change_average(place)


def _relu_before_attention(place: BlockParts) -> Iterator[Edit]:
    inner, norm, where = place.inner, place.norm, place.words
    if inner != norm:

        def drop(program: Program) -> Steps:
            return {inner: TracedStep(UNCHANGED, (norm,))}

        words = say(
            "there is no relu between {norm} and the attention{where}",
            norm=norm.rpartition(".")[2],
            where=where,
        )
        yield Edit(mark("relu before attention"), words, drop, inner)
        return

    def add(program: Program) -> Steps:
        return dict(insert_after(norm, program.steps[norm], RELU))

    words = say(
        "there is a relu between {norm} and the attention{where}",
        norm=norm.rpartition(".")[2],
        where=where,
    )
    if norm != place.main:  # without attention the step itself has the edit "added activation"
        yield Edit(mark("relu before attention"), words, add, norm)


def _change_antialias(place: BlockParts) -> Iterator[Edit]:
    """A stride without pooling: of the convolution before it or of the one after it."""
    pool, where = place.pool, place.words
    before = place.convolutions[-2]
    for conv in place.convolutions[-2:]:

        def stride_alone(program: Program, conv: str = conv) -> Steps:
            step = program.steps[conv]
            spec = step.spec.with_settings(stride=place.stride)
            source = program.steps[pool].inputs
            return {conv: replace(step, spec=spec), pool: TracedStep(UNCHANGED, source)}

        name = conv.rpartition(".")[2]
        words = say(
            "the stride is that of {name}, without {pool}{where}",
            name=name,
            pool=pool.rpartition(".")[2],
            where=where,
        )
        yield Edit(
            mark("another antialiasing"), words, stride_alone, pool if conv == before else conv
        )


def _change_average(place: BlockParts) -> Iterator[Edit]:
    """A shortcut without the average pooling: its convolution has the stride."""
    pool, conv = place.path("shortcut.average_pool"), place.path("shortcut.0")

    def stride_alone(program: Program) -> Steps:
        if pool not in program.steps:
            return {}
        spec: StageSpec = program.steps[conv].spec.with_settings(stride=place.stride)
        source = program.steps[pool].inputs
        return {
            pool: TracedStep(UNCHANGED, source),
            conv: replace(program.steps[conv], spec=spec),
        }

    words = say(
        "the shortcut has a strided convolution and no average pooling{where}", where=place.words
    )
    yield Edit(mark("another shortcut"), words, stride_alone, conv)
