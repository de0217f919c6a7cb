"""Addresses of a hub, and files fetched from a cache and from a hub that runs in this process."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from weights.errors import (
    ArgumentError,
    FileError,
    MissingFileError,
    MissingFramework,
    WeightsError,
)
from weights.files import hub as files_hub
from weights.files.hub import HubAddress, fetch, is_hub_address, parse_address

hub = pytest.importorskip("huggingface_hub")
for module in ("constants", "errors", "file_download", "utils"):
    importlib.import_module(f"huggingface_hub.{module}")

SUFFIXES = (".safetensors", ".bin", ".weights.h5", ".keras", ".msgpack")
COMMIT, OLDER = "a" * 40, "0123456789" * 4
REPOSITORY = "someone/some-net_1.0"
WEIGHTS = b"the weights"


def make_cache(folder: Path, files: dict[str, bytes], commit: str = COMMIT, ref: str = "main"):
    """A cache as huggingface_hub keeps it: blobs, and symbolic links to them in a snapshot."""
    place = folder / f"models--{REPOSITORY.replace('/', '--')}"
    for name in ("blobs", "refs", f"snapshots/{commit}"):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
    (place / "refs" / ref).write_text(commit)
    for number, (name, content) in enumerate(files.items()):
        blob = place / "blobs" / f"{commit[:8]}{number}"
        blob.write_bytes(content)
        link = place / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return folder


def offline(text: str, cache: Path):
    return fetch(text, SUFFIXES, cache, local=True)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://timm/resnet18.a1_in1k", ("timm/resnet18.a1_in1k", None, None)),
        ("hf:/timm/resnet18", ("timm/resnet18", None, None)),  # of a Path
        ("hf://a/b@v1.0", ("a/b", None, "v1.0")),
        ("hf://a/b/c/model.bin@refs/pr/1", ("a/b", "c/model.bin", "refs/pr/1")),
        (f"hf://a/b/x y.pt@{COMMIT}", ("a/b", "x y.pt", COMMIT)),
    ],
)
def test_addresses(text, parts):
    found = parse_address(text)
    assert (found.repository, found.file, found.revision) == parts
    assert str(found) == text.replace("hf:/", "hf://").replace("///", "//")
    assert parse_address(str(found)) == found
    assert is_hub_address(text)
    assert is_hub_address(Path(text))


def test_what_is_no_address():
    assert not is_hub_address("model.safetensors")
    assert not is_hub_address("hf/model.safetensors")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hf://", "it has no owner and name"),
        ("hf://timm", "it has no owner and name"),
        ("hf://timm/", "it has no owner and name"),
        ("hf:///a/b", "it has no owner and name"),
        ("https://a/b", "it has no owner and name"),
        ("hf://../b", "owner and name have letters"),
        ("hf://a/..", "owner and name have letters"),
        ("hf://a/b--c", "owner and name have letters"),
        ("hf://a/b..c", "owner and name have letters"),
        ("hf://a/-b", "owner and name have letters"),
        ("hf://a/é", "owner and name have letters"),
        ("hf://a/" + "b" * 97, "owner and name have letters"),
        ("hf://a/b\x1b[2J", "owner and name have letters"),
        ("hf://a/b/", "the file is no path within"),
        ("hf://a/b/../c", "the file is no path within"),
        ("hf://a/b/c/../../d", "the file is no path within"),
        ("hf://a/b//etc/passwd", "the file is no path within"),
        ("hf://a/b/./c", "the file is no path within"),
        ("hf://a/b/c\\..\\d", "the file is no path within"),
        ("hf://a/b/c\n", "the file is no path within"),
        ("hf://a/b@", "the revision is no name"),
        ("hf://a/b@../x", "the revision is no name"),
        ("hf://a/b@x/../../y", "the revision is no name"),
        ("hf://a/b@/x", "the revision is no name"),
        ("hf://a/b@x y", "the revision is no name"),
        ("hf://a/b@x@y", "the revision is no name"),
    ],
)
def test_addresses_that_are_refused(text, reason):
    with pytest.raises(ArgumentError, match=reason) as error:
        parse_address(text)
    assert str(error.value).startswith("expected hf://owner/name[/file][@revision], got 'h")
    assert str(error.value).isprintable()


def test_a_file_of_the_cache_with_what_is_beside_it(tmp_path):
    files = {"model.safetensors": WEIGHTS, "config.json": b"{}", "README.md": b"---"}
    found = offline(f"hf://{REPOSITORY}", make_cache(tmp_path, files))
    assert found.address == HubAddress(REPOSITORY, "model.safetensors", COMMIT)
    assert found.path.is_symlink()
    assert found.path.read_bytes() == WEIGHTS
    assert {each.name for each in found.path.parent.iterdir()} == set(files)


def test_a_named_file_in_a_folder(tmp_path):
    cache = make_cache(tmp_path, {"fp16/net.bin": WEIGHTS, "model.safetensors": b""})
    found = offline(f"hf://{REPOSITORY}/fp16/net.bin", cache)
    assert found.address == HubAddress(REPOSITORY, "fp16/net.bin", COMMIT)
    assert found.path.read_bytes() == WEIGHTS


@pytest.mark.parametrize("revision", ["v1", "refs/pr/2", OLDER])
def test_revisions(tmp_path, revision):
    make_cache(tmp_path, {"model.safetensors": b"new"})
    ref = "v0" if revision == OLDER else revision
    make_cache(tmp_path, {"model.safetensors": WEIGHTS}, OLDER, ref)
    for text in (
        f"hf://{REPOSITORY}@{revision}",
        f"hf://{REPOSITORY}/model.safetensors@{revision}",
    ):
        found = offline(text, tmp_path)
        assert found.address.revision == OLDER
        assert found.path.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (("pytorch_model.bin", "model.safetensors", "flax_model.msgpack"), "model.safetensors"),
        (("flax_model.msgpack", "model.keras", "model.weights.h5"), "model.weights.h5"),
        (("model.keras", "flax_model.msgpack"), "model.keras"),
        (("flax_model.msgpack", "other.bin", "another.bin"), "flax_model.msgpack"),
        (("rather_strange.bin", "notes.txt"), "rather_strange.bin"),
    ],
)
def test_which_file_is_taken(tmp_path, files, chosen):
    found = offline(f"hf://{REPOSITORY}", make_cache(tmp_path, dict.fromkeys(files, WEIGHTS)))
    assert found.address.file == chosen


def test_only_files_that_can_be_read_are_taken(tmp_path):
    cache = make_cache(tmp_path, {"model.safetensors": b"", "pytorch_model.bin": WEIGHTS})
    found = fetch(f"hf://{REPOSITORY}", [".bin"], cache, local=True)
    assert found.address.file == "pytorch_model.bin"


def test_no_file_to_take(tmp_path):
    cache = make_cache(tmp_path, {f"{number:02}.bin": b"" for number in range(15)} | {"a.txt": b""})
    with pytest.raises(ArgumentError) as error:
        offline(f"hf://{REPOSITORY}", cache)
    listed = ", ".join(f"{number:02}.bin" for number in range(12))
    assert str(error.value) == (
        f"hf://{REPOSITORY}: does not say which file; name one: hf://{REPOSITORY}/FILE. The "
        f"repository holds: {listed} and 3 more"
    )
    with pytest.raises(ArgumentError, match=r"The repository holds: 00\.bin, 01\.bin"):
        fetch(f"hf://{REPOSITORY}", [".onnx"], cache, local=True)


INDEX = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}


def test_shards_come_with_their_index(tmp_path):
    files = {
        "model.safetensors.index.json": json.dumps(INDEX).encode(),
        "model-1.safetensors": b"1",
        "model-2.safetensors": b"2",
    }
    found = offline(f"hf://{REPOSITORY}", make_cache(tmp_path, files))
    assert found.address.file == "model.safetensors.index.json"
    del files["model-2.safetensors"]
    with pytest.raises(FileError, match=f"hf://{REPOSITORY}/model.*@{COMMIT}: is not in the cache"):
        offline(f"hf://{REPOSITORY}", make_cache(tmp_path / "partly", files))


@pytest.mark.parametrize(
    "index",
    [
        [],
        {},
        {"weight_map": {}},
        {"weight_map": {"a": 1}},
        {"weight_map": {"a": "../../etc/passwd"}},
        {"weight_map": {"a": "/etc/passwd"}},
        {"weight_map": {"a": ".."}},
        {"weight_map": {"a": "x\x1b[2J"}},
        {"weight_map": {str(number): str(number) for number in range(10_001)}},
    ],
)
def test_indexes_that_are_refused(tmp_path, index):
    name = "model.safetensors.index.json"
    cache = make_cache(tmp_path, {name: json.dumps(index).encode()})
    with pytest.raises(WeightsError, match="expected a weight_map of names to files") as error:
        offline(f"hf://{REPOSITORY}/{name}", cache)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b"1" * 5000])
def test_an_index_that_is_no_json(tmp_path, content):
    cache = make_cache(tmp_path, {"model.safetensors.index.json": content})
    with pytest.raises(WeightsError, match=f"@{COMMIT}: is no index ") as error:
        offline(f"hf://{REPOSITORY}", cache)
    assert str(error.value).isprintable()


def test_a_large_index(tmp_path, monkeypatch):
    monkeypatch.setattr(files_hub, "MOST_HEADER", 3)
    cache = make_cache(tmp_path, {"model.safetensors.index.json": b"{   }"})
    with pytest.raises(WeightsError, match="has over 3 bytes, more than any index"):
        offline(f"hf://{REPOSITORY}", cache)


@pytest.mark.parametrize("text", [f"hf://{REPOSITORY}", f"hf://{REPOSITORY}/x.bin", "hf://a/b/c"])
@pytest.mark.parametrize("how", ["local", "HF_HUB_OFFLINE"])
def test_what_is_not_in_the_cache(tmp_path, monkeypatch, text, how):
    if how == "HF_HUB_OFFLINE":
        monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileError) as error:
        fetch(text, SUFFIXES, local=how == "local")
    assert str(error.value) == f"{text}: is not in the cache, and only the cache may be used"


def test_the_cache_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    make_cache(tmp_path, {"model.safetensors": WEIGHTS})
    assert fetch(f"hf://{REPOSITORY}", SUFFIXES).path.read_bytes() == WEIGHTS


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingFramework, match="pip install huggingface_hub"):
        fetch("hf://a/b", SUFFIXES)


# By the name of a repository that the hub does not give.
FAILURES = {"gated": (403, "GatedRepo"), "absent": (404, "RepoNotFound"), "broken": (400, "")}
FILES = {"model.safetensors": WEIGHTS, "config.json": b"{}"}


class FakeHub(BaseHTTPRequestHandler):
    """The answers of a hub that has one repository."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def log_message(self, *_):
        pass

    def answer(self, with_body):
        parts = self.path.split("?")[0].strip("/").split("/")
        listing = parts[0] == "api"
        _, name, _, revision, *file = parts[2:] if listing else parts
        if name in FAILURES:
            self.fail(*FAILURES[name])
        elif revision not in ("main", COMMIT):
            self.fail(404, "RevisionNotFound")
        elif listing:
            self.reply(json.dumps([self.entry(each) for each in FILES]).encode(), with_body)
        elif "/".join(file) not in FILES:
            self.fail(404, "EntryNotFound")
        else:
            self.reply(FILES["/".join(file)], with_body)

    def entry(self, name):
        return {"type": "file", "path": name, "size": len(FILES[name]), "oid": "0" * 40}

    def reply(self, content, with_body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{len(content):040}"')
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def fail(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def online(monkeypatch, tmp_path):
    """Fetches from the fake hub into a cache of its own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeHub) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        hub.utils.disable_progress_bars()
        yield lambda text: fetch(text, SUFFIXES, tmp_path)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("text", [f"hf://{REPOSITORY}", f"hf://{REPOSITORY}/model.safetensors"])
def test_a_download(online, tmp_path, text):
    found = online(text)
    assert found.address == HubAddress(REPOSITORY, "model.safetensors", COMMIT)
    assert found.path.read_bytes() == WEIGHTS
    assert {each.name for each in found.path.parent.iterdir()} == set(FILES)
    assert fetch(text, SUFFIXES, tmp_path, local=True) == found


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("hf://a/gated", FileError, "hf://a/gated: is gated: accept its conditions on the page"),
        ("hf://a/absent", MissingFileError, "hf://a/absent: there is no such repository, or it is"),
        ("hf://a/b@v9", MissingFileError, "hf://a/b: has no revision 'v9'"),
        ("hf://a/broken", FileError, "hf://a/broken: is not in the cache, and the hub cannot be"),
    ],
)
@pytest.mark.parametrize("file", ["", "/model.safetensors"])
def test_what_the_hub_does_not_give(online, text, kind, message, file):
    repository, at, revision = text.partition("@")
    with pytest.raises(kind) as error:
        online(f"{repository}{file}{at}{revision}")
    assert str(error.value).startswith(message.replace("broken:", f"broken{file}:"))
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_the_hub_does_not_have(online):
    with pytest.raises(MissingFileError) as error:
        online(f"hf://{REPOSITORY}/absent.bin")
    assert str(error.value) == (
        f"hf://{REPOSITORY}: has no file absent.bin; it holds: config.json, model.safetensors"
    )


def test_a_hub_that_cannot_be_reached(online, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise hub.errors.OfflineModeIsEnabled("no route\nto host")

    expected = online(f"hf://{REPOSITORY}")
    monkeypatch.setattr(hub.file_download, "get_hf_file_metadata", fail)
    monkeypatch.setattr(hub.HfApi, "list_repo_files", fail)
    assert online(f"hf://{REPOSITORY}") == expected
    with pytest.raises(FileError, match="and the hub cannot be reached"):
        online(f"hf://{REPOSITORY}/absent.bin")
    with pytest.raises(FileError, match="a/b: is not in the cache, and the hub cannot be reached"):
        online("hf://a/b")
