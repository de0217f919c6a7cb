"""`python -m resattn`, and the command `resattn`."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Imports the command line when Ctrl-C is already handled, and runs it."""
    from resattn.cli.interrupts import end_on_interrupt

    with end_on_interrupt():
        from resattn.cli.app import main

        main()


def leave_current_folder() -> None:
    """Python puts the current folder first. A `weights.py` there would be taken for ours."""
    here = Path(__file__).resolve().parents[1]
    if sys.path and Path(sys.path[0]).resolve() == Path.cwd() != here:
        del sys.path[0]


if __name__ == "__main__":
    leave_current_folder()
    main()
