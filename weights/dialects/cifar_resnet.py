"""ResNets for CIFAR-10 with shortcuts of option A, as akamaster trained them."""

from weights.dialects.names import BLOCK, STEM, Naming

NAMING = Naming(
    source="akamaster/pytorch_resnet_cifar10, saved from DataParallel",
    names={**STEM, **BLOCK, "classifier": "linear"},
    prefix="module.",
    shortcut="subsample",
)
