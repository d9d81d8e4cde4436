"""Jinja for templates that nobody has read: no way out of it, and no way to spend more than the budget.

Jinja's immutable sandbox closes the ways to Python's internals. On top of it, names are allowed and not forbidden:
the filters, the methods of strings and containers, and the statements that chat templates use. Everything that takes
steps or makes data (loops, calls, filters, operators, literals, output) is charged to the meter of its rendering,
which stops it in the thread that renders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context

from lepton_ai.errors import TemplateError
from lepton_ai.text import template_guards as guards
from lepton_ai.text.template_meter import Meter, TemplateLimits, is_printable
from lepton_ai.text.template_rewrite import STEP, WEIGH, rewrite

_MAX_SOURCE = 1 << 17
"""Characters of a template; the longest published ones have some twenty thousand."""


_OF_JINJA = ("_loop_vars", "_block_vars")
"""Arguments that Jinja adds to calls in loops and blocks, and takes away again."""


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_PLAIN_FILTERS = _names(
    "abs capitalize count d default dictsort e escape first float format groupby indent int items join last length "
    "list lower map max min reject rejectattr replace reverse round safe select selectattr sort string sum title trim "
    "truncate unique upper"
)

_ATTRIBUTES: Mapping[type, frozenset[str]] = MappingProxyType(
    {
        str: _names(
            "capitalize casefold count endswith find format format_map index isalnum isalpha isascii isdecimal isdigit "
            "islower isnumeric isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace "
            "rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper"
        ),
        dict: _names("copy get items keys values"),
        list: _names("copy count index"),
        tuple: _names("count index"),
    }
)


class MeteredContext(Context):
    """The state of one rendering, with its meter."""

    meter: Meter


class _Generation(Extension):
    """``{% generation %}`` marks the model's own words for training; for inference it is transparent."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares an instance attribute

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Namespace(Namespace):
    """Jinja's namespace, without names that Python itself looks up."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise TemplateError(f"chat template: expected a namespace attribute without a leading _, got {name!r}")


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox. ``compile_chat`` makes a template of source text, ``render_chat`` renders it."""

    context_class = MeteredContext
    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "**", "%"])

    def __init__(self, global_functions: Mapping[str, Callable[..., object]]) -> None:
        # Without the optimizer no expression runs before there is a meter.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=_finalize,
            extensions=[_Generation, loopcontrols],
        )
        self.globals.clear()
        self.globals |= {"dict": _make_dict, "namespace": _Namespace, "range": _range, **global_functions}
        self.filters = {name: _metered(name, self.filters[name]) for name in _PLAIN_FILTERS}
        self.filters |= {"tojson": _to_json, STEP: _step, WEIGH: _weigh}
        self.tests = {
            name: _metered_test(cast("Callable[..., bool]", function)) for name, function in self.tests.items()
        }

    def compile_chat(self, source: str) -> jinja2.Template:
        """Compile ``source``. Raises TemplateError if it is malformed or uses what is not available."""
        if len(source) > _MAX_SOURCE:
            raise TemplateError(f"chat template: expected at most {_MAX_SOURCE} characters, got {len(source)}")
        try:
            tree = self.parse(source)
            rewrite(tree)
            return jinja2.Template.from_code(self, self.compile(tree), self.globals)
        except TemplateError:
            raise
        except Exception as error:  # whatever the parser, the compiler or Python's own says of it
            raise TemplateError(f"chat template: {_describe(error)}") from error

    def render_chat(self, template: jinja2.Template, variables: Mapping[str, object], limits: TemplateLimits) -> str:
        """Render ``template``. Raises TemplateError for whatever goes wrong in it, its budgets included."""
        context = template.new_context(dict(variables))
        assert isinstance(context, MeteredContext)
        context.meter = Meter(limits)
        try:
            return "".join(template.root_render_func(context))
        except TemplateError:
            raise
        except Exception as error:  # the template's own: a wrong type, a missing key, raise_exception
            raise TemplateError(f"chat template: {_describe(error)}") from error

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Only what chat templates use of data, and Jinja's own helpers."""
        for kind, names in _ATTRIBUTES.items():
            if isinstance(obj, kind):
                return attr in names
        return isinstance(obj, Namespace | LoopContext | Macro) and super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Every call in a template comes here: functions, methods, macros, recursive loops."""
        meter = _meter(__context)
        method = getattr(__obj, "__wrapped__", __obj)
        text = getattr(method, "__self__", None)
        if isinstance(text, str) and method.__name__ in guards.STR_METHODS:
            own = {name: value for name, value in kwargs.items() if name not in _OF_JINJA}
            replaced = guards.STR_METHODS[method.__name__](meter, text, *args, **own)
            args, kwargs = (args, kwargs) if replaced is None else (replaced, {})
        result = super().call(__context, __obj, *args, **kwargs)
        meter.charge_value(result)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Every operator in a template comes here."""
        meter = _meter(context)
        if operator == "*":
            guards.multiply(meter, left, right)
        elif operator == "**":
            guards.power(left, right)
        elif operator == "%" and isinstance(left, str):
            guards.percent_format(meter, left, right)
        result = super().call_binop(context, operator, left, right)
        meter.charge_value(result)
        return result


def _meter(context: Context) -> Meter:
    assert isinstance(context, MeteredContext)
    return context.meter


def _describe(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    place = f" (line {line})" if isinstance(line, int) else ""
    return f"{str(error) or type(error).__name__}{place}"


def _metered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    guard = guards.FILTERS.get(name)

    @pass_context
    def metered(context: Context, value: object, *args: Any, **kwargs: Any) -> Any:
        meter = _meter(context)
        meter.charge(1)
        replaced = guard(meter, value, *args, **kwargs) if guard else None
        values, named = ((value, *args), kwargs) if replaced is None else (replaced, {})
        result = context.call(function, *values, **named)
        if isinstance(result, Iterator):
            return _metered_items(meter, result)
        meter.charge_value(result)
        return result

    return metered


def _metered_items(meter: Meter, items: Iterator[object]) -> Iterator[object]:
    for item in items:
        meter.charge_value(item)
        yield item


def _metered_test(function: Callable[..., bool]) -> Callable[..., bool]:
    @pass_context
    def metered(context: Context, value: object, *args: Any) -> bool:
        _meter(context).charge(1)
        return bool(context.call(function, value, *args))

    return metered


@pass_context
def _finalize(context: Context, value: object) -> object:
    if not is_printable(value):
        raise TemplateError(f"chat template: expected text or data to write, got {type(value).__name__}")
    _meter(context).charge_value(value)
    return value


@pass_context
def _to_json(context: Context, value: object, *args: Any, **kwargs: Any) -> str:
    return guards.to_json(_meter(context), value, *args, **kwargs)


@pass_context
def _step(context: Context, units: int) -> bool:
    _meter(context).charge(units)
    return True


@pass_context
def _weigh(context: Context, value: object) -> object:
    _meter(context).charge_value(value)
    return value


@pass_context
def _range(context: Context, *bounds: int) -> range:
    numbers = range(*bounds)
    limit = _meter(context).limits.max_range
    # len() itself fails for more than a machine word of numbers.
    if numbers and abs(numbers[-1] - numbers[0]) // abs(numbers.step) >= limit:
        raise TemplateError(f"chat template: expected a range of at most {limit} numbers, got {numbers}")
    return numbers


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)
