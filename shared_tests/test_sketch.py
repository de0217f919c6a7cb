"""The original sketch of the block fails at stride 2; ours works there."""

import pytest


def sketch(torch, stride):
    """As it stood in the forum thread: `stride` goes to both convolutions, and so does
    `padding`.
    """
    nn = torch.nn

    class Sketch(nn.Module):
        def __init__(self, in_channels, out_channels, kernel_size=3, stride=1, padding=1):
            super().__init__()
            self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
            self.bn1 = nn.BatchNorm2d(out_channels)
            self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size, stride, padding)
            self.bn2 = nn.BatchNorm2d(out_channels)
            self.shortcut = nn.Sequential()
            if stride != 1 or in_channels != out_channels:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
                )

        def forward(self, x):
            y = torch.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            return torch.relu(y + self.shortcut(x))

    return Sketch(64, 128, 3, stride, 1)


def test_the_sketch_works_at_stride_1_only(torch):
    x = torch.randn(2, 64, 16, 12)
    assert sketch(torch, 1)(x).shape == (2, 128, 16, 12)
    with pytest.raises(
        RuntimeError, match=r"size of tensor a \(3\) must match the size of tensor b \(6\)"
    ):
        sketch(torch, 2)(x)


def test_ours_works_with_the_same_call(torch):
    from pytorch_impl import ResidualBlockWithAttention

    block = ResidualBlockWithAttention(64, 128, 3, 2, 1)
    assert block(torch.randn(2, 64, 16, 12)).shape == (2, 128, 8, 6)
    assert block.conv2.stride == (1, 1)


def test_flax_and_keras_take_the_same_call(jax, keras):
    import jax.numpy as jnp
    from flax import nnx

    import jax_impl
    import tf_impl

    assert jax_impl.ResidualBlockWithAttention(64, 128, 3, 2, 1, rngs=nnx.Rngs(0))(
        jnp.ones((2, 16, 12, 64))
    ).shape == (
        2,
        8,
        6,
        128,
    )
    assert tf_impl.ResidualBlockWithAttention(64, 128, 3, 2, 1)(
        keras.ops.ones((2, 16, 12, 64))
    ).shape == (2, 8, 6, 128)
