"""The sketch of the forum thread in Keras 3."""

import keras
from keras import layers, ops


class AttentionModule(layers.Layer):
    def __init__(self, channels, reduction=16):
        super().__init__()
        self.squeeze = layers.Dense(channels // reduction, activation="relu")
        self.excite = layers.Dense(channels, activation="sigmoid")

    def call(self, x):
        weights = self.excite(self.squeeze(ops.mean(x, axis=(1, 2))))
        return x * weights[:, None, None, :]


class ResidualBlock(layers.Layer):
    def __init__(self, in_channels, out_channels, stride=1, second=None):
        """second: the stride of the second convolution; the thread's sketch passes stride on."""
        super().__init__()
        second = stride if second is None else second
        self.pad = layers.ZeroPadding2D(1)
        self.conv_a = layers.Conv2D(out_channels, 3, stride)
        self.norm_a = layers.BatchNormalization(epsilon=1e-5)
        self.conv_b = layers.Conv2D(out_channels, 3, second)
        self.norm_b = layers.BatchNormalization(epsilon=1e-5)
        self.gate = AttentionModule(out_channels)
        self.skip = []
        if stride != 1 or in_channels != out_channels:
            self.skip = [
                layers.Conv2D(out_channels, 1, stride),
                layers.BatchNormalization(epsilon=1e-5),
            ]

    def call(self, x):
        y = ops.relu(self.norm_a(self.conv_a(self.pad(x))))
        y = self.gate(self.norm_b(self.conv_b(self.pad(y))))
        for layer in self.skip:
            x = layer(x)
        return ops.relu(y + x)


def make_net(classes=10):
    """Two of the blocks that work, between a stem and a classifier, for 32 x 32 images."""
    image = keras.Input((None, None, 3))
    y = layers.Conv2D(32, 3, padding="same")(image)
    y = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5)(y))
    y = ResidualBlock(32, 32)(y)
    y = ResidualBlock(32, 64, 2, 1)(y)
    return keras.Model(image, layers.Dense(classes)(layers.GlobalAveragePooling2D()(y)))
