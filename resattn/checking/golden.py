"""Golden vectors: small problems with the oracle's answers, in `weights/golden/`, for machines with
one framework alone.

A file holds the config (metadata), the weights ("weights/NAME"), the input and the slopes of the
output ("input", "cotangent"), all in float32, and what the oracle says in float64
("QUANTITY/TENSOR"). `python -m resattn.checking.golden` makes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from resattn.checking.cases import KINDS_AND_OPTIONS, attention_block
from resattn.checking.draws import random_arrays
from resattn.checking.problem import Problem, draw_problem, graph_for
from resattn.checking.rounding import Exact
from weights import BlockConfig, NetworkConfig
from weights.config import Config
from weights.config_json import config_from_json
from weights.files.atomic import write_atomically
from weights.files.safetensors import METADATA

FOLDER = Path(__file__).parent.parent.parent / "weights" / "golden"

CASES: dict[str, tuple[Config, tuple[int, int]]] = {
    "identity": (BlockConfig(4, 4, attention_options={"hidden_channels": 2}), (5, 6)),
    "stride2-even": (
        BlockConfig(3, 5, 3, 2, attention_options={"hidden_channels": 2}, conv_bias=False),
        (8, 6),
    ),
    "stride2-odd": (BlockConfig(3, 4, 5, 2, attention_options={"reduction": 2}), (7, 9)),
    "pairs": (
        BlockConfig(5, 3, (1, 5), (2, 1), attention="none", bn_eps=1e-3, bn_decay=0.99),
        (6, 7),
    ),
    "network": (
        NetworkConfig(2, 3, (3, 4), (1, 2), stem_kernel_size=7, stem_stride=2, stem_pool=True),
        (26, 21),
    ),
    **{
        f"attention-{kind}": (attention_block(kind, variants[-1], (3, 4), 2, (7, 6)), (7, 6))
        for kind, variants in KINDS_AND_OPTIONS.items()
        if kind not in ("none", "se")
    },
}


def make(name: str) -> Problem:
    """The problem of a case, with the oracle's answers: the first of some seeds in which float32
    decides the side of every kink.
    """
    config, size = CASES[name]
    problems = (
        draw_problem(config, random_arrays(config, "float32", seed), size, 4, "float32", seed)
        for seed in range(11, 31)
    )
    return next(problem for problem in problems if not any(problem.rounding.undecided.values()))


def write_problems(name: str) -> None:
    problem = make(name)
    arrays = {
        f"{quantity}/{tensor}": array
        for quantity, tensors in problem.expected.items()
        for tensor, array in tensors.items()
    }
    arrays |= {"input": problem.x, "cotangent": problem.cotangent}
    scales = {"/".join(key): scale for key, scale in problem.scales.items()}
    # One entry: safetensors writes several in an order that changes from run to run.
    metadata = {METADATA: json.dumps({"config": problem.config.to_json(), "scales": scales})}
    content = save(
        {key: np.ascontiguousarray(array) for key, array in sorted(arrays.items())}, metadata
    )
    write_atomically(FOLDER / f"{name}.safetensors", lambda path: path.write_bytes(content))


def read_problem(name: str, dtype: str) -> Problem:
    """The problem in a file, to be computed in `dtype`."""
    with safe_open(FOLDER / f"{name}.safetensors", framework="numpy") as file:
        metadata = json.loads(file.metadata()[METADATA])
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    x, cotangent = (arrays.pop(key) for key in ("input", "cotangent"))
    expected: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        quantity, _, tensor = key.partition("/")
        expected.setdefault(quantity, {})[tensor] = array
    scales = {tuple(key.split("/")): scale for key, scale in metadata["scales"].items()}
    found = graph_for(config_from_json(metadata["config"]), x)
    exact = Exact(found, expected["weights"], x, cotangent, (expected, scales))
    return Problem(exact, dtype)


if __name__ == "__main__":
    for case in CASES:
        write_problems(case)
