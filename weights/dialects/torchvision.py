"""torchvision's ResNets of basic blocks."""

from weights.dialects.names import BLOCK, STEM, Naming

NAMING = Naming(
    source="torchvision.models.resnet, BasicBlock",
    names={
        **STEM,
        **BLOCK,
        "stages.{i}.{j}.shortcut.0": "layer{i1}.{j}.downsample.0",
        "stages.{i}.{j}.shortcut.1": "layer{i1}.{j}.downsample.1",
        "classifier": "fc",
    },
)
