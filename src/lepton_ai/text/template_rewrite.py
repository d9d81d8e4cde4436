"""Rewrites a parsed template so that the meter sees what Jinja has no hook for."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from lepton_ai.errors import TemplateError

_FORBIDDEN_NODES = (
    nodes.Block,
    nodes.Extends,
    nodes.FromImport,
    nodes.Import,
    nodes.Include,
    nodes.ScopedEvalContextModifier,
)

# No template can spell these: a filter's name has no space.
STEP, WEIGH = "meter step", "meter weigh"
"""Filters that the rewriting puts in: one charges its value as units, one charges the weight of its value."""


def rewrite(template: nodes.Template) -> None:
    """Charge the loops, the literals and every ``~``. Raises TemplateError for a statement that is not available."""
    _Metering().visit(template)


class _Metering(NodeTransformer):
    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if isinstance(node, _FORBIDDEN_NODES):
            raise TemplateError(f"chat template: the statement {type(node).__name__.lower()} is not available")
        return super().generic_visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """A step for each pass through the body, dearer by the text that it writes."""
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_filter(nodes.Const(1 + text), STEP)))
        if node.test is not None:
            node.test = nodes.And(_filter(nodes.Const(1), STEP), node.test)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """``a ~ b`` is ``[a, b] | join``."""
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes), "join")

    def visit_List(self, node: nodes.List) -> nodes.Node:
        """A literal with variables can double what they hold."""
        self.generic_visit(node)
        return _weighed(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        """As for lists."""
        self.generic_visit(node)
        return _weighed(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        """As for lists, unless it is a target of an assignment."""
        self.generic_visit(node)
        return _weighed(node) if node.ctx == "load" else node


def _weighed(node: nodes.Expr) -> nodes.Expr:
    is_constant = all(node.find(kind) is None for kind in (nodes.Name, nodes.Call, nodes.Filter))
    return node if is_constant else _filter(node, WEIGH)


def _filter(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None)
