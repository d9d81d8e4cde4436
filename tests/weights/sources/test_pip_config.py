from __future__ import annotations

import os
from pathlib import Path

import pytest

from lepton_ai.errors import InvalidRequest
from lepton_ai.weights.sources.pip_config import IndexConfig, read_index_config
from lepton_ai.weights.sources.urls import Credentials


class Machine:
    """A machine whose configuration is all under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {"HOME": str(root / "home"), "XDG_CONFIG_DIRS": str(root / "xdg")}

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, index_url: str | None = None, **env: str) -> IndexConfig:
        return read_index_config(
            index_url, environ={**self.env, **env}, prefix=str(self.root / "prefix"), etc=str(self.root / "etc")
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def _named(name: str) -> str:
    return f"[global]\nindex-url = https://{name}/simple\n"


def test_without_any_configuration_it_is_pypi(machine: Machine) -> None:
    config = machine.read()
    assert config.index_urls == ("https://pypi.org/simple",)
    assert (config.find_links, config.cert, config.proxy, config.timeout_s, config.retries) == ((), None, None, 15, 5)


def test_files_override_each_other_in_the_order_of_pip(machine: Machine) -> None:
    weakest_first = [
        "xdg/pip/pip.conf",
        "etc/pip.conf",
        "home/.pip/pip.conf",
        "home/.config/pip/pip.conf",
        "venv/pip.conf",
        "prefix/pip.conf",
    ]
    for i, path in enumerate(weakest_first):
        machine.write(path, _named(f"host{i}"))
        assert machine.read(VIRTUAL_ENV=str(machine.root / "venv")).index_urls == (f"https://host{i}/simple",)
    chosen = machine.write("chosen.conf", _named("chosen"))
    assert machine.read(PIP_CONFIG_FILE=str(chosen)).index_urls == ("https://chosen/simple",)
    variables = {"PIP_CONFIG_FILE": str(chosen), "PIP_INDEX_URL": "https://variable/simple"}
    assert machine.read(**variables).index_urls == ("https://variable/simple",)
    assert machine.read("https://lepton/simple", **variables).index_urls == ("https://lepton/simple",)


def test_a_chosen_file_replaces_those_of_the_user_only(machine: Machine) -> None:
    machine.write("home/.config/pip/pip.conf", _named("user"))
    machine.write("etc/pip.conf", "[global]\ncert = /etc/ca.pem\n")
    config = machine.read(PIP_CONFIG_FILE=str(machine.write("chosen.conf", "[global]\ntimeout = 7\n")))
    assert (config.index_urls, config.cert, config.timeout_s) == (("https://pypi.org/simple",), "/etc/ca.pem", 7)


def test_the_null_device_turns_files_off(machine: Machine) -> None:
    machine.write("etc/pip.conf", _named("etc"))
    assert machine.read(PIP_CONFIG_FILE=os.devnull).index_urls == ("https://pypi.org/simple",)


def test_sections_and_spellings(machine: Machine) -> None:
    machine.write("etc/pip.conf", "[install]\nindex_url = https://i/s\n[global]\nindex-url = https://g/s\nRETRIES=2\n")
    machine.write("prefix/pip.conf", "[list]\nindex-url = https://other-command/s\n")
    config = machine.read()
    assert (config.index_urls, config.retries) == (("https://i/s",), 2)


def test_lists_and_no_index(machine: Machine) -> None:
    machine.write(
        "etc/pip.conf", "[global]\nextra-index-url =\n  https://a/s\n  file:///opt/b\nfind-links = ~/w https://c/l\n"
    )
    config = machine.read()
    assert config.index_urls == ("https://pypi.org/simple", "https://a/s", "file:///opt/b")
    assert config.find_links == ((machine.root / "home" / "w").as_uri(), "https://c/l")
    config = machine.read(PIP_NO_INDEX="1")
    assert (config.index_urls, len(config.find_links)) == ((), 2)
    assert machine.read("https://lepton/simple").find_links == ()


def test_an_empty_variable_is_no_variable(machine: Machine) -> None:
    machine.write("etc/pip.conf", _named("etc"))
    assert machine.read(PIP_INDEX_URL="").index_urls == ("https://etc/simple",)


def test_credentials_are_kept_apart_and_hidden(machine: Machine) -> None:
    config = machine.read(
        PIP_INDEX_URL="https://me:hunter2@host/simple",
        PIP_EXTRA_INDEX_URL="https://hunter3@extra/simple",
        PIP_PROXY="http://me:hunter4@proxy:3128",
    )
    assert config.index_urls == ("https://host/simple", "https://extra/simple")
    assert config.credentials.find("https://host/x") == Credentials("me", "hunter2")
    assert config.credentials.find("https://extra/x") == Credentials("hunter3", "")
    assert "hunter" not in repr(config)


def test_certificates_and_numbers(machine: Machine) -> None:
    assert machine.read(PIP_CERT="/a.pem", REQUESTS_CA_BUNDLE="/b.pem").cert == "/a.pem"
    assert machine.read(REQUESTS_CA_BUNDLE="/b.pem", CURL_CA_BUNDLE="/c.pem").cert == "/b.pem"
    assert machine.read(PIP_CLIENT_CERT="/d.pem").client_cert == "/d.pem"
    assert machine.read(PIP_DEFAULT_TIMEOUT="180").timeout_s == 180


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PIP_TIMEOUT", "soon"), ("PIP_RETRIES", "-1"), ("PIP_TIMEOUT", "nan"), ("PIP_NO_INDEX", "maybe")],
)
def test_a_value_that_does_not_parse_is_named(machine: Machine, variable: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"expected .* got '{value}'"):
        machine.read(**{variable: value})


def test_a_broken_file_is_named_and_not_quoted(machine: Machine) -> None:
    path = machine.write("etc/pip.conf", "index-url = https://me:hunter2@host/simple\n")
    with pytest.raises(InvalidRequest, match="expected a pip configuration file") as caught:
        machine.read()
    assert str(path) in str(caught.value)
    assert "hunter2" not in str(caught.value)
