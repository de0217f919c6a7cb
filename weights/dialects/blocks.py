"""What the dialects of PyTorch have in common."""

from weights.dialects.dialect import Traits

NORMALISED = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")


def in_layers(traits: Traits, shortcut: str = "downsample") -> dict[str, str]:
    """The modules of the blocks: layer1.0.conv1 and so on, as in torchvision."""
    first = 1 if traits.average else 0
    place = "layer{i1}.{j}."
    return {
        **{part: f"{place}{part}" for part in NORMALISED},
        "shortcut.0": f"{place}{shortcut}.{first}",
        "shortcut.1": f"{place}{shortcut}.{first + 1}",
    }


def stem(traits: Traits) -> dict[str, str]:
    """The modules of the stem, as in torchvision and timm."""
    if not traits.deep:
        return {"stem.conv": "conv1", "stem.bn": "bn1"}
    return {
        "stem.conv1": "conv1.0",
        "stem.bn1": "conv1.1",
        "stem.conv2": "conv1.3",
        "stem.bn2": "conv1.4",
        "stem.conv3": "conv1.6",
        "stem.bn3": "bn1",
    }
