"""The operations of a template whose result can be far larger than their arguments, each priced before it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from lepton_ai.errors import TemplateError
from lepton_ai.text.template_meter import NODE_UNITS, Meter

_MAX_WIDTH = 1000
_MAX_INT_BITS = 1 << 14
_MAX_PRECISION = 32
_MAX_INDENT = 64

_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"

_PERCENT_FIELD = re.compile(r"%[^a-zA-Z%]*")
_BRACE_WIDTH = re.compile(r"\{[^{}]*:[^{}]*(?:\d{4}|\{)")

Guard = Callable[..., tuple[object, ...] | None]
"""Takes the meter and an operation's arguments, and raises TemplateError if they cost too much. What it returns, where
it had to read an iterator, are the arguments to use instead.
"""


def _refuse(what: str, got: object) -> TemplateError:
    return TemplateError(f"chat template: {what}, got {got!r}")


def multiply(meter: Meter, left: object, right: object) -> None:
    """Price ``left * right``: repetition of a sequence, or a product of long integers."""
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int):
            meter.charge(meter.weigh(sequence) * max(count, 1))
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _MAX_INT_BITS:
        raise _refuse(f"expected a product below 2^{_MAX_INT_BITS}", "more")


def power(left: object, right: object) -> None:
    """Price ``left ** right``."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > _MAX_INT_BITS:
        raise _refuse(f"expected a power below 2^{_MAX_INT_BITS}", "more")


def percent_format(meter: Meter, template: str, values: object) -> None:
    """Price ``template % values``."""
    fields = _PERCENT_FIELD.findall(template)
    for field in fields:
        if "*" in field or any(int(digits[:5]) > _MAX_WIDTH for digits in re.findall(r"\d+", field)):
            raise _refuse(f"expected field widths up to {_MAX_WIDTH}", field[:40])
    meter.charge(len(template) + len(fields) * (_MAX_WIDTH + meter.weigh(values)))


def _listed(meter: Meter, items: Iterable[object]) -> list[object]:
    if isinstance(items, str):
        meter.charge(NODE_UNITS * len(items))
    return list(items)


def _characters(meter: Meter, items: object, *values: object, **named: object) -> None:
    if isinstance(items, str):
        meter.charge(NODE_UNITS * len(items))


def _split(meter: Meter, text: str, sep: str | None = None, maxsplit: int = -1) -> None:
    parts = text.count(sep) if sep else len(text) // 2
    meter.charge(NODE_UNITS * parts)


def _split_backwards(meter: Meter, text: str, sep: str | None = None, maxsplit: int = -1) -> None:
    _search_backwards(meter, text, sep or "")
    _split(meter, text, sep, maxsplit)


def _split_lines(meter: Meter, text: str, keepends: bool = False) -> None:
    meter.charge(NODE_UNITS * sum(text.count(end) for end in _LINE_ENDS))


def _search_backwards(meter: Meter, text: str, wanted: str, *bounds: int) -> None:
    # CPython searches forwards in linear time, backwards in the product of the lengths.
    meter.charge(len(text) * len(wanted) >> 4)


def _strip(meter: Meter, text: str, chars: str | None = None) -> None:
    meter.charge(len(text) * len(chars or "") >> 4)


def _trim_filter(meter: Meter, value: object, chars: str | None = None) -> None:
    _strip(meter, str(value), chars)


def _join_method(meter: Meter, separator: str, items: Iterable[object]) -> tuple[object, ...]:
    parts = _listed(meter, items)
    meter.charge(meter.weigh(parts) + len(parts) * len(separator))
    return (parts,)


def _replace(meter: Meter, text: object, old: str, new: str, count: int | None = None) -> None:
    if not isinstance(old, str) or not isinstance(new, str):
        raise _refuse("replace: expected strings", f"{type(old).__name__} and {type(new).__name__}")
    occurrences = str(text).count(old)
    if count is not None and count >= 0:
        occurrences = min(occurrences, count)
    meter.charge(meter.weigh(text) + occurrences * len(new))


def _brace_format(meter: Meter, template: str, *values: object, **named: object) -> None:
    if _BRACE_WIDTH.search(template):
        raise _refuse("format: expected field widths up to 999", template[:40])
    meter.charge(len(template) + template.count("{") * (_MAX_WIDTH + meter.weigh([values, named])))


STR_METHODS: Mapping[str, Guard] = MappingProxyType(
    {
        "format": _brace_format,
        "format_map": _brace_format,
        "join": _join_method,
        "lstrip": _strip,
        "replace": _replace,
        "rfind": _search_backwards,
        "rindex": _search_backwards,
        "rpartition": _search_backwards,
        "rsplit": _split_backwards,
        "rstrip": _strip,
        "split": _split,
        "splitlines": _split_lines,
        "strip": _strip,
    }
)
"""Guards of the methods of ``str``: called with the meter, the string and the positional arguments."""


def _join_filter(meter: Meter, items: Iterable[object], d: object = "", attribute: object = None) -> tuple[object, ...]:
    parts = _listed(meter, items)
    meter.charge(meter.weigh(parts) + len(parts) * meter.weigh(d))
    return (parts, d, attribute)


def _indent(meter: Meter, text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> None:
    columns = width if isinstance(width, int) else len(width)
    meter.charge(len(text) + (text.count("\n") + 1) * max(columns, 0))


def _round(meter: Meter, value: object, precision: int = 0, method: str = "common") -> None:
    if not isinstance(precision, int) or abs(precision) > _MAX_PRECISION:
        raise _refuse(f"round: expected a precision up to {_MAX_PRECISION}", precision)


def _sum(meter: Meter, items: object, attribute: object = None, start: object = 0) -> None:
    if not isinstance(start, int | float):
        raise _refuse("sum: expected a number to start with", type(start).__name__)


def _format_filter(meter: Meter, template: object, *values: object, **named: object) -> None:
    percent_format(meter, str(template), [values, named])


FILTERS: Mapping[str, Guard] = MappingProxyType(
    {
        "format": _format_filter,
        "indent": _indent,
        "join": _join_filter,
        "list": _characters,
        "replace": _replace,
        "round": _round,
        "sort": _characters,
        "sum": _sum,
        "trim": _trim_filter,
        "unique": _characters,
    }
)
"""Guards of filters: called with the meter, the value and the arguments."""


def to_json(
    meter: Meter,
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The ``tojson`` of chat templates: unlike Jinja's own it leaves HTML characters and other scripts as they are."""
    width = len(indent) if isinstance(indent, str) else indent
    if width is not None and not 0 <= width <= _MAX_INDENT:
        raise _refuse(f"tojson: expected an indent up to {_MAX_INDENT}", width)
    meter.charge_value([value, separators])
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    chunks: list[str] = []
    for chunk in encoder.iterencode(value):
        meter.charge(len(chunk))
        chunks.append(chunk)
    return "".join(chunks)
