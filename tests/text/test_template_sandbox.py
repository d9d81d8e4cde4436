"""Hostile templates, one by one: each ends in TemplateError, in bounded time and memory, in its own thread."""

from __future__ import annotations

import threading
import time

import pytest

from lepton_ai.errors import TemplateError
from lepton_ai.text.template_meter import Meter, TemplateLimits
from lepton_ai.text.template_sandbox import MeteredEnvironment

_LIMITS = TemplateLimits(max_work=1 << 22, max_time_s=0.2)


def _render(source: str, **variables: object) -> str:
    environment = MeteredEnvironment({})
    return environment.render_chat(environment.compile_chat(source), variables, _LIMITS)


def test_methods_of_strings_in_loops() -> None:
    source = "{% for s in texts %}{{ s.split('|')[-1].strip('x').replace('a', 'b') }}{{ '{}.'.format(s) }}{% endfor %}"
    assert _render(source, texts=["u|xax", "a"]) == "bu|xax.ba."


_DOUBLING = "{{% set ns = namespace(s={start}) %}}{{% for i in range(99) %}}{{% set ns.s = {step} %}}{{% endfor %}}"

_ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) if range(99999) | select('none') | list %}{% endfor %}",
    "{% for i in range(99999) %}{{ range(999) | list | tojson | length }}{% endfor %}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% for x in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 60 }}{% endfor %}",
    "{% for i in range(99999) %}" + "x" * 999 + "{% endfor %}",
]

_S, _T = "{% set s = 'a' * 300000 %}", "{% set t = 'a' * 299999 ~ 'b' %}"

_SLOW_STEPS = [
    _S + _T + "{% for i in range(99999) if s < t and t < s %}{% endfor %}",
    _S + "{{ range(99999) | map(attribute='x', default=s) | sort | length }}",
    _S + "{{ range(99999) | map(attribute='x', default=s) | unique | list | length }}",
    _S + "{{ range(99999) | map(attribute='x', default=s) | max | length }}",
    _S + "{{ range(99999) | map(attribute='x', default=s) | select('upper') | list | length }}",
    "{% set many = range(50000) | list %}{{ range(50000, 99999) | select('in', many) | list | length }}",
]

_HUGE = [
    "{% for i in range(10**9) %}{% endfor %}",
    "{{ range(10**30) }}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [0] * 10**9 }}",
    "{{ 10**(10**10) }}",
    "{{ (10**4000) * (10**4000) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ ('%(a)s' * 9999) % {'a': 'b' * 9999} }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ ('{0}' * 9999).format('b' * 9999) }}",
    "{{ ('{a}' * 9999).format_map({'a': 'b' * 9999}) }}",
    "{{ range(9999) | join('a' * 9999) }}",
    "{{ ('a' * 9999).join('b' * 9999) }}",
    "{{ ('a' * 9999).replace('a', 'a' * 9999) }}",
    "{{ ('a' * 9999) | replace('', 'a' * 9999) }}",
    "{{ range(9999) | map('string') | map('replace', '1', 'a' * 9999) | join }}",
    "{{ 'a\nb' | indent(10**9) }}",
    "{{ [[1]] | tojson(indent=10**9) }}",
    "{{ 1.5 | round(10**9) }}",
    "{{ [[1] * 999] * 999 | sum(start=[]) }}",
    "{{ ('\u0101' * 999999) | list | length }}",
    "{{ ('ab ' * 999999).split() | length }}",
    "{{ ('ab,' * 999999).split(',') | length }}",
    "{{ ('ab\n' * 999999).splitlines() | length }}",
    "{{ ('a' * 999999).rfind('b' + 'a' * 499999) }}",
    "{{ ('a' * 999999).rsplit('b' + 'a' * 499999) }}",
    "{{ ('a' * 999999).strip('b' * 499999) }}",
    "{{ ('a' * 999999) | trim('b' * 499999) }}",
    _DOUBLING.format(start="'a'", step="ns.s + ns.s"),
    _DOUBLING.format(start="'a'", step="ns.s ~ ns.s"),
    _DOUBLING.format(start="[1]", step="[ns.s, ns.s]") + "{{ ns.s }}",
    _DOUBLING.format(start="(1,)", step="(ns.s, ns.s)") + "{{ ns.s == ns.s }}",
    _DOUBLING.format(start="{}", step="{'a': ns.s, 'b': ns.s}") + "{{ ns.s | tojson }}",
    _DOUBLING.format(start="{}", step="dict(a=ns.s, b=ns.s)") + "{{ ns.s | string }}",
    "{% set ns = namespace(s='a') %}{% for i in range(99) %}{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}"
    "{% set ns.s = x %}{% endfor %}",
]

