"""The known causes of a difference. Each changes the specification of a stage.

A cause is tried, never guessed: it explains a difference if the changed stage computes, from the
same inputs, the output that the model gave. See `resattn.tracing.explanations`. Mistakes in how
operations are connected are in `resattn.tracing.structure`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from resattn.oracle.node import Array
from resattn.tracing import image_causes as image
from resattn.tracing import kernel_causes as kernels
from resattn.tracing import norm_causes as norms
from resattn.tracing import term_causes as terms
from resattn.tracing import window_causes as windows
from resattn.tracing.cause import NORMS, PRODUCTS, Cause
from resattn.tracing.computation import FORMULAS, Inputs, StageSpec
from weights.language import mark

ACTIVATED = ("relu", "sigmoid", "hard_sigmoid", "hard_swish")
RUNNING = ("running mean", "running variance")

CAUSES = (
    Cause(mark("SAME padding"), ("convolution",), kernels.vary_padding),
    Cause(mark("padding instead of SAME"), ("pad",), windows.vary_same),
    Cause(mark("batch norm eps"), NORMS, norms.vary_eps, norms.solve_eps),
    Cause(mark("train or evaluation mode"), ("batch_norm",), norms.switch_mode),
    Cause(
        mark("biased or unbiased variance"), ("batch_norm", "running variance"), norms.vary_variance
    ),
    Cause(mark("batch norm decay"), RUNNING, norms.vary_decay, norms.solve_decay),
    Cause(mark("gamma and beta swapped"), NORMS, norms.swap_scale_and_offset),
    Cause(mark("mean and variance swapped"), ("batch_norm",), norms.swap_statistics),
    Cause(mark("missing bias"), (*PRODUCTS, *NORMS), norms.drop_bias),
    Cause(mark("initial values"), NORMS, norms.reset_parameters),
    Cause(mark("transposed kernel"), PRODUCTS, kernels.vary_kernel_axes),
    Cause(mark("flipped kernel"), ("convolution",), kernels.flip_kernel),
    Cause(
        mark("permuted channels"), PRODUCTS, kernels.vary_channel_order, kernels.solve_channel_order
    ),
    Cause(mark("activation"), ACTIVATED, terms.vary_activation, terms.solve_slope),
    Cause(mark("channel order of the image"), ("input",), image.vary_image_order),
    Cause(
        mark("normalisation of the image"),
        ("input", "convolution"),
        image.vary_normalisation,
        image.solve_normalisation,
    ),
    Cause(mark("preparation of the image"), ("input",), image.vary_preparation, paired=False),
    Cause(mark("layout"), ("input", "linear", "convolution", "relu"), image.vary_layout),
    Cause(mark("missing term"), ("sum",), terms.drop_term),
    Cause(mark("scaled branch"), ("sum",), terms.vary_factors, terms.solve_factors, paired=False),
    Cause(mark("gate"), ("product",), terms.vary_gate, terms.solve_gate),
    Cause(mark("padding mode"), ("convolution",), kernels.vary_padding_mode),
    Cause(mark("padding on one side"), ("convolution",), kernels.vary_sides, paired=False),
    Cause(mark("dilation"), ("convolution",), kernels.vary_dilation),
    Cause(mark("smaller kernel"), ("convolution",), kernels.crop_kernel, paired=False),
    Cause(mark("pixels of a strided kernel"), ("convolution",), kernels.pool_before, paired=False),
    Cause(mark("pooling"), ("max_pool",), terms.vary_pooling),
    Cause(mark("average pooling"), ("average_pool",), windows.vary_average),
    Cause(mark("filter"), ("blur_pool",), windows.vary_blur),
    Cause(mark("another shortcut"), ("subsample",), windows.vary_subsample),
    Cause(mark("groups"), ("convolution",), windows.vary_groups, paired=False),
    Cause(mark("global pooling"), ("average", "maximum"), terms.vary_reduction),
    Cause(mark("stored variance"), ("batch_norm",), norms.vary_stored_variance),
    Cause(mark("scale of a norm"), NORMS, norms.vary_gamma, paired=False),
    Cause(mark("kind of norm"), NORMS, norms.vary_norm, paired=False),
    Cause(mark("reduced precision"), PRODUCTS, kernels.vary_product_format),
    Cause(mark("rounded parameters"), (*PRODUCTS, *NORMS), kernels.vary_stored_format),
    Cause(
        mark("rounded output"),
        tuple(FORMULAS),
        kernels.vary_output_format,
        kernels.solve_output_format,
    ),
)


def apply_causes(
    spec: StageSpec, names: Collection[str] | None = None
) -> Iterator[tuple[Cause, str, StageSpec]]:
    """Every usual way in which each cause, or each of those names, can change a stage."""
    for cause in CAUSES:
        if spec.kind in cause.kinds and (names is None or cause.name in names):
            yield from ((cause, words, changed) for words, changed in cause.vary(spec))


def solve_causes(
    spec: StageSpec, inputs: Inputs, actual: Array
) -> Iterator[tuple[Cause, str, StageSpec]]:
    """Ways with numbers that are computed from the inputs and the model's output."""
    for cause in CAUSES:
        if spec.kind in cause.kinds:
            found = cause.solve(spec, inputs, actual)
            yield from ((cause, words, changed) for words, changed in found)
