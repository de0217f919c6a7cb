"""Mistakes in how the operations of a model are connected: added, dropped, moved, exchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations

from resattn.tracing.cause import NORMS, PRODUCTS
from resattn.tracing.computation import StageSpec
from resattn.tracing.parts import RELU, UNCHANGED, BlockParts, Edit, list_blocks, redirect
from resattn.tracing.steps import Program, Steps, TracedStep, insert_after
from resattn.tracing.variant_edits import change_variant
from weights.config import Config
from weights.language import mark, say
from weights.operations import Operation


def list_edits(program: Program, config: Config) -> Iterator[Edit]:
    """All of them, by blocks, the usual ones first."""
    blocks = list_blocks(program, config)
    for place in blocks:
        yield from _move_attention(place)
        yield from _move_activations(place)
        yield from _move_stride(place)
        yield from _change_shortcut(place)
        yield from change_variant(place)
    makers = (_move_attention, _move_activations, _move_stride, _change_shortcut, change_variant)
    yield from _repeat_everywhere(program, blocks, makers)
    for name, step in program.steps.items():
        if step.operation is not None:
            yield from _add_after(program, name, step.operation)
            yield from _drop(name, step)
            yield from _fold_norm(program, name, step)


def list_stride_edits(program: Program, config: Config) -> Iterator[Edit]:
    """The stride of main paths at another place. A stride before a kernel computes what a dilated
    kernel does, so these come before other causes.
    """
    blocks = list_blocks(program, config)
    for place in blocks:
        yield from _move_stride(place)
    yield from _repeat_everywhere(program, blocks, (_move_stride,))


def _repeat_everywhere(
    program: Program,
    blocks: list[BlockParts],
    makers: tuple[Callable[[BlockParts], Iterator[Edit]], ...],
) -> Iterator[Edit]:
    """The same in all blocks that it changes."""
    if len(blocks) < 2:
        return
    ways: dict[tuple[str, str], list[Edit]] = {}
    for place in blocks:
        for make in makers:
            for edit in make(replace(place, is_named=False)):
                if edit.change(program):
                    ways.setdefault((edit.cause, edit.words), []).append(edit)
    for (cause, words), edits in ways.items():
        if len(edits) > 1:

            def change(program: Program, edits: list[Edit] = edits) -> Steps:
                found: dict[str, TracedStep] = {}
                for edit in edits:
                    found |= edit.change(program)
                return found

            yield Edit(
                cause,
                say(
                    "{words} in all {count} blocks that can have it", words=words, count=len(edits)
                ),
                change,
            )


# Attention


def _move_attention(place: BlockParts) -> Iterator[Edit]:
    if not place.gate:
        return
    main, inner, total, out = place.main, place.inner, place.total, place.out
    norm, conv, where = place.norm, place.convolutions[-1], place.words

    def drop(program: Program) -> Steps:
        return {main: TracedStep(UNCHANGED, (inner,))}

    def before_norm(program: Program) -> Steps:
        steps = redirect(program, place.gate, inner, conv)
        steps |= redirect(program, (norm,), conv, main)
        return steps | redirect(program, (total,), main, inner)

    def after_sum(program: Program) -> Steps:
        steps = redirect(program, place.gate, inner, total)
        steps |= redirect(program, (total,), main, inner)
        return steps | redirect(program, (out,), total, main)

    def after_output(program: Program) -> Steps:
        steps = redirect(program, place.gate, inner, f"{out} before")
        steps |= redirect(program, (total,), main, inner)
        last = program.steps[out]
        return {**steps, f"{out} before": last, out: TracedStep(UNCHANGED, (main,))}

    def around_norm(program: Program) -> Steps:
        return redirect(program, place.gate[:-1], inner, conv)

    def of_input(program: Program) -> Steps:
        return redirect(program, place.gate[:-1], inner, place.x)

    def on_shortcut(program: Program) -> Steps:
        steps = redirect(program, place.gate, inner, place.short)
        steps |= redirect(program, (total,), main, inner)
        return (
            steps
            | redirect(program, (total,), place.short, main)
            | {total: replace(program.steps[total], inputs=(inner, main))}
        )

    names = {"norm": norm.rpartition(".")[2], "conv": conv.rpartition(".")[2], "where": where}
    words = say("the attention is missing{where}", where=where)
    yield Edit(mark("dropped attention"), words, drop, main)
    for words, change, join in (
        (mark("the attention comes before {norm}{where}"), before_norm, total),
        (mark("the attention comes after the sum{where}"), after_sum, out),
        (mark("the attention comes after the last activation{where}"), after_output, out),
        (
            mark("the gate is computed from the output of {conv} instead of {norm}{where}"),
            around_norm,
            main,
        ),
        (mark("the gate is computed from the block's input{where}"), of_input, main),
        (
            mark("the attention is applied to the shortcut instead of the main path{where}"),
            on_shortcut,
            total,
        ),
    ):
        yield Edit(mark("moved attention"), say(words, **names), change, join)


# Activations


def _move_activations(place: BlockParts) -> Iterator[Edit]:
    inner, main, total, out, where = place.inner, place.main, place.total, place.out, place.words
    conv, norm, relu = place.path("conv1"), place.path("bn1"), place.path("relu")
    second, last, wide = place.path("conv2"), place.norm, place.path("sum wide")

    def of_main_alone(program: Program) -> Steps:
        steps = {f"{out} main": TracedStep(program.steps[out].spec, (main,))}
        steps |= redirect(program, (total,), main, f"{out} main")
        return {**steps, out: TracedStep(UNCHANGED, (total,))}

    def of_both(program: Program) -> Steps:
        spec = program.steps[out].spec
        steps = {
            f"{out} main": TracedStep(spec, (main,)),
            f"{out} short": TracedStep(spec, (place.short,)),
        }
        steps[total] = replace(program.steps[total], inputs=(f"{out} main", f"{out} short"))
        return {**steps, out: TracedStep(UNCHANGED, (total,))}

    def before_norm(program: Program) -> Steps:
        steps = redirect(program, (relu,), norm, conv) | redirect(program, (norm,), conv, relu)
        return steps | redirect(program, tuple(program.readers[relu]), relu, norm)

    def move_forward(program: Program) -> Steps:
        """The activation before the attention instead of after the sum."""
        readers = (*place.gate, total)
        steps = {wide: TracedStep(program.steps[out].spec, (inner,))}
        return {
            **steps,
            **redirect(program, readers, inner, wide),
            out: TracedStep(UNCHANGED, (total,)),
        }

    def pre_activation(program: Program) -> Steps:
        steps = {norm: replace(program.steps[norm], inputs=(place.x,))}
        steps |= redirect(program, (conv,), place.x, relu)
        steps |= {f"{relu} second": TracedStep(program.steps[relu].spec, (last,))}
        steps |= redirect(program, (last,), second, conv)
        steps |= redirect(program, (second,), relu, f"{relu} second")
        steps |= redirect(program, (*place.gate, total), inner, second)
        return {**steps, out: TracedStep(UNCHANGED, (total,))}

    cause = mark("moved activation")
    words = mark("the last activation is applied to the main path alone, before the sum{where}")
    yield Edit(cause, say(words, where=where), of_main_alone, out)
    words = mark("the last activation is applied to each path, before the sum{where}")
    yield Edit(cause, say(words, where=where), of_both, out)
    words = mark("the activation comes before bn1 instead of after it{where}")
    yield Edit(cause, say(words, where=where), before_norm, second)
    if place.gate:
        words = mark(
            "the last activation comes before the attention instead of after the sum{where}"
        )
        yield Edit(cause, say(words, where=where), move_forward, out)
    words = mark("norm and activation come before each convolution (pre-activation){where}")
    if len(place.convolutions) == 2 and inner == last and not place.pool:
        yield Edit("pre-activation", say(words, where=where), pre_activation, out)


# Shortcuts and strides


def _move_stride(place: BlockParts) -> Iterator[Edit]:
    first, second = place.path("conv1"), place.path("conv2")

    def exchange_strides(program: Program) -> Steps:
        strides = [program.steps[name].spec["stride"] for name in (first, second)]
        found = {}
        for name, step in zip((second, first), strides, strict=True):
            spec = program.steps[name].spec.with_settings(stride=step)
            found[name] = replace(program.steps[name], spec=spec)
        return found if strides[0] != strides[1] else {}

    if place.stride_place:
        words = say(
            "the stride is at {found} instead of {right}{where}",
            found=place.other_stride,
            right=place.stride_place,
            where=place.words,
        )
        yield Edit(mark("stride at another place"), words, exchange_strides, second)


def _change_shortcut(place: BlockParts) -> Iterator[Edit]:
    total, out, where = place.total, place.out, place.words
    first, second = place.path("conv1"), place.path("conv2")
    last = place.convolutions[-1]

    def skip(program: Program) -> Steps:
        return {out: TracedStep(UNCHANGED, (place.x,))}

    def from_inside(program: Program) -> Steps:
        return redirect(program, (total,), place.short, place.path("relu"))

    def no_stride(program: Program) -> Steps:
        found = {}
        for name in (first, second, place.path("shortcut.0")):
            if name in program.steps and max(program.steps[name].spec["stride"]) > 1:
                spec = program.steps[name].spec.with_settings(stride=(1, 1))
                found[name] = replace(program.steps[name], spec=spec)
        return found

    def pad_channels(program: Program, centred: bool) -> Steps:
        """The shortcut A of He et al. 2015, section 3.3."""
        if place.path("shortcut.0") not in program.steps:
            return {}
        channels = len(program.steps[last].spec.parameters["weight"])
        settings = {"stride": place.stride, "channels": channels}
        spec = StageSpec("padded channels", {}, {**settings, "centred": centred})
        name = f"{total} shortcut"
        steps = {name: TracedStep(spec, (place.x,))}
        return steps | redirect(program, (total,), place.short, name)

    for centred, words in (
        (
            False,
            say(
                "the shortcut is every second pixel with zeros after its channels{where}",
                where=where,
            ),
        ),
        (
            True,
            say(
                "the shortcut is every second pixel with zeros before and after its "
                "channels{where}",
                where=where,
            ),
        ),
    ):
        yield Edit(mark("another shortcut"), words, partial(pad_channels, centred=centred), total)
    yield Edit(mark("missing stride"), say("the stride is 1{where}", where=where), no_stride)
    yield Edit(mark("dropped block"), say("the block is skipped{where}", where=where), skip, out)
    words = say("the shortcut starts after the first activation{where}", where=where)
    yield Edit(mark("moved shortcut"), words, from_inside, total)


# One operation more or less


def _add_after(program: Program, name: str, operation: Operation) -> Iterator[Edit]:
    added = {"relu": RELU}
    readers = program.readers[name]
    if not readers:
        added |= {
            kind: StageSpec("relu", {}, {"activation": kind})
            for kind in ("softmax", "log softmax", "sigmoid")
        }
    following = {program.steps[reader].spec.kind for reader in readers}
    if operation.kind not in (*PRODUCTS, *NORMS, "product", "sum"):
        added.pop("relu")
    for kind, spec in added.items():
        if following != {kind}:
            words = say("there is a {kind} after {name}", kind=kind, name=name)
            yield Edit(mark("added activation"), words, make_insertion(name, spec), name)
            if name in program.fixed and readers:
                yield Edit(mark("added activation"), words, _make_detour(name, spec))


def make_insertion(name: str, spec: StageSpec) -> Callable[[Program], Steps]:
    """One more step, whose output is taken for that of the step `name`."""
    return lambda program: dict(insert_after(name, program.steps[name], spec))


def _make_detour(name: str, spec: StageSpec) -> Callable[[Program], Steps]:
    """One more step between a recorded one and its readers."""

    def change(program: Program) -> Steps:
        added = f"{name} and {spec['activation'] or spec.kind}"
        steps = redirect(program, tuple(program.readers[name]), name, added)
        return {added: TracedStep(spec, (name,)), **steps}

    return change


def _fold_norm(program: Program, name: str, step: TracedStep) -> Iterator[Edit]:
    """The norm in the convolution before it: instead of being applied, or in addition."""
    conv = step.inputs[0]
    if step.spec.kind != "batch_norm" or program.steps[conv].spec.kind != "convolution":
        return
    fold = make_insertion(conv, step.spec)
    words = say("{name} is folded into {conv} already", name=name, conv=conv)
    yield Edit(
        mark("folded norm"),
        say("{words}, and not applied again", words=words),
        _fold_alone(fold, name, conv),
    )
    yield Edit(mark("folded norm"), say("{words}, and applied again", words=words), fold)

    def fold_twice(program: Program) -> Steps:
        source = f"{conv} itself"
        return {
            source: program.steps[conv],
            f"{conv} before": TracedStep(step.spec, (source,)),
            conv: TracedStep(step.spec, (f"{conv} before",)),
            name: TracedStep(UNCHANGED, (conv,)),
        }

    yield Edit(
        mark("folded norm"),
        say("{name} is folded into {conv} twice", name=name, conv=conv),
        fold_twice,
    )
    bare = step.spec.with_parameters(running_mean=0 * step.spec.parameters["running_mean"])
    fold = make_insertion(conv, bare)
    words = say("{name} is folded into {conv} without its running mean", name=name, conv=conv)
    yield Edit(mark("folded norm"), words, _fold_alone(fold, name, conv))


def _fold_alone(
    fold: Callable[[Program], Steps], name: str, conv: str
) -> Callable[[Program], Steps]:
    return lambda program: {**fold(program), name: TracedStep(UNCHANGED, (conv,))}


def _drop(name: str, step: TracedStep) -> Iterator[Edit]:
    droppable = ("convolution", "max_pool", "average_pool", "blur_pool")
    if step.spec.kind in droppable and not name.endswith("shortcut.0"):
        words = say("{name} is missing", name=name)

        def change(program: Program) -> Steps:
            return {name: TracedStep(UNCHANGED, program.steps[name].inputs)}

        yield Edit(mark("dropped operation"), words, change, name)


# Parameters of other places


def list_exchanges(program: Program, config: Config, places: list[str]) -> Iterator[Edit]:
    """Parameters exchanged between two places of equal shape, one of them in `places`."""
    for first, second in _pair_places(program):
        if first in places or second in places:
            words = say(
                "the parameters of {first} and {second} are exchanged", first=first, second=second
            )
            yield Edit(mark("exchanged parameters"), words, _make_exchange({first: second}))
            held = program.steps[first].spec.parameters
            if "running_var" in held:
                words = say(
                    "the running statistics of {first} and {second} are exchanged",
                    first=first,
                    second=second,
                )
                change = _make_exchange({first: second}, ("running_mean", "running_var"))
                yield Edit(mark("exchanged parameters"), words, change)
            if "bias" in held:
                words = say(
                    "the scales of {first} and {second} are exchanged", first=first, second=second
                )
                if program.steps[first].spec.kind in ("convolution", "linear"):
                    words = say(
                        "the kernels of {first} and {second} are exchanged",
                        first=first,
                        second=second,
                    )
                change = _make_exchange({first: second}, ("weight",))
                yield Edit(mark("exchanged parameters"), words, change)
    blocks = config.named_blocks()
    for one, other in combinations(blocks, 2):
        if blocks[one] == blocks[other]:
            pairs = {
                name: f"{other}{name.removeprefix(one)}"
                for name, step in program.steps.items()
                if name.startswith(f"{one}.") and step.spec.parameters
            }
            words = say(
                "the parameters of the blocks {one} and {other} are exchanged", one=one, other=other
            )
            yield Edit(mark("exchanged parameters"), words, _make_exchange(pairs))


def list_copies(program: Program, places: list[str]) -> Iterator[Edit]:
    """Parameters of another place of equal shape, which itself has its own."""
    for first, second in _pair_places(program):
        for name, other in ((first, second), (second, first)):
            if name in places:
                words = say("{name} has the parameters of {other}", name=name, other=other)
                change = _make_exchange({name: other}, both=False)
                yield Edit(mark("parameters of another place"), words, change, name)


def _pair_places(program: Program, most: int = 12) -> Iterator[tuple[str, str]]:
    """Places of equal kind and shapes; of more than `most` places, only near ones."""
    alike: dict[object, list[str]] = {}
    for name, step in program.steps.items():
        held = step.spec.parameters
        if held:
            shapes = tuple(sorted((leaf, array.shape) for leaf, array in held.items()))
            alike.setdefault((step.spec.kind, shapes), []).append(name)
    for names in alike.values():
        for first, second in combinations(range(len(names)), 2):
            if len(names) <= most or second - first <= 3:
                yield names[first], names[second]


def _make_exchange(
    pairs: Mapping[str, str], leaves: tuple[str, ...] = (), both: bool = True
) -> Callable[[Program], Steps]:
    def change(program: Program) -> Steps:
        found = {}
        for first, second in pairs.items():
            for name, other in ((first, second), (second, first))[: 2 if both else 1]:
                theirs = program.steps[other].spec.parameters
                taken = {leaf: theirs[leaf] for leaf in leaves or theirs}
                spec = program.steps[name].spec.with_parameters(**taken)
                found[name] = replace(program.steps[name], spec=spec)
        return found

    return change
