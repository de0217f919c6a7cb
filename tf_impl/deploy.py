"""Inference as fast as the backend of Keras can."""

from __future__ import annotations

from collections.abc import Callable

import keras

from tf_impl.bridge.native import compile_inference
from tf_impl.shapes import Maps, Outputs
from weights.fold import fold_model


def deploy(model: keras.layers.Layer) -> Callable[[Maps], Outputs]:
    """The fastest function that computes what a trained block or network computes in evaluation.

    Batch norms are folded into convolutions (`weights.fold`), and the rest is compiled at the first
    call for each size of image.

    model: stays as it is, and later changes of it do not change the function.
    The function takes what the model takes: x, (batch, height, width, channels), of its dtype.
    Raises ModelError for what is no model of ours, for a class derived from ours, for a model that
    was changed after it was made, and for one with parameters of several dtypes.
    """
    return compile_inference(fold_model(model))
