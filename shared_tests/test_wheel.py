"""A wheel built from the tree works outside of the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files that git knows: what is lying about does not get in."""
    folder = tmp_path_factory.mktemp("wheel")
    names = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            target = folder / "tree" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-build-isolation", "-w", folder, folder / "tree")
    (made,) = folder.glob("*.whl")
    return made


def test_what_is_in_it(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.split("/")[0] for name in names if name.endswith(".py")}
    assert packages == {"pytorch_impl", "jax_impl", "tf_impl", "weights", "resattn"}
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    for path in (
        "reporting/page.css",
        "reporting/templates/base.html",
        "drawing/fonts/LICENSE.txt",
    ):
        assert f"resattn/{path}" in names
    assert "resattn/documents/templates/explained.md" in names
    assert "resattn/locale/zh/LC_MESSAGES/resattn.mo" in names
    for path in (ROOT / "weights" / "golden").glob("*.safetensors"):
        assert f"weights/golden/{path.name}" in names


def test_it_proves_itself(wheel, torch, tmp_path):
    """Installed into a fresh environment, it reads the digits and computes the golden vectors."""
    pytest.importorskip("sklearn")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    run(*pip, wheel, env=alone)
    # Other packages come from here; the editable install of this tree is not on this path.
    here = Path(pytest.__file__).parent.parent
    options = {"cwd": tmp_path, "env": {**alone, "PYTHONPATH": str(here)}}
    where = run(python, "-c", "import resattn, weights; print(weights.__file__)", **options)
    assert Path(where.strip()).is_relative_to(tmp_path)
    command = (python, "-m", "resattn")
    golden = run(*command, "check", "--golden", "--frameworks", "torch", **options)
    assert "All " in golden
    assert "450 of 450 predictions equal" in run(*command, "demo", **options)
