"""The operations of a template whose result can be far larger than their arguments, each priced before it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from lepton_ai.errors import TemplateError
from lepton_ai.text.template_meter import Meter

_MAX_WIDTH = 1000
_MAX_INT_BITS = 1 << 14
_MAX_PRECISION = 32

_PERCENT_FIELD = re.compile(r"%[^a-zA-Z%]*")
_BRACE_WIDTH = re.compile(r"\{[^{}]*:[^{}]*(?:\d{4}|\{)")

Guard = Callable[..., tuple[object, ...]]
"""Takes the meter and an operation's arguments; gives the arguments to use. Raises TemplateError if it costs too much.
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


def _join_method(meter: Meter, separator: str, items: Iterable[object]) -> tuple[object, ...]:
    parts = list(items)
    meter.charge(meter.weigh(parts) + len(parts) * len(separator))
    return (parts,)


def _replace(meter: Meter, text: object, old: str, new: str, count: int | None = None) -> tuple[object, ...]:
    if not isinstance(old, str) or not isinstance(new, str):
        raise _refuse("replace: expected strings", f"{type(old).__name__} and {type(new).__name__}")
    occurrences = str(text).count(old)
    if count is not None and count >= 0:
        occurrences = min(occurrences, count)
    meter.charge(meter.weigh(text) + occurrences * len(new))
    return (old, new) if count is None else (old, new, count)


def _brace_format(meter: Meter, template: str, *values: object, **named: object) -> tuple[object, ...]:
    if _BRACE_WIDTH.search(template):
        raise _refuse("format: expected field widths up to 999", template[:40])
    meter.charge(len(template) + template.count("{") * (_MAX_WIDTH + meter.weigh([values, named])))
    return values


STR_METHODS: Mapping[str, Guard] = MappingProxyType(
    {"join": _join_method, "replace": _replace, "format": _brace_format, "format_map": _brace_format}
)
"""Guards of the methods of ``str``: called with the meter, the string and the positional arguments."""


def _join_filter(meter: Meter, items: Iterable[object], d: object = "", attribute: object = None) -> tuple[object, ...]:
    parts = list(items)
    meter.charge(meter.weigh(parts) + len(parts) * meter.weigh(d))
    return (parts, d, attribute)


def _replace_filter(meter: Meter, text: object, old: str, new: str, count: int | None = None) -> tuple[object, ...]:
    return (text, *_replace(meter, text, old, new, count))


def _indent(
    meter: Meter, text: str, width: int | str = 4, first: bool = False, blank: bool = False
) -> tuple[object, ...]:
    columns = width if isinstance(width, int) else len(width)
    meter.charge(len(text) + (text.count("\n") + 1) * max(columns, 0))
    return (text, width, first, blank)


def _round(meter: Meter, value: object, precision: int = 0, method: str = "common") -> tuple[object, ...]:
    if not isinstance(precision, int) or abs(precision) > _MAX_PRECISION:
        raise _refuse(f"round: expected a precision up to {_MAX_PRECISION}", precision)
    return (value, precision, method)


def _sum(meter: Meter, items: object, attribute: object = None, start: object = 0) -> tuple[object, ...]:
    if not isinstance(start, int | float):
        raise _refuse("sum: expected a number to start with", type(start).__name__)
    return (items, attribute, start)


def _format_filter(meter: Meter, template: object, *values: object, **named: object) -> tuple[object, ...]:
    percent_format(meter, str(template), [values, named])
    return (template, *values)


FILTERS: Mapping[str, Guard] = MappingProxyType(
    {
        "format": _format_filter,
        "indent": _indent,
        "join": _join_filter,
        "replace": _replace_filter,
        "round": _round,
        "sum": _sum,
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
    meter.charge_value([value, separators, indent])
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    chunks: list[str] = []
    for chunk in encoder.iterencode(value):
        meter.charge(len(chunk))
        chunks.append(chunk)
    return "".join(chunks)
