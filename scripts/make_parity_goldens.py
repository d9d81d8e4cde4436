"""Make the goldens of tests/parity: what ``transformers`` computes in f64 and f32 from a GGUF file.

Needs the environment of bench/parity-requirements.txt; run it from the root of the repository:

    python -m scripts.make_parity_goldens --text wiki.test.raw --name smollm2 --model FILE

It writes ``NAME.npz`` (see ``Golden``): logits over 512 tokens of text at 64 columns a position, the likeliest 16 and
others at random, and ten greedy continuations. Nothing is random but those columns, which are seeded.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

import llama_cpp
import numpy as np
import numpy.typing as npt
import torch
from scripts.gguf_to_transformers import load_model

OUTPUT = Path(__file__).resolve().parent.parent / "tests" / "parity" / "golden"

NUM_TEXT_TOKENS = 512
NUM_PROMPT_TOKENS = 20
NUM_NEW_TOKENS = 64
NUM_LIKELY, NUM_RANDOM = 16, 48

PROMPTS = (
    "The written history of the city begins in the ninth century, when a small settlement of traders was built",
    "<|im_start|>user\nExplain in three short sentences how a bicycle stays upright while it is moving.<|im_end|>\n",
    'def fibonacci(n: int) -> int:\n    """Return the n-th Fibonacci number."""\n    if n < 2:\n        return n\n',
    "从前有一座山，山上有一座庙，庙里有一个老和尚和一个小和尚。有一天，老和尚对小和尚说：",
    "1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,",
    "Ingredients: two cups of flour, one teaspoon of salt, half a cup of butter and three eggs. Method: first, mix the",
    "SELECT customers.name, SUM(orders.total) FROM customers JOIN orders ON orders.customer_id = customers.id WHERE",
    "In physics, the second law of thermodynamics states that the total entropy of an isolated system, left to itself,",
    "Dear Mr. Jones, thank you very much for your letter of the fourth of May, in which you asked us whether the goods",
    "Question: A train leaves the station at 9:15 and travels 120 kilometres in an hour and a half. What is its speed?",
)


@dataclass(frozen=True, slots=True)
class Golden:
    """What is kept. ``N`` text tokens, ``E`` entries a position, ``P`` prompts of ``L`` tokens, ``M`` new tokens.

    ``digest`` is the model file's SHA-256. ``logits`` ``[N, E]`` f64 and ``logits_f32`` are those at ``columns`` in
    either precision; ``logsumexp`` ``[N]`` likewise. ``argmax`` and ``gaps`` ``[N]`` are the likeliest token and how
    far its logit stands above the next, in f64. ``continuations`` and ``continuation_gaps`` ``[P, M]`` follow
    ``prompts`` ``[P, L]`` greedily in f64.
    """

    digest: npt.NDArray[np.str_]
    text_ids: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float64]
    logits_f32: npt.NDArray[np.float32]
    logsumexp: npt.NDArray[np.float64]
    logsumexp_f32: npt.NDArray[np.float32]
    argmax: npt.NDArray[np.int32]
    gaps: npt.NDArray[np.float64]
    prompts: npt.NDArray[np.int32]
    continuations: npt.NDArray[np.int32]
    continuation_gaps: npt.NDArray[np.float64]


def make_golden(path: Path, text: bytes) -> Golden:
    """Run the model in f64, then in f32."""
    text_ids, prompts = _tokenize(path, text)
    model = load_model(path, torch.float64)
    logits = _logits(model, text_ids)
    top = torch.topk(logits, NUM_LIKELY)
    columns = _columns(top.indices, logits.shape[1])
    continuations, continuation_gaps = _continue(model, prompts)
    del model
    logits_f32 = _logits(load_model(path, torch.float32), text_ids)
    return Golden(
        digest=np.array(hashlib.sha256(path.read_bytes()).hexdigest()),
        text_ids=text_ids,
        columns=columns.int().numpy(),
        logits=logits.gather(1, columns).numpy(),
        logits_f32=logits_f32.gather(1, columns).numpy(),
        logsumexp=logits.logsumexp(1).numpy(),
        logsumexp_f32=logits_f32.logsumexp(1).numpy(),
        argmax=top.indices[:, 0].int().numpy(),
        gaps=(top.values[:, 0] - top.values[:, 1]).numpy(),
        prompts=prompts,
        continuations=continuations,
        continuation_gaps=continuation_gaps,
    )


def _tokenize(path: Path, text: bytes) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """llama.cpp's ids of the text and of each prompt, cut to equal length; a BOS where the model wants one."""
    vocabulary = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    text_ids = vocabulary.tokenize(text[: 16 * NUM_TEXT_TOKENS], add_bos=True)[:NUM_TEXT_TOKENS]
    prompts = [vocabulary.tokenize(p.encode(), add_bos=True, special=True)[:NUM_PROMPT_TOKENS] for p in PROMPTS]
    if min(map(len, prompts)) < NUM_PROMPT_TOKENS:
        raise ValueError(f"PROMPTS: expected {NUM_PROMPT_TOKENS} tokens each, got {list(map(len, prompts))}")
    return np.array(text_ids, np.int32), np.array(prompts, np.int32)


def _logits(model: torch.nn.Module, ids: npt.NDArray[np.int32]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.from_numpy(ids).long()[None]).logits[0]
    return logits


def _columns(likely: torch.Tensor, vocab_size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    rest = torch.randint(vocab_size, (len(likely), NUM_RANDOM), generator=generator)
    return torch.cat((likely, rest), dim=1)


def _continue(
    model: torch.nn.Module, prompts: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    ids, gaps = [], []
    inputs, past = torch.from_numpy(prompts).long(), None
    for _ in range(NUM_NEW_TOKENS):
        output = model(inputs, past_key_values=past, use_cache=True, logits_to_keep=1)
        past = output.past_key_values
        top = torch.topk(output.logits[:, -1], 2)
        inputs = top.indices[:, :1]
        ids.append(inputs[:, 0].int().numpy())
        gaps.append((top.values[:, 0] - top.values[:, 1]).numpy())
    return np.stack(ids, 1), np.stack(gaps, 1)


def main() -> None:
    """Parse the arguments, compute, write."""
    parser = argparse.ArgumentParser(description="Make the goldens of tests/parity for one model.")
    parser.add_argument("--text", type=Path, required=True, help="a text in UTF-8")
    parser.add_argument("--name", required=True, help="the model's short name")
    parser.add_argument("--model", type=Path, required=True, help="its GGUF file")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of the goldens")
    arguments = parser.parse_args()
    golden = make_golden(arguments.model, arguments.text.read_bytes())
    arguments.output.mkdir(parents=True, exist_ok=True)
    arrays = {field.name: getattr(golden, field.name) for field in fields(golden)}
    np.savez_compressed(arguments.output / f"{arguments.name}.npz", **arrays)
    error = np.sqrt(np.mean((golden.logits_f32 - golden.logits) ** 2))
    print(f"{arguments.name}: f32 lies {error:.2e} (root mean square) from f64")


if __name__ == "__main__":
    main()
