"""`python -m resattn`."""

import sys
from pathlib import Path

# Python puts the current folder first. There, a `weights.py` of the user's would be taken for ours.
if sys.path and Path(sys.path[0]).resolve() == Path.cwd() != Path(__file__).resolve().parents[1]:
    del sys.path[0]

from resattn.cli.app import main

main()
