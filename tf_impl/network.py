"""A residual network built of blocks with attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tf_impl.inputs import check_images
from tf_impl.layers import Linear, Sequential, global_average
from tf_impl.shapes import Logits, Maps
from tf_impl.stem import make_stem
from tf_impl.variant import build_block
from weights.config import NetworkConfig


@keras.saving.register_keras_serializable("resattn")
class ResidualAttentionNetwork(keras.Model):
    """Residual network of blocks with attention: stem, stages, global average, classifier.

    He et al. 2015, table 1 (ImageNet) and section 4.2 (CIFAR).

    x: (batch, height, width, in_channels) -> (batch, classes), logits.
    dtype: a dtype or a Keras dtype policy, Keras' own by default.
    name, keras_options: as for every Keras model.
    Raises ValueError for inputs of another rank or number of channels, and for float64
        where Keras runs on JAX and JAX is not set up for it.
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.config = config
        self.in_channels = config.in_channels
        self.stem = make_stem(config, **options, name="stem")
        # Each is named by its position, by which a reader of weights files finds it.
        self.stages = Sequential(
            *(
                Sequential(
                    *(
                        build_block(block, **options, name=str(position))
                        for position, block in enumerate(blocks)
                    ),
                    **options,
                    name=str(stage),
                )
                for stage, blocks in enumerate(config.stages())
            ),
            **options,
            name="stages",
        )
        # A Sequential without layers returns its input.
        self.dropout = (
            keras.layers.Dropout(config.dropout, **options, name="dropout")
            if config.dropout
            else Sequential(**options, name="dropout")
        )
        self.classifier: keras.layers.Layer = (
            Linear(config.widths[-1], config.classes, **options, name="classifier")
            if config.classes
            else Sequential(**options, name="classifier")
        )
        self.built = True  # every weight exists

    @classmethod
    def from_config(
        cls, config: NetworkConfig | dict[str, Any], **options: Any
    ) -> ResidualAttentionNetwork:
        """The network of a config, a NetworkConfig or what Keras saved. options: dtype and name."""
        if isinstance(config, NetworkConfig):
            return cls(config, **options)
        return super().from_config({**config, "config": NetworkConfig.from_dict(config["config"])})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}

    def call(self, x: Maps, training: bool | None = None) -> Logits:
        check_images(x, self.in_channels)
        y = self.stem(x, training=training)
        y = self.stages(y, training=training)
        y = global_average(y)
        y = self.dropout(y, training=training)
        return self.classifier(ops.squeeze(y, axis=(1, 2)))

    def features(self, x: Maps, training: bool | None = None) -> list[Maps]:
        """The outputs of the stem and of every stage, for detectors and segmenters.

        x: (batch, height, width, in_channels) -> maps of (batch, rows, cols, channels).
        """
        check_images(x, self.in_channels)
        found = [self.stem(x, training=training)]
        for stage in self.stages.layers:
            found.append(stage(found[-1], training=training))
        return found
