"""`python -m resattn.documents.tour`: executes docs/tour.ipynb and stores its outputs.

Edit the notebook in any editor of notebooks; this makes its outputs again. They are text, SVG, HTML
and PNG, without times and paths.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from weights.errors import MissingFramework

NOTEBOOK = Path("docs/tour.ipynb")
KERNEL = "tour"  # the name of the kernel that is made for it
QUIET = "--IPKernelApp.log_level=ERROR"
# One thread each: several wait for each other in loops, which takes several times as much CPU.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
CELL_SECONDS = 300  # the most that one cell may take
TO_EXECUTE = ("nbformat", "nbclient", "ipykernel")


def check_notebook() -> None:
    """Raises MissingFramework if a notebook cannot be executed here."""
    missing = [name for name in TO_EXECUTE if find_spec(name) is None]
    if missing:
        raise MissingFramework(
            f"{', '.join(missing)} not found; install what executes notebooks with: "
            'pip install "resattn[dev]"',
            name=missing[0],
        )


def execute_notebook(path: Path) -> Any:
    """A notebook with the outputs of this interpreter. The file is not changed.

    Its cells start in its folder. Raises MissingFramework, and `CellExecutionError` of nbclient for
    a cell that fails.
    """
    check_notebook()
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    notebook: Any = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        specs = KernelSpecManager(kernel_dirs=[_write_kernel(Path(folder))])
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(kernel_name=KERNEL, kernel_spec_manager=specs),
            timeout=CELL_SECONDS,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(path.parent)}},
        )
        client.execute(cleanup_kc=True)
    _remove_details(notebook)
    return notebook


def _write_kernel(folder: Path) -> str:
    """Describes this interpreter as a kernel, apart from the user's own kernels and settings."""
    kernel = folder / "kernels" / KERNEL
    kernel.mkdir(parents=True)
    described = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", QUIET],
        "display_name": KERNEL,
        "language": "python",
        "env": {"IPYTHONDIR": str(folder / "ipython"), **ENVIRONMENT},
    }
    (kernel / "kernel.json").write_text(json.dumps(described), encoding="utf-8")
    return str(kernel.parent)


def _remove_details(notebook: Any) -> None:
    """Removes what differs between machines and says nothing to a reader."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}


def main() -> None:
    import nbformat

    notebook = execute_notebook(NOTEBOOK)
    temporary = NOTEBOOK.with_name(f".{NOTEBOOK.name}")
    nbformat.write(notebook, temporary)
    os.replace(temporary, NOTEBOOK)


if __name__ == "__main__":
    main()
