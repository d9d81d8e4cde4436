from __future__ import annotations

import pytest
from tests.models.tiny import Changes, step, tiny_model

from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.backends.cpu.work import CpuOp, Product, StepShape, Work
from lepton_ai.config import Limits, Policy
from lepton_ai.models.base import Head

LIMITS = Limits(max_tokens=16, max_rows=16, max_seqs=4, max_model_len=128)
# A sequence that decodes, and one of which three tokens are read.
SHAPE = StepShape(query_lengths=(1, 3), kv_lengths=(10, 3), num_rows=2)


def compiled(
    architecture: str = "llama", changes: Changes | None = None, *, head: Head = "logits", policy: Policy = Policy.EXACT
) -> CpuExecutable:
    model, store = tiny_model(architecture, changes or {})
    return CpuBackend(CpuDevice(num_threads=1)).compile(model.build(head=head), store, LIMITS, policy=policy)


def works(executable: CpuExecutable) -> dict[tuple[str, str], Work]:
    """Those of the last op of each kind and name."""
    return {(op.op, op.name): op.work(SHAPE) for op in executable.ops}


def test_ops_are_called_alike_in_every_layer() -> None:
    names = [(op.op, op.name) for op in compiled().ops]
    layer = [
        ("kv_write", "attn"),
        ("attention", "attn"),
        ("attention_merge", "attn"),
        ("linear", "attn_output"),
        ("add_norm", "ffn_norm"),
        ("gated_linear", "ffn_gate/up"),
        ("linear", "ffn_down"),
    ]
    products = ("linear", "attn_q/k/v")
    assert names[:4] == [("embedding", "token_embd"), ("rope_table", "rope_table"), ("rms_norm", "attn_norm"), products]
    assert names[4:13] == [*layer, ("add_norm", "attn_norm"), products]
    assert [name for name in names[13:] if name[0] != "gather_rows"] == [
        *layer,
        ("add_norm", "output_norm"),
        ("linear", "logits"),
        ("sample", "sample"),
    ]


def test_bytes_and_multiply_adds_of_products() -> None:
    # 64 channels, 4 heads and 2 of keys, each of 16; 96 of feed-forward; rows of 4 tokens, and of 2 that are wanted.
    executable = compiled()
    first = next(op for op in executable.ops if op.name == "ffn_down").work(SHAPE)
    assert first == Work(4 * 64 * 96, 0, 4 * 4 * (96 + 64), (Product("blk.0.ffn_down.weight", 4, 4 * 64 * 96),))
    work = works(executable)
    assert work["linear", "ffn_down"].products == (Product("blk.1.ffn_down.weight", 2, 2 * 64 * 96),)
    attention = work["linear", "attn_q/k/v"]
    assert (attention.weight_bytes, attention.activation_bytes) == (4 * 64 * 128, 4 * 4 * (64 + 128))
    assert [product.macs for product in attention.products] == [4 * 64 * n for n in (64, 32, 32)]
    gated = work["gated_linear", "ffn_gate/up"]
    assert (gated.weight_bytes, gated.macs) == (2 * 4 * 64 * 96, 2 * 2 * 64 * 96)
    assert gated.activation_bytes == 2 * 4 * (64 + 96)
    # 50 channels fill four panels of 16, and their rows end at whole cache lines.
    assert work["linear", "logits"].weight_bytes == 4 * 64 * 64
    assert work["linear", "logits"].macs == 2 * 50 * 64
    assert work["sample", "sample"] == Work(activation_bytes=2 * 256)


def test_bytes_and_multiply_adds_of_attention() -> None:
    work = works(compiled())
    per_token = 2 * 2 * 16 * 4
    assert work["kv_write", "attn"] == Work(kv_bytes=4 * per_token, activation_bytes=4 * 4 * (32 + 32 + 16))
    # One query sees 10 keys, the others 1, 2 and 3; each pair is multiplied as key and as value.
    expected = Product(None, 4, 2 * (10 + 1 + 2 + 3) * 4 * 16)
    assert work["attention", "attn"] == Work(0, (10 + 3) * per_token, 4 * 4 * (64 + 16 + 64), (expected,))
    assert work["attention_merge", "attn"] == Work()


