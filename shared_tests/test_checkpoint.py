"""A trained checkpoint of another library: the same network here, in every framework.

The environment variable RESATTN_CHECKPOINTS names the folder of resnet20-12fca82f.th, from
akamaster/pytorch_resnet_cifar10; without it these tests skip.
"""

import pytest
from typer.testing import CliRunner

from resattn.checking.backends import precise
from resattn.cli.app import app
from resattn.oracle import evaluation as reference
from shared_tests.interop import compare_outputs, draw_images, run_ours
from shared_tests.libraries import make_cifar_resnet
from weights import read, read_checkpoint
from weights.dialects import DIALECTS

NAME = "resnet20-12fca82f.th"


@pytest.fixture
def author(torch, checkpoint):
    """The network as its author defines it, in float64."""
    network = make_cifar_resnet(20, projects=False).double().eval()
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"]
    network.load_state_dict({name.removeprefix("module."): each for name, each in state.items()})
    return network


def test_it_is_recognised(torch, checkpoint):
    found = read_checkpoint(checkpoint)
    assert found.config == DIALECTS["cifar-resnet"].architecture("cifar_resnet20")
    assert found.config.shortcut == "subsample"
    assert found.origin["file"] == NAME
    assert found.notes[0].startswith("took 'state_dict' out of the file; beside it, and left out:")
    assert "cifar_resnet20 of CIFAR ResNets" in found.notes[-1]


@pytest.mark.parametrize("size", [(32, 32), (31, 34)])
def test_the_logits(backend, torch, author, checkpoint, size):
    config, arrays = read(checkpoint)
    arrays = {name: array.astype("float64") for name, array in arrays.items()}
    x = draw_images(size, count=4)
    with torch.no_grad():
        logits = author(torch.from_numpy(x)).numpy()
    oracle = reference.run(config, arrays, x, training=False).output
    assert compare_outputs([oracle], [logits]) < 1e-12
    with precise((backend.framework,), "float64"):
        ours = run_ours(backend.build(config, arrays), backend.framework, x)
    assert compare_outputs(ours[:1], [logits]) < 1e-12


def test_there_and_back(torch, author, checkpoint, tmp_path):
    def run(*arguments):
        result = CliRunner().invoke(app, ["port", *map(str, arguments)])
        assert result.exit_code == 0, result.output

    run(checkpoint, tmp_path / "net.safetensors")
    run(tmp_path / "net.safetensors", tmp_path / "back.pth", "--to-dialect", "cifar-resnet")
    state = torch.load(tmp_path / "back.pth", weights_only=True)
    held = {name: each for name, each in author.state_dict().items() if "batches" not in name}
    assert set(state) == set(held)
    assert all((state[name].double() == held[name]).all() for name in held)
