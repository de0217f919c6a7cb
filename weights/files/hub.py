"""Files of a hub: `hf://owner/name[/file][@revision]`, through huggingface_hub and its cache."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from weights.errors import (
    ArgumentError,
    FileError,
    MissingFileError,
    MissingFramework,
    WeightsError,
)
from weights.fields import parse_json
from weights.files.limits import MOST_HEADER
from weights.files.origin import HUB_CONFIG, MODEL_CARD

# What libraries call the weights of a model, the first choice first.
PREFERRED = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "model.weights.h5",
    "model.keras",
    "flax_model.msgpack",
)
INDEX = ".safetensors.index.json"  # what the name of an index of several files ends with
_FORM = "hf://owner/name[/file][@revision]"
_ADDRESS = re.compile(r"hf:/{1,2}(?=[^/])")  # Path("hf://owner/name") has one slash
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARDS = 10_000
_SHOWN = 12  # names of files that an error lists


@dataclass(frozen=True)
class HubAddress:
    """repository: as owner/name. file: within it; None for the one that it is about.

    revision: a branch, a tag or a commit; None for the main branch.
    """

    repository: str
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        return f"hf://{self.repository}{file}{f'@{self.revision}' if self.revision else ''}"


@dataclass(frozen=True)
class HubFile:
    """A file in the cache. address: with the file, and the commit as the revision.

    What belongs to it is beside it: shards, config.json and the model card.
    """

    path: Path
    address: HubAddress


def is_hub_address(path: object) -> bool:
    """Whether a path, or a text, is an address of a hub and not a file here."""
    return str(path).startswith("hf:/")


def parse_address(text: str) -> HubAddress:
    """The parts of an address. Raises ArgumentError."""
    start = _ADDRESS.match(text)
    rest, at, revision = text[start.end() if start else 0 :].partition("@")
    owner, _, inside = rest.partition("/")
    name, slash, file = inside.partition("/")
    reason = None
    if start is None or not name:
        reason = "it has no owner and name"
    elif not all(_is_name(each) for each in (owner, name)):
        reason = "owner and name have letters, digits and single - . _ between them"
    elif slash and not _is_file(file):
        reason = "the file is no path within the repository"
    elif at and not (_REVISION.fullmatch(revision) and _is_file(revision)):
        reason = "the revision is no name of a branch, a tag or a commit"
    if reason is not None:
        raise ArgumentError(f"expected {_FORM}, got {ascii(text)[:200]}: {reason}")
    return HubAddress(f"{owner}/{name}", file or None, revision or None)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and ".." not in text and "--" not in text


def _is_file(text: str) -> bool:
    """Whether it is a plain path from a folder down."""
    return (
        text.isprintable()
        and not set(text) & set('\\:*?"<>|')
        and all(part not in ("", ".", "..") for part in text.split("/"))
    )


def fetch(
    text: str, suffixes: Iterable[str], cache: Path | None = None, *, local: bool = False
) -> HubFile:
    """A file of a hub with what belongs to it, downloaded unless the cache has it.

    text: the address. suffixes: of the files that can be read; where the address names none, the
    first of `PREFERRED` is taken, or the only one with such a suffix. cache: the folder, by
    default that of huggingface_hub. local: whether to look into the cache alone; so it is, too,
    without network and with HF_HUB_OFFLINE=1.
    Raises ArgumentError for an address that is none, MissingFileError for what the hub does not
    have, FileError for what it does not give, MissingFramework.
    """
    address = parse_address(text)
    repository = _Repository(address, cache, local)
    file = address.file or _choose(address, repository.files(), tuple(suffixes))
    path = repository.download(file)
    commit = path.parents[file.count("/")].name  # snapshots/<commit>/<file>
    found = HubFile(path, HubAddress(address.repository, file, commit))
    within = _Repository(found.address, cache, local)  # so that all files are of one commit
    folder = file.rpartition("/")[0]
    shards = _shards(path, str(found.address)) if file.endswith(INDEX) else []
    for name in shards:
        within.download(f"{folder}/{name}".lstrip("/"))
    for name in (HUB_CONFIG, MODEL_CARD):
        within.download_if_there(f"{folder}/{name}".lstrip("/"))
    return found


def _choose(address: HubAddress, files: list[str], suffixes: tuple[str, ...]) -> str:
    """The file that a repository is about."""
    readable = [name for name in files if name.lower().endswith(suffixes) or name.endswith(INDEX)]
    for name in PREFERRED:
        if name in readable:
            return name
    if len(readable) == 1:
        return readable[0]
    raise ArgumentError(
        f"{address}: does not say which file; name one: hf://{address.repository}/FILE. The "
        f"repository holds: {_listed(readable or files)}"
    )


def _listed(names: Iterable[str]) -> str:
    texts = [ascii(name)[1:-1][:100] for name in names]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return (", ".join(texts[:_SHOWN]) or "no files") + more


def _shards(index: Path, source: str) -> list[str]:
    """The files that a list of shards names, each beside it."""
    if index.stat().st_size > MOST_HEADER:
        raise WeightsError(f"{source}: has over {MOST_HEADER:,} bytes, more than any index", [])
    try:
        values = parse_json(
            index.read_text(encoding="utf-8", errors="replace"), source, MOST_HEADER
        )
    except ValueError as error:  # no JSON, or a number of too many digits
        raise WeightsError(f"{source}: is no index ({ascii(str(error))[1:-1][:200]})", []) from None
    places = values.get("weight_map") if isinstance(values, dict) else None
    names = set(places.values()) if isinstance(places, dict) and _are_texts(places) else set()
    wrong = [name for name in names if "/" in name or not _is_file(name)]
    if not names or len(names) > _SHARDS or wrong:
        raise WeightsError(
            f"{source}: expected a weight_map of names to files beside it"
            + (f", got {_listed(wrong)}" if wrong else ""),
            [],
        )
    return sorted(names)


def _are_texts(places: dict[str, Any]) -> bool:
    return all(isinstance(name, str) for name in places.values())


class _NotReachedError(FileError):
    """The hub does not answer, or not with what was asked for, and the cache does not have it."""


class _Repository:
    """What huggingface_hub gives of one, with errors of ours."""

    def __init__(self, address: HubAddress, cache: Path | None, local: bool):
        self._address = address
        self._hub = _huggingface_hub()
        self._cache = Path(cache or self._hub.constants.HF_HUB_CACHE)
        self._local = local or self._hub.constants.HF_HUB_OFFLINE

    def download(self, file: str) -> Path:
        """The path of a file in the cache. Raises MissingFileError, FileError."""
        try:
            found: Path = self._ask(partial(self._get, file))
            return found
        except self._hub.errors.EntryNotFoundError:
            raise MissingFileError(
                f"hf://{self._address.repository}: has no file {ascii(file)[1:-1][:200]}; it "
                f"holds: {_listed(self.files())}"
            ) from None

    def download_if_there(self, file: str) -> None:
        """The same, for a file that need not be there, or not in the cache."""
        with suppress(self._hub.errors.EntryNotFoundError, _NotReachedError):
            self._ask(partial(self._get, file))

    def files(self) -> list[str]:
        """The names of all its files; where the hub cannot be reached, of those in the cache."""
        if not self._local:
            with suppress(_NotReachedError):
                return sorted(self._ask(self._list))
        folder = self._snapshot()
        held = (each for each in folder.rglob("*") if each.is_file())
        return sorted(each.relative_to(folder).as_posix() for each in held)

    def _get(self, file: str) -> Path:
        address = self._address
        return Path(
            self._hub.hf_hub_download(
                address.repository,
                file,
                revision=address.revision,
                cache_dir=self._cache,
                local_files_only=self._local,
            )
        )

    def _list(self) -> list[str]:
        address = self._address
        api = self._hub.HfApi()
        found: list[str] = api.list_repo_files(address.repository, revision=address.revision)
        return found

    def _snapshot(self) -> Path:
        """The folder of the cache that has the files of the revision."""
        folder = self._cache / f"models--{self._address.repository.replace('/', '--')}"
        commit = self._address.revision or "main"
        reference = folder / "refs" / commit
        if reference.is_file():
            commit = reference.read_text(encoding="utf-8", errors="replace").strip()
        found = folder / "snapshots" / commit
        if not (_COMMIT.fullmatch(commit) and found.is_dir()):
            raise self._not_reached("")
        return found

    def _ask(self, question: Callable[[], Any]) -> Any:
        """What it answers. Raises MissingFileError, FileError, and EntryNotFoundError of the
        library for a file that the repository does not have.
        """
        errors, address = self._hub.errors, self._address
        place = f"hf://{address.repository}"
        try:
            return question()
        except errors.LocalEntryNotFoundError as error:
            raise self._not_reached(_first_line(error.__cause__)) from None
        except errors.EntryNotFoundError:
            raise
        except errors.GatedRepoError:
            raise FileError(
                f"{place}: is gated: accept its conditions on the page of the repository, then log "
                "in with: hf auth login"
            ) from None
        except errors.RepositoryNotFoundError:
            raise MissingFileError(
                f"{place}: there is no such repository, or it is private; for a private one log in "
                "with: hf auth login"
            ) from None
        except errors.RevisionNotFoundError:
            raise MissingFileError(f"{place}: has no revision {address.revision!r}") from None
        # The last are what the HTTP library raises: requests, httpx or httpx2, by the version.
        except (OSError, *errors.HfHubHTTPError.__bases__) as error:
            raise self._not_reached(_first_line(error)) from None

    def _not_reached(self, reason: str) -> _NotReachedError:
        why = f" ({reason})" if reason else ""
        how = "only the cache may be used" if self._local else "the hub cannot be reached"
        return _NotReachedError(f"{self._address}: is not in the cache, and {how}{why}")


def _first_line(error: BaseException | None) -> str:
    line = next(iter(str(error or "").strip().splitlines()), "")
    return ascii(line)[1:-1][:200]


def _huggingface_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise MissingFramework(
            "reading from a hub needs huggingface_hub: pip install huggingface_hub",
            name=error.name,
        ) from None
    return huggingface_hub
