"""Networks whose names look like ours, or like a dialect's, but that compute something else."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from weights.errors import WeightsError


@dataclass(frozen=True)
class Refused:
    """pattern: of a name that only such a checkpoint has. reason: what it is, and what differs."""

    pattern: str
    reason: str


REFUSED = (
    Refused(
        r"(.*\.)?layer\d+\.\d+\.conv2\.0\.weight",
        "a ResNet of ZjjConan/SimAM, which has SimAM between conv2 and bn2 and not after bn2, so "
        "it computes something else than a block with attention simam",
    ),
    Refused(
        r"(.*\.)?bam\d\..*",
        "a ResNet of Jongchan/attention-module with BAM between its stages and not in its blocks",
    ),
    Refused(
        r"(.*\.)?layer\d+\.\d+\.cbam\.ChannelGate\..*",
        "a ResNet of Jongchan/attention-module with CBAM, whose spatial attention has the maximum "
        "before the mean and a batch norm, another than our cbam",
    ),
    Refused(
        r"(.*\.)?layer\d+\.\d+\.(se|ca)\.fc\.[02]\.weight",
        "a ResNet whose squeeze-and-excitation has linear layers without biases, as "
        "moskomule/senet.pytorch; our se has biases",
    ),
    Refused(
        r"stage\d+_unit\d+_.*",
        "a Keras ResNet of qubvel/classification_models, whose blocks have norm and relu before "
        "the convolutions (pre-activation, He et al. 2016); ours have them after",
    ),
    Refused(
        r"(post_bn|.*_preact_bn|.*_pre_activation_bn)/.*",
        "a ResNet v2, whose blocks have norm and relu before the convolutions (pre-activation, He "
        "et al. 2016); ours have them after",
    ),
    Refused(
        r"(.*\.)?layer\d+\.\d+\.(conv1_1x1|bn3_pre|preact).*",
        "a pre-activation ResNet (He et al. 2016); ours have norm and relu after the convolutions",
    ),
)


def refuse_known(names: Mapping[str, object], source: str) -> None:
    """Raises WeightsError for a checkpoint that is known to compute something else."""
    for refused in REFUSED:
        found = next((name for name in names if re.fullmatch(refused.pattern, name)), None)
        if found is not None:
            raise WeightsError(f"{source}: has {found}, so it is {refused.reason}", [])
