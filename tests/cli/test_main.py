from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.cli.conftest import Lepton

from lepton_ai import __version__
from lepton_ai.cli import main as main_module
from lepton_ai.cli.main import Invocation
from lepton_ai.cli.verbs import VERBS, Verb
from lepton_ai.errors import ContextLengthExceeded, InvalidRequest, LeptonError, ModelNotFound


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes ``lepton list`` raise."""

    def install(error: BaseException) -> None:
        def fail(*, json: bool = False) -> None:
            raise error

        monkeypatch.setattr("lepton_ai.cli.models.list_models", fail)

    return install


def test_version(lepton: Lepton) -> None:
    result = lepton("--version")
    assert (result.status, result.out, result.err) == (0, f"lepton {__version__}\n", "")


@pytest.mark.parametrize("argv", [(), ("--help",)])
def test_help_lists_every_verb(lepton: Lepton, argv: tuple[str, ...]) -> None:
    result = lepton(*argv)
    assert result.status == 0
    assert all(f"{verb.name} " in result.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: str(verb.name))
def test_every_verb_has_help_with_an_example(lepton: Lepton, verb: Verb) -> None:
    result = lepton(verb.name, "--help")
    assert result.status == 0
    assert "--json" in result.out
    assert f"lepton {verb.name} " in result.out.partition("Example")[2]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LeptonError("it broke"), 1),
        (ModelNotFound("it broke"), 1),
        (ContextLengthExceeded("it broke"), 1),
        (InvalidRequest("it broke"), 2),
    ],
)
def test_an_error_is_one_line_and_a_status(
    lepton: Lepton, failing: Callable[[BaseException], None], error: LeptonError, status: int
) -> None:
    failing(error)
    result = lepton("list")
    assert (result.status, result.out, result.err) == (status, "", f"error: it broke [{error.code}]\n")


def test_an_error_as_json_goes_to_standard_output(lepton: Lepton, failing: Callable[[BaseException], None]) -> None:
    failing(ModelNotFound("no [bold]such[/bold] é", param="model"))
    result = lepton("list", "--json")
    assert (result.status, result.err) == (1, "")
    assert result.json() == {
        "error": {"message": "no [bold]such[/bold] é", "code": "model_not_found", "status": 404, "param": "model"}
    }


def test_a_hostile_message_stays_one_plain_line(lepton: Lepton, failing: Callable[[BaseException], None]) -> None:
    failing(LeptonError("a\nb\x1b[2J [red]c[/red] \ud800 " + "long " * 100))
    result = lepton("list")
    assert result.err.count("\n") == 1 and "\x1b" not in result.err
    assert "a�b�[2J [red]c[/red] �" in result.err


def test_a_defect_is_one_line_and_a_hint(lepton: Lepton, failing: Callable[[BaseException], None]) -> None:
    failing(ZeroDivisionError("division by zero"))
    result = lepton("list")
    assert result.status == 70
    assert result.err.startswith("error: ZeroDivisionError: division by zero; ") and "--debug" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("argv", [("--debug", "list"), ("list", "--debug"), ("list", "--debug", "--json")])
def test_debug_adds_the_traceback(
    lepton: Lepton, failing: Callable[[BaseException], None], argv: tuple[str, ...]
) -> None:
    failing(ModelNotFound("it broke"))
    result = lepton(*argv)
    assert result.status == 1
    assert "Traceback" in result.err and "ModelNotFound: it broke" in result.err


def test_an_interrupt_is_quiet(lepton: Lepton, failing: Callable[[BaseException], None]) -> None:
    failing(KeyboardInterrupt())
    result = lepton("list")
    assert (result.status, result.out, result.err) == (130, "", "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("lst",), "Did you mean 'list'?; see lepton --help"),
        (("list", "--frob"), "--frob; see lepton list --help"),
        (("--frob",), "--frob; see lepton --help"),
        (("rm",), "Missing argument"),
        (("list", "extra"), "unexpected extra argument"),
    ],
)
def test_wrong_arguments(lepton: Lepton, argv: tuple[str, ...], message: str) -> None:
    result = lepton(*argv)
    assert result.status == 2
    assert message in result.err and result.err.endswith("[invalid_request]\n")
    assert lepton(*argv, "--json").json()["error"]


def test_flags_after_two_dashes_are_arguments() -> None:
    assert Invocation.parse(["a", "--debug", "--", "--debug", "--json"]) == Invocation(
        ("a", "--", "--debug", "--json"), wants_json=False, wants_traceback=True
    )


def test_only_the_named_verb_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    verbs = (Verb("list", "models", "list_models", "x"), Verb("broken", "no_such_module", "f", "Broken."))
    monkeypatch.setattr(main_module, "VERBS", verbs)
    assert main_module.main(["list", "--help"]) == 0
    assert main_module.main(["broken"]) == 70


def _python(*argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_the_module_is_the_command() -> None:
    assert _python("-m", "lepton_ai", "--version").stdout == f"lepton {__version__}\n"


@pytest.mark.parametrize("argv", [("--version",), ("--help",)])
def test_start_imports_nothing_heavy(argv: tuple[str, ...]) -> None:
    code = (
        "import sys; from lepton_ai.cli.main import main; main(sys.argv[1:]);"
        "heavy = {'numpy', 'rich.progress', 'tokenizers', 'jinja2', 'urllib.request', 'lepton_ai.engine'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    assert _python("-c", code, *argv).stderr == "[]\n"


def test_a_reader_that_has_gone_is_no_error(home: object) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as pipe:
        process = subprocess.run(
            [sys.executable, "-m", "lepton_ai", "list"], stdout=pipe, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert (process.returncode, process.stderr) == (141, b"")


@pytest.mark.parametrize(("argv", "status"), [(("list",), 0), (("pull", "nonesuch"), 1), (("run",), 2)])
def test_the_command_ends_with_its_status_and_all_it_wrote(home: object, argv: tuple[str, ...], status: int) -> None:
    done = _python("-m", "lepton_ai", *argv, "--json")
    assert done.returncode == status and done.stderr == ""
    assert ("error" in json.loads(done.stdout)) == (status != 0)


def test_output_that_fits_nowhere_is_reported(home: object) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "lepton_ai", "list"], stdout=full, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert process.returncode == 70 and b"No space left on device" in process.stderr