_ESCAPES = [
    "{{ ''.__class__.mro() }}",
    "{{ '{0.__class__.__mro__}'.format('a') }}",
    "{{ '{0.__class__.__mro__}'.format_map({'0': 1}) }}",
    "{{ [''] | map(attribute='__class__.__mro__') | list | first | upper }}",
    "{{ '' | attr('__class__') }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ range.__globals__.x }}",
    "{{ self._TemplateReference__context.x }}",
    "{{ cycler('a') }}",
    "{{ lipsum() }}",
    "{{ namespace(__class__=1) }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{{ namespace }}",
    "{{ self }}",
    "{{ data.append(1) }}",
    "{{ data[0].update({'a': 1}) }}",
    "{{ (5).to_bytes(10**9, 'little') }}",
    "{{ 'a'.encode() }}",
    "{{ 'a'.center(10**9) }}",
    "{{ 'a' | center(10**9) }}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% extends 'x' %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{% autoescape true %}{% endautoescape %}",
]

_MALFORMED = [
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
    "{{ " + "9" * 5000 + " }}",
    "{% while true %}{% endwhile %}",
    "{{",
    "{% for %}",
    "x" * 200_000,
]


@pytest.mark.parametrize("source", [*_ENDLESS, *_SLOW_STEPS, *_HUGE, *_ESCAPES, *_MALFORMED])
def test_hostile_template_is_stopped(source: str) -> None:
    threads, start = threading.active_count(), time.thread_time()
    with pytest.raises(TemplateError):
        _render(source, data=[{}])
    assert time.thread_time() - start < 2
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ [3, 1, 2] | sort(reverse=true) | join(', ') }}", "3, 2, 1"),
        ("{{ 'a b'.split(sep=' ') | last ~ 1 ~ none }}", "b1None"),
        ("{{ ['b', 'a'] | unique | list | first }}{{ ' x ' | trim }}{{ 'xx' | replace('x', 'y', 1) }}", "bxyx"),
        ("{{ '%s-%02d' | format('a', 7) }}{{ '{}{b}'.format(1, b=2) }}{{ ', '.join(['a', 'b']) }}", "a-0712a, b"),
        ("{{ 2 * 3 }}{{ 2**10 }}{{ 7 // 2 }}{{ 7 % 4 }}{{ 'ab' * 2 }}{{ [1] + [2] }}", "6102433abab[1, 2]"),
        ("{{ {'a': [1, 'é']} | tojson }}{{ '<' | tojson }}{{ [1] | tojson(indent=1) }}", '{"a": [1, "é"]}"<"[\n 1\n]'),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i > 2 %}{% break %}{% endif %}{{ i }}"
         "{{ loop.length }}{{ loop.last }}{% endfor %}", "09False29False"),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{% macro m(x) %}<{{ x }}{{ caller() }}>{% endmacro %}{% call m(1) %}2{% endcall %}", "<12>"),
        ("{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "3"),
        ("  {% if true %}\n  a\n  {% endif %}\nb", "  a\nb"),
        ("{{ missing }}{{ missing is defined }}{{ dict(a=1).a }}{{ data | map(attribute='r') | list }}", "False1['x']"),
    ],
)  # fmt: skip
def test_what_templates_use_works(source: str, expected: str) -> None:
    assert _render(source, data=[{"r": "x"}]) == expected


def test_long_but_honest_conversation_fits_the_limits() -> None:
    environment = MeteredEnvironment({})
    template = environment.compile_chat("{% for m in messages %}{{ '<' + m.content + '>' + '\n' }}{% endfor %}")
    text = environment.render_chat(template, {"messages": [{"content": "x" * 2000}] * 1000}, TemplateLimits())
    assert len(text) == 1000 * 2003


def test_weight_counts_shared_parts_each_time() -> None:
    meter = Meter(TemplateLimits(max_work=1000))
    shared = ["abc"]
    assert meter.weigh([shared, shared]) > 2 * meter.weigh(shared)


def test_error_of_a_template_names_its_cause() -> None:
    with pytest.raises(TemplateError, match=r"No filter named 'center'. \(line 2\)"):
        _render("\n{{ 'a' | center }}")
    with pytest.raises(TemplateError, match="limit of 4194304 units"):
        _render("{{ 'a' * 10**9 }}")
