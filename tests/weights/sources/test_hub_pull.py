"""Models of a hub that is gated, private, slow, broken, or lies."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.weights.sources.conftest import World
from tests.weights.sources.fake_hub import FakeHub, FakeRepository, HubFault, commit_of

from lepton_ai.config import Environment
from lepton_ai.errors import DigestMismatch, DownloadFailed, LeptonError, ModelNotFound, StorageError, UnsupportedModel
from lepton_ai.weights.sources.hub_pull import HubPuller
from lepton_ai.weights.sources.references import HubReference
from lepton_ai.weights.sources.resolve import resolve

FOLDER = {
    "config.json": b'{"model_type": "tiny"}',
    "model.safetensors": bytes(range(256)) * 3000,
    "tokenizer.json": b"{}",
    "1_Pooling/config.json": b"{}",
}
UNWANTED = {"pytorch_model.bin": b"\x80\x02", "modeling_tiny.py": b"raise SystemExit(3)", "onnx/model.onnx": b"x"}
REFERENCE = HubReference("owner/tiny")
HOME = "models/hf%3Aowner%2Ftiny"
TOKEN = "hf_hunter2hunter2"


@pytest.fixture
def repository(hub: FakeHub) -> FakeRepository:
    return hub.add("owner/tiny", {**FOLDER, **UNWANTED})


def _pull(world: World, reference: HubReference = REFERENCE) -> Path:
    return HubPuller(world.library, world.progress).pull(reference, name=reference.name)


def _blob(repository: FakeRepository, name: str = "model.safetensors") -> str:
    return f"/cdn/{repository.sha256(name)}"


def test_a_folder_is_fetched_and_nothing_that_is_not_wanted(
    world: World, hub: FakeHub, repository: FakeRepository
) -> None:
    path = _pull(world)
    assert path == world.home / HOME
    assert world.files() == sorted(f"{HOME}/{name}" for name in (*FOLDER, "manifest.json"))
    assert {name: (path / name).read_bytes() for name in FOLDER} == FOLDER
    assert sorted(set(hub.fetched())) == sorted(
        {*FOLDER, repository.sha256("model.safetensors")} - {"model.safetensors"}
    )
    hub.requests.clear()
    assert _pull(world) == path and hub.requests == []


def test_the_commit_and_the_licence_are_kept(world: World, repository: FakeRepository) -> None:
    manifest = json.loads((_pull(world) / "manifest.json").read_bytes())
    assert manifest["origin"] == {"repository": "owner/tiny", "commit": repository.commit}
    assert manifest["licence"] == "mit (as owner/tiny says)"
    found = world.library.find("hf:owner/tiny")
    assert found is not None and found.sha256 == repository.sha256("model.safetensors")
    assert "hf:owner/tiny: licence: mit (as owner/tiny says)" in world.progress.texts


def test_all_files_are_of_the_commit_that_was_resolved(world: World, hub: FakeHub, repository: FakeRepository) -> None:
    _pull(world, HubReference("owner/tiny", "main"))
    paths = [path for _, path, _ in hub.requests if "/resolve/" in path]
    assert paths and all(path.startswith(f"/owner/tiny/resolve/{repository.commit}/") for path in paths)


def test_progress_counts_up_to_the_whole(world: World, repository: FakeRepository) -> None:
    _pull(world)
    counts = [count for _, count in world.progress.calls]
    assert counts == sorted(counts) and counts[-1] == sum(map(len, FOLDER.values()))
    assert "fetching hf:owner/tiny (2 of 4)" in world.progress.texts
    assert world.progress.num_finished == 1


def test_a_gguf_file_that_is_named_or_the_only_one(world: World, hub: FakeHub) -> None:
    repository = hub.add("owner/tiny", {"q4/m.gguf": b"GGUF four", "README.md": b""})
    assert _pull(world).read_bytes() == b"GGUF four"
    repository.files["q8/m.gguf"] = b"GGUF eight"
    named = HubReference("owner/tiny", None, "q8/m.gguf")
    assert _pull(world, named) == world.home / f"{HOME}%3Aq8%2Fm.gguf/m.gguf"
    with pytest.raises(ModelNotFound, match=r"found 'q4/m\.gguf', 'q8/m\.gguf'; name one after a colon"):
        _pull(world, HubReference("owner/tiny", "main"))


def test_a_folder_comes_before_gguf_files_beside_it(world: World, hub: FakeHub) -> None:
    hub.add("owner/tiny", {**FOLDER, "m.gguf": b"GGUF"})
    assert _pull(world) == world.home / HOME
    assert not (world.home / HOME / "m.gguf").exists()
    assert _pull(world, HubReference("owner/tiny", None, "m.gguf")).read_bytes() == b"GGUF"


def test_pickles_are_not_fetched(world: World, hub: FakeHub) -> None:
    hub.add("owner/tiny", {"config.json": b"{}", **UNWANTED})
    with pytest.raises(UnsupportedModel, match=r"got pytorch_model\.bin, a pickle"):
        _pull(world)
    assert hub.fetched() == [] and world.files() == []


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (HubReference("owner/none"), "no repository 'owner/none', or it is private"),
        (HubReference("owner/tiny", "v9"), "owner/tiny has no revision 'v9'"),
        (HubReference("owner/tiny", None, "x.gguf"), "no GGUF file 'x.gguf'"),
    ],
)
def test_what_is_not_there(world: World, repository: FakeRepository, reference: HubReference, message: str) -> None:
    with pytest.raises(ModelNotFound, match=message):
        _pull(world, reference)
    assert world.files() == []


@pytest.mark.parametrize("token", [None, "hf_other"])
def test_a_gated_repository_says_what_to_do(
    world: World, hub: FakeHub, repository: FakeRepository, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.is_gated, repository.token = True, TOKEN
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DownloadFailed, match=f"accept them at {hub.url}/owner/tiny, and set HF_TOKEN"):
        _pull(world)
    assert world.files() == []


def test_a_token_opens_it_and_goes_to_the_hub_only(
    world: World, hub: FakeHub, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.is_gated, repository.token = True, TOKEN
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    _pull(world)
    sent = {path.startswith("/cdn/"): "authorization" in headers for _, path, headers in hub.requests}
    assert sent == {False: True, True: False}


@pytest.mark.parametrize("fault", ["gated", "private", "500", "403", "cut", "digest"])
def test_tokens_and_signatures_never_show(
    world: World,
    hub: FakeHub,
    repository: FakeRepository,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    repository.is_gated = fault == "gated"
    repository.token = "another" if fault in ("gated", "private") else None
    hub.faults[_blob(repository)] = {
        "500": [HubFault(status=500)] * 9,
        "403": [HubFault(status=403)] * 9,
        "cut": [HubFault(cut_after_bytes=0)] * 9,
        "digest": [HubFault(body=bytes(len(FOLDER["model.safetensors"])))],
    }.get(fault, [])
    with pytest.raises(LeptonError) as caught:
        _pull(world)
    error = caught.value
    shown = [str(error), repr(error), str(error.to_dict()), str(error.__cause__), *world.progress.texts]
    assert "hunter2" not in "\n".join([*shown, caplog.text])
    captured = capfd.readouterr()
    assert "hunter2" not in captured.out + captured.err


def test_an_interrupted_transfer_is_resumed(
    world: World, hub: FakeHub, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.faults[_blob(repository)] = [HubFault(cut_after_bytes=100_000)]
    assert (_pull(world) / "model.safetensors").read_bytes() == FOLDER["model.safetensors"]
    ranges = [headers.get("range") for _, path, headers in hub.requests if path.startswith("/cdn/")]
    assert ranges[0] is None and ranges[-1] == "bytes=100000-"


def test_the_next_pull_goes_on_with_what_is_there(world: World, hub: FakeHub, repository: FakeRepository) -> None:
    hub.faults["/owner/tiny/resolve/" + repository.commit + "/tokenizer.json"] = [HubFault(status=403)] * 9
    with pytest.raises(DownloadFailed, match="answered 403; check HF_TOKEN"):
        _pull(world)
    assert world.library.find("hf:owner/tiny") is None
    hub.faults.clear()
    hub.requests.clear()
    _pull(world)
    assert [path for _, path, _ in hub.requests if path.startswith("/cdn/")] == []
    assert [name for name in world.files() if name.startswith("downloads")] == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_token_says_what_to_check(
    world: World, hub: FakeHub, repository: FakeRepository, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    hub.faults["/api/models/owner/tiny"] = [HubFault(status=status)] * 9
    with pytest.raises(DownloadFailed, match=f"{hub.url} answered {status}; check HF_TOKEN") as raised:
        _pull(world)
    assert (raised.value.code, raised.value.status) == ("download_failed", 502)
    assert "hf_wrong" not in raised.value.message and world.files() == []


def test_a_stall_times_out(
    world: World, hub: FakeHub, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.faults[_blob(repository)] = [HubFault(cut_after_bytes=10, stall_s=1.0)] + [
        HubFault(cut_after_bytes=0, stall_s=1.0)
    ] * 9
    with pytest.raises(DownloadFailed, match=f"the transfer from {hub.url} failed: ReadTimeout; check the network"):
        _pull(world)


def test_a_hub_that_does_not_answer(
    world: World, hub: FakeHub, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.1)
    hub.faults["/api/models/owner/tiny"] = [HubFault(cut_after_bytes=0, stall_s=1.0)] * 9
    with pytest.raises(DownloadFailed, match=f"the transfer from {hub.url} failed: ReadTimeout; check the network"):
        _pull(world)
    assert world.files() == []


def test_another_file_than_the_hub_announced_is_refused(world: World, hub: FakeHub, repository: FakeRepository) -> None:
    hub.faults[_blob(repository)] = [HubFault(body=bytes(len(FOLDER["model.safetensors"])))]
    with pytest.raises(DigestMismatch, match=f"sha256 {repository.sha256('model.safetensors')}, got"):
        _pull(world)
    assert not (world.home / "downloads/hf%3Aowner%2Ftiny/model.safetensors").exists()
    _pull(world)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id": "a/b", "sha": "main", "siblings": []}', b"<html>"])
def test_what_is_no_hub(world: World, hub: FakeHub, repository: FakeRepository, body: bytes) -> None:
    hub.faults["/api/models/owner/tiny"] = [HubFault(body=body)] * 9
    with pytest.raises(DownloadFailed):
        _pull(world)
    assert world.files() == []


def test_a_name_that_leads_elsewhere_is_not_fetched(world: World, hub: FakeHub) -> None:
    hub.add("owner/tiny", {**FOLDER, "../../../escape.gguf": b"GGUF", "/abs.gguf": b"GGUF"})
    path = _pull(world, HubReference("owner/tiny", None, None))
    assert sorted(p.name for p in path.iterdir()) == sorted(
        {name.partition("/")[0] for name in FOLDER} | {"manifest.json"}
    )


def test_a_disk_without_room_is_told_before_anything_comes(
    world: World, hub: FakeHub, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match="1 MB are needed, 0 MB are free"):
        _pull(world)
    assert hub.fetched() == [] and world.files() == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), r"downloads/hf%3Aowner%2Ftiny: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/file"), "/a/file: Permission denied"),
    ],
)
def test_a_disk_that_fails(
    world: World, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch, error: OSError, message: str
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("lepton_ai.weights.sources.hub_pull.hf_hub_download", fail)
    with pytest.raises(StorageError, match=message):
        _pull(world)
    assert world.files() == []


def test_offline(world: World, hub: FakeHub, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match="not on this machine, and HF_HUB_OFFLINE forbids"):
        _pull(world)
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached(world: World, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://me:hunter2@127.0.0.1:9")
    with pytest.raises(DownloadFailed, match=r"the transfer from http://127\.0\.0\.1:9 failed") as caught:
        _pull(world)
    assert "hunter2" not in str(caught.value)


def test_short_names_of_the_hub(world: World, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    for name, data in FOLDER.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    hub.add("openai-community/gpt2", folder)
    monkeypatch.setenv("LEPTON_HOME", str(world.home))
    path = resolve("gpt2", Environment.read())
    assert path == world.home / "models/gpt2" and (path / "config.json").read_bytes() == FOLDER["config.json"]
    found = world.library.find("gpt2")
    assert found is not None and found.licence == "MIT (OpenAI)"


def test_a_model_that_is_here_does_not_import_the_hub_library(
    world: World, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(world.home))
    _pull(world)
    program = """
import sys
import lepton_ai
from lepton_ai.config import Environment
from lepton_ai.weights.sources.resolve import resolve
resolve("hf:owner/tiny", Environment.read())
print("huggingface_hub" in sys.modules, "tqdm" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False False\n", "")


def test_a_later_commit_is_another_pull(world: World, hub: FakeHub, repository: FakeRepository) -> None:
    first = repository.commit
    path = _pull(world)
    repository.commit = commit_of("second")
    assert _pull(world) == path  # what is here is not asked for again
    second = _pull(world, HubReference("owner/tiny", repository.commit))
    commits = [json.loads((p / "manifest.json").read_bytes())["origin"]["commit"] for p in (path, second)]
    assert commits == [first, repository.commit]
