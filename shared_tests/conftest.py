"""Fixtures: every test that takes `backend` runs once for each framework and device there is."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Half the time of compiling, which is most of the time of these tests; `make test` knows which
# flags its version of XLA has and saves more. It runs the golden vectors as XLA compiles by default
# as well.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

from resattn.checking.backends import Backend
from resattn.documents.tour import check_notebook
from resattn.drawing.printing import check_pdf, check_png
from resattn.reporting.plots import check_plotting
from shared_tests.files_cases import NEEDED
from shared_tests.libraries import PACKAGES, absence, import_library
from weights.attention import ATTENTION
from weights.errors import MissingFramework, ResattnError
from weights.frameworks import FRAMEWORKS
from weights.live import adapter
from weights.parameters import ROLES


def _no_png() -> str | None:
    """Why no PNG or PDF can be drawn here, or None."""
    try:
        check_png()
        check_pdf()
    except ResattnError as error:
        return str(error)
    return None


def _no_plots() -> str | None:
    try:
        check_plotting("A plot")
    except ResattnError as error:
        return str(error)
    return None


def _no_images() -> str | None:
    """Why no image can be read here, or None."""
    try:
        importlib.import_module("PIL.Image")
    except ImportError:
        return 'Pillow is not installed; install it with: pip install "resattn[images]"'
    return None


def _no_interop() -> str | None:
    """Why the networks of another library cannot be made here, or None."""
    packages = dict.fromkeys(package for package in PACKAGES.values() if package)
    return next((reason for each in packages if (reason := absence(each))), None)


def _no_files() -> str | None:
    """Why the files of some formats cannot be made here, or None."""
    missing = [name for name in ("h5py", "orbax", "huggingface_hub") if find_spec(name) is None]
    return f"{', '.join(missing)} not installed" if missing else None


def _no_notebook() -> str | None:
    """Why no notebook can be executed here, or None."""
    try:
        check_notebook()
    except MissingFramework as error:
        return str(error)
    return None


# Libraries that some tests need, and the functions that say why one is missing.
LIBRARIES = {
    "png": _no_png,
    "plots": _no_plots,
    "images": _no_images,
    "timm": partial(absence, "timm"),
    "interop": _no_interop,
    "files": _no_files,
    "notebook": _no_notebook,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default="",
        help="Frameworks (torch,jax,tf), cuda, browser, png, plots (Matplotlib), images (Pillow), "
        "timm (with torchvision), interop (timm, torchvision, Keras, KerasHub), files (h5py, "
        "Orbax, huggingface_hub) and notebook (nbclient, ipykernel): fail, not skip, without them.",
    )
    parser.addoption(
        "--frameworks",
        default=",".join(FRAMEWORKS),
        help="Which frameworks to test (torch,jax,tf).",
    )


def _words(config: pytest.Config, option: str) -> list[str]:
    words = [word.strip() for word in config.getoption(option).split(",") if word.strip()]
    known = (*FRAMEWORKS, "cuda", "browser", *LIBRARIES)
    unknown = set(words) - set(known)
    if unknown:
        raise pytest.UsageError(
            f"{option}: expected some of {', '.join(known)}; got {', '.join(sorted(unknown))}"
        )
    return words


def pytest_configure(config: pytest.Config) -> None:
    required = _words(config, "--require")
    absent = [reason for name in required if name in FRAMEWORKS and (reason := _absence(name))]
    if "cuda" in required:
        asked = [name for name in _words(config, "--frameworks") if not _absence(name)]
        absent += [
            f"{name} sees no CUDA device" for name in asked if "cuda" not in adapter(name).devices()
        ]
    if "browser" in required and _browser() is None:
        absent.append("no Chromium was found")
    for name in LIBRARIES:
        if name in required and (reason := LIBRARIES[name]()):
            absent.append(reason)
    if absent:
        pytest.exit(f"--require: {'; '.join(absent)}", returncode=1)


TESTS = count(1)


@pytest.hookimpl(trylast=True)  # a test that replaces Path.open has restored it
def pytest_runtest_teardown() -> None:
    """Lets go of what JAX has compiled before Linux, which allows a process 65,530 memory maps,
    lets go of the process.
    """
    if next(TESTS) % 20 == 0 and "jax" in sys.modules and _memory_maps() > 30_000:
        sys.modules["jax"].clear_caches()


def _memory_maps() -> int:
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0


def _absence(framework: str) -> str | None:
    """Why a framework cannot be tested here, or None."""
    try:
        adapter(framework)
    except MissingFramework as error:
        return str(error)
    return None


def _parameters(framework: str) -> list[object]:
    reason = _absence(framework)
    if reason:
        return [
            pytest.param(
                Backend(framework, "cpu"),
                id=f"{framework}-cpu",
                marks=pytest.mark.skip(reason=reason),
            )
        ]
    return [
        pytest.param(Backend(framework, device), id=f"{framework}-{device}")
        for device in adapter(framework).devices()
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        frameworks = _words(metafunc.config, "--frameworks")
        metafunc.parametrize(
            "backend",
            [
                parameter
                for name in FRAMEWORKS
                if name in frameworks
                for parameter in _parameters(name)
            ],
        )


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    """Attention kinds and roles that a test registers are gone behind it."""
    kinds, roles = dict(ATTENTION), dict(ROLES)
    yield
    for table, before in ((ATTENTION, kinds), (ROLES, roles)):
        for name in set(table) - set(before):
            del table[name]
    for described in FRAMEWORKS.values():
        for role in set(described.leaves) - set(roles):
            del described.leaves[role]


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    """Each framework by name, for tests that need no device."""
    return _present(request, request.param)


def _browser() -> str | None:
    """A Chromium on the path."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


