"""Chat templates that come with a hostile model file: the request fails, and the server does not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.attacks.harness import CHAT, MESSAGES, Target
from tests.serve.running import running

HOSTILE = {
    "a billion steps": "{% for i in range(1000000000) %}x{% endfor %}",
    "steps of steps": "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
    "a long text": "{{ 'x' * 10**9 }}",
    "a doubled text": "{% set ns = namespace(t='x') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
    "a doubled list": "{% set ns = namespace(t=[1]) %}{% for i in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
    "a padded text": "{{ '%1000000000d' % 1 }}",
    "a huge power": "{{ 10 ** (10 ** 9) }}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__ }}",
    "code": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "attributes by name": "{{ ''|attr('__class__') }}",
    "a format": "{{ '{0.__class__}'.format(1) }}",
    "an import": "{% import 'os' as os %}{{ os }}",
    "an include": "{% include '/etc/passwd' %}",
    "a macro of itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "its own error": "{{ raise_exception('no') }}",
    "no template": "{% for %}",
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(folder / "home"))
        models: dict[str, Path] = {"tiny": tiny_gguf(folder / "tiny.gguf")}
        for number, source in enumerate(HOSTILE.values()):
            models[f"hostile-{number}"] = tiny_gguf(folder / f"hostile-{number}.gguf", template=source)
        with running(models) as server:
            made = Target(server)
            yield made
            made.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template(hostile: Target, name: str) -> None:
    body = {"model": f"hostile-{list(HOSTILE).index(name)}", "messages": MESSAGES, "max_tokens": 2}
    error = hostile.refused(CHAT, body)
    # What the sandbox gives no value to leaves an empty prompt.
    assert error["code"] == "template_error" or "prompt: expected at least one token" in error["message"], error
    hostile.check()
