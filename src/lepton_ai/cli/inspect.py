"""``lepton inspect``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer

from lepton_ai.cli.loading import OnDemandProgress
from lepton_ai.cli.options import Json, ModelName, PolicyOption
from lepton_ai.cli.output import format_bytes, print_json, print_line
from lepton_ai.cli.summary import Summary, summarize
from lepton_ai.cli.table import print_fields, print_table
from lepton_ai.config import Environment, Policy
from lepton_ai.engine.encoder import sentence_defaults, usual_heads
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.graph.passes import lower
from lepton_ai.graph.passes.plan import Plan, PlanRow, format_plan
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.registry import read_model
from lepton_ai.weights.checkpoint import Checkpoint, open_checkpoint
from lepton_ai.weights.folder import CheckpointFolder
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.sources.resolve import resolve
from lepton_ai.weights.store import check_strict

GraphFlag = Annotated[bool, typer.Option("--graph", help="Print the plan: what a step runs, in order.")]
Tokens = Annotated[
    int, typer.Option("--tokens", min=1, max=1 << 20, help="Most tokens of a step, for which the plan is made.")
]

_SHOWN_CHARACTERS = 80


def inspect(
    model: ModelName,
    *,
    graph: GraphFlag = False,
    policy: PolicyOption = Policy.AUTO,
    tokens: Tokens = 512,
    json: Json = False,
) -> None:
    """Show what is in a model file, and with --graph how it would run under a policy. Nothing is run.

    The plan has a line for each tensor that a step makes: its op, shape (T tokens, R rows whose logits are wanted) and
    type, where it lies in the activation arena, and the weights that are read. Tensors that are not alive together
    share their place.

    \b
    Examples:
      lepton inspect smollm2
      lepton inspect smollm2 --graph --policy exact
    """
    environment = Environment.read()
    with open_checkpoint(resolve(model, environment, OnDemandProgress()), environment.home) as file:
        if graph:
            plan, types = make_plan(file, policy, tokens)
            _show_plan(plan, types, policy, wants_json=json)
        else:
            _show_summary(file, summarize(file, policy), wants_json=json)


def make_plan(file: Checkpoint, policy: Policy, num_tokens: int) -> tuple[Plan, Mapping[str, WeightType]]:
    """The plan that ``LLM`` would run, and the stored types of its weights. Raises what loading a model raises."""
    model, store = read_model(file)
    options = LoadOptions(max_tokens_per_step=num_tokens)
    if isinstance(model, EncoderModel):
        traced = model.build(heads=usual_heads(model, sentence_defaults(model, file).pooling))
        limits = options.encoder_limits(model.config.context_length)
    else:
        traced = model.build(head="logits")
        limits = options.decoder_limits(model.config.context_length)
    check_strict(store, traced.weights(), model.ignorable_names())
    types = {weight.name: store.get(weight.name).type for weight in traced.weights()}
    return lower(traced, types, policy, limits=limits), types


def _show_plan(plan: Plan, types: Mapping[str, WeightType], policy: Policy, *, wants_json: bool) -> None:
    rows, limits = format_plan(plan, types), plan.limits
    sizes = {"max_tokens": limits.max_tokens, "max_rows": limits.max_rows, "max_seqs": limits.max_seqs}
    if wants_json:
        print_json(
            {
                "policy": policy.value,
                **sizes,
                "arena_bytes": plan.arena_bytes,
                "num_nodes": len(plan.graph.nodes),
                "tensors": [asdict(row) for row in rows],
            }
        )
        return
    headers = ("op", "tensor", "shape", "type", "offset", "bytes", "inputs", "weights")
    print_table(headers, [_plan_cells(row) for row in rows], right=("offset", "bytes"))
    print_line()
    shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
    print_line(
        f"{len(plan.graph.nodes)} ops, {len(rows)} tensors, {plan.arena_bytes:,} bytes of arena"
        f" under policy {policy.value} with {shown}"
    )


def _plan_cells(row: PlanRow) -> tuple[str, ...]:
    inputs, weights = "; ".join(row.inputs) or "-", "; ".join(row.weights) or "-"
    return row.op, row.name, row.shape, row.dtype, f"{row.offset:,}", f"{row.num_bytes:,}", inputs, weights


def _show_summary(file: Checkpoint, summary: Summary, *, wants_json: bool) -> None:
    if wants_json:
        print_json(
            {**asdict(summary), "metadata": {key: _json_value(*entry) for key, entry in _metadata(file).items()}}
        )
        return
    template = "none" if summary.chat_template_characters is None else f"{summary.chat_template_characters} characters"
    architecture = summary.architecture if summary.problem is None else f"{summary.architecture}: {summary.problem}"
    print_fields(
        [
            ("file", f"{summary.path}, {format_bytes(summary.size_bytes)}, {summary.format}"),
            ("sha256", summary.digest),
            ("name", summary.name or "-"),
            ("architecture", architecture),
            ("context", "-" if summary.context_length is None else f"{summary.context_length} tokens"),
            ("parameters", f"{summary.num_parameters:,}"),
            ("bits per weight", f"{summary.bits_per_weight:.2f}"),
            (f"cache ({summary.policy})", _bytes_per_token(summary.kv_bytes_per_token)),
            ("chat template", template),
        ]
    )
    print_line()
    print_table(
        ("type", "tensors", "parameters", "bytes"),
        [(t.type, str(t.num_tensors), f"{t.num_parameters:,}", f"{t.num_bytes:,}") for t in summary.types],
        right=("tensors", "parameters", "bytes"),
    )
    print_line()
    print_table(
        ("metadata", "type", "value"),
        [(key, name, _shown_value(value)) for key, (name, value) in _metadata(file).items()],
    )


def _bytes_per_token(num_bytes: int | None) -> str:
    return "-" if num_bytes is None else f"{num_bytes:,} bytes a token"


def _metadata(file: Checkpoint) -> dict[str, tuple[str, object]]:
    """Type and value of each key; no value for what may hold a vocabulary."""
    if isinstance(file, CheckpointFolder):
        return {key: (type(value).__name__, value) for key, value in file.config.items()}
    types = {key: file.metadata.type_name(key) for key in file.metadata}
    return {key: (name, None if name.startswith("array") else file.metadata[key]) for key, name in types.items()}


def _json_value(name: str, value: object) -> object:
    """JSON has no word for what is not finite."""
    if value is None:
        return name
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _shown_value(value: object) -> str:
    if value is None:
        return "-"
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