@pytest.fixture
def png() -> None:
    """For tests that draw a PNG or a PDF."""
    if reason := _no_png():
        pytest.skip(reason)


@pytest.fixture
def plots() -> None:
    """For tests that draw curves with Matplotlib."""
    if reason := _no_plots():
        pytest.skip(reason)


@pytest.fixture
def images() -> None:
    """For tests that read images with Pillow, or resize them with it."""
    if reason := _no_images():
        pytest.skip(reason)


@pytest.fixture
def notebook() -> None:
    """For tests that execute a notebook."""
    if reason := _no_notebook():
        pytest.skip(reason)


@pytest.fixture
def browser() -> str:
    found = _browser()
    if found is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    return found


@pytest.fixture
def timm(torch: object, images: None) -> object:
    """timm, which comes with the extra `interop`."""
    return _library("timm")


@pytest.fixture
def torchvision(torch: object) -> object:
    """torchvision, which comes with the extra `interop`."""
    return _library("torchvision")


def _library(package: str) -> object:
    if reason := absence(package):
        pytest.skip(reason)
    return import_library(package)


@pytest.fixture
def torch(request: pytest.FixtureRequest) -> object:
    _present(request, "torch")
    return pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def format_is_installed(request: pytest.FixtureRequest) -> None:
    """Skips a test of a file format whose framework is missing."""
    parameters = getattr(request.node, "callspec", None)
    framework = NEEDED.get(parameters.params.get("name", "") if parameters else "")
    if framework:
        request.getfixturevalue(framework)


@pytest.fixture
def jax(request: pytest.FixtureRequest) -> object:
    _present(request, "jax")
    return pytest.importorskip("jax")


@pytest.fixture
def keras(request: pytest.FixtureRequest) -> object:
    _present(request, "tf")
    return pytest.importorskip("keras")


@pytest.fixture
def all_frameworks(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """For tests that compare the frameworks with each other."""
    for name in FRAMEWORKS:
        _present(request, name)
    return FRAMEWORKS


def _present(request: pytest.FixtureRequest, framework: str) -> str:
    if framework not in _words(request.config, "--frameworks"):
        pytest.skip(f"{framework} was not asked for")
    reason = _absence(framework)
    if reason:
        pytest.skip(reason)
    return framework


CHECKPOINT = "resnet20-12fca82f.th"


@pytest.fixture
def checkpoint():
    """The trained ResNet-20, found through RESATTN_CHECKPOINTS."""
    folder = os.environ.get("RESATTN_CHECKPOINTS")
    if not folder or not (Path(folder) / CHECKPOINT).exists():
        pytest.skip(f"RESATTN_CHECKPOINTS names no folder with {CHECKPOINT}")
    return Path(folder) / CHECKPOINT
