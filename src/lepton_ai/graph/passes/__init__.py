"""Passes: plain functions ``Graph -> Graph``, and the planner that ends the chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lepton_ai.config import Limits, Policy
from lepton_ai.errors import InvalidRequest
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.passes.fuse import fuse as fuse_graph
from lepton_ai.graph.passes.plan import Plan
from lepton_ai.graph.passes.plan import plan as plan_graph
from lepton_ai.graph.passes.precision import StorageType, apply_precision
from lepton_ai.graph.passes.rows import narrow_rows
from lepton_ai.graph.tensor import DType

__all__ = ["lower"]


def lower(
    graph: Graph,
    weight_types: Mapping[str, StorageType],
    policy: Policy,
    *,
    limits: Limits,
    taps: Sequence[str] = (),
    kv_dtype: DType | None = None,
) -> Plan:
    """Precision, narrowing of rows, fusion and planning of a traced graph.

    Tensors in ``taps`` are kept whole, in f32, and live to the end. ``kv_dtype`` None is that of ``policy``.

    Raises InvalidRequest for a tap that names no tensor made by ``graph``.
    """
    made = {t.name for node in graph.nodes for t in node.outputs}
    unknown = [name for name in taps if name not in made]
    if unknown:
        raise InvalidRequest(f"taps: the graph makes no tensor called {unknown[0]!r}", param="taps")
    precise = apply_precision(graph, weight_types, policy, cache_dtype=kv_dtype)
    return plan_graph(fuse_graph(narrow_rows(precise, taps), taps), limits, taps)