def test_a_window_bounds_the_keys() -> None:
    changes = {"attention.sliding_window": 2, "attention.key_length": 16, "attention.value_length": 16}
    op = next(op for op in compiled("gemma3", changes).ops if op.op == "attention")
    work = op.work(SHAPE)
    # One query sees 2 keys; three see 1, 2 and 2, of all 3.
    assert work.kv_bytes == (2 + 3) * 2 * 2 * 16 * 4
    assert work.macs == 2 * (2 + 1 + 2 + 2) * 4 * 16


def test_bytes_of_other_ops() -> None:
    work = works(compiled())
    assert work["embedding", "token_embd"] == Work(4 * (64 * 64 * 4) // 50, 0, 4 * 64 * 4)
    assert work["rms_norm", "attn_norm"] == Work(64 * 4, 0, 2 * 4 * 64 * 4)
    assert work["add_norm", "output_norm"] == Work(64 * 4, 0, 4 * 2 * 64 * 4)
    assert work["gather_rows", "ffn_residual"] == Work(activation_bytes=2 * 2 * 64 * 4)


def test_rows_of_two_terms_are_multiplied_twice() -> None:
    changes = {"embedding_length": 128}
    for policy, terms in ((Policy.EXACT, 1), (Policy.FAST, 2)):
        work = works(compiled("llama", changes, policy=policy))
        assert work["linear", "logits"].macs == terms * 2 * 50 * 128


def test_known_tokens_are_scored_without_logits() -> None:
    work = {op: each for (op, _), each in works(compiled(head="logprobs")).items()}
    assert work["token_logprob"].products == (Product("output.weight", 2, 2 * 50 * 64),)
    assert work["token_logprob_merge"] == Work()
    assert "sample" not in work


def test_the_shape_of_a_step() -> None:
    inputs = step([(9, [1], [0]), (0, [1, 2, 3], [1])], logit_rows=[0, 3])
    assert StepShape.of(inputs) == SHAPE
    assert SHAPE.num_tokens == 4 and SHAPE.sizes == {"T": 4, "R": 2, "S": 2}


@pytest.mark.parametrize("num_threads", [1, 2])
def test_seconds_of_ops_add_up_to_those_of_kinds(num_threads: int) -> None:
    model, store = tiny_model()
    backend = CpuBackend(CpuDevice(num_threads=num_threads))
    executable = backend.compile(model.build(head="logits"), store, LIMITS, policy=Policy.EXACT)
    cache, inputs = backend.allocate_kv(model.kv_specs(), [4]), step([(0, [1, 2, 3], [0])])
    executable.run(inputs, cache)
    ops = executable.ops
    assert executable.take_op_seconds() == [(0.0, 0.0)] * len(ops)
    executable.set_timing(enabled=True)
    num_steps = 200
    for _ in range(num_steps):
        executable.run(inputs, cache)
    by_op = _by_kind(ops, executable.take_op_seconds())
    assert sum(executable.take_seconds().values()) == 0.0
    for _ in range(num_steps):
        executable.run(inputs, cache)
    by_kind = executable.take_seconds()
    assert executable.take_op_seconds() == [(0.0, 0.0)] * len(ops)
    # Those that this step has something for; nothing is sampled, and three tokens of one sequence are not split.
    ran = {kind for kind, seconds in by_kind.items() if seconds}
    assert ran == {kind for kind, seconds in by_op.items() if seconds} and {"linear", "attend", "norm"} <= ran
    assert 0.1 < sum(by_op.values()) / sum(by_kind.values()) < 10  # the same steps twice, on a machine with others


def _by_kind(ops: tuple[CpuOp, ...], seconds: list[tuple[float, float]]) -> dict[str, float]:
    kinds = {"attention": "attend", "attention_merge": "attend_merge", "add_norm": "norm", "rms_norm": "norm"}
    sums: dict[str, float] = {}
    for op, (waiting, working) in zip(ops, seconds, strict=True):
        kind = "linear" if op.op == "gated_linear" else kinds.get(op.op, op.op)
        sums[kind] = sums.get(kind, 0.0) + waiting + working
    return sums
