"""What a request costs at most, before it runs: in tokens of work, each a token that goes through the model.

How much dearer some tokens are was measured with smollm2 on two cores, 16 requests at a time: 2.5 ms for an answer's
token, 1.6 for a prompt's, which counts as one all the same, as it holds memory as long. How long a token of work takes
on this machine is measured while it serves: see ``DrainRate``.
"""

from __future__ import annotations

from lepton_ai.engine.sampling_params import SamplingParams

_SCORED = 2
"""A prompt's token whose log-probability is wanted: 3.1 ms, as it needs a row of logits."""
_LOGPROB_SHARE = 16
"""Log-probabilities make an answer's token dearer by a sixteenth (4 %): a pass over its row, and what is written."""
_SCHEMA_SHARE = 8
"""A schema makes it dearer by an eighth (14 %): a mask for each token, computed between two steps."""
_SCHEMA_CHARACTERS = 1024
"""Characters of a schema whose compilation takes as long as a token or two (20 ms for 17 thousand)."""
_CHARACTERS_A_TOKEN = 4
"""What an encoder's text is priced by: the engine's process cuts it, after it was let in."""
_MOST_CHARACTERS_A_TOKEN = 16
"""No prose has more, in any tokenizer that runs here."""


def price(num_prompt_tokens: int, params: SamplingParams, *, max_model_len: int) -> int:
    """Tokens of work that completions of one prompt take at most.

    The prompt is computed once. Who does not say ``max_tokens`` pays for all that the context has room for.
    """
    prompt = num_prompt_tokens * (1 if params.prompt_logprobs is None else _SCORED)
    room = max(0, max_model_len - num_prompt_tokens)
    answer = room if params.max_tokens is None else min(params.max_tokens, room)
    each = answer
    if params.logprobs is not None:
        each += answer // _LOGPROB_SHARE
    if params.constraint is not None:
        each += answer // _SCHEMA_SHARE
        prompt += len(params.constraint.source) // _SCHEMA_CHARACTERS
    return prompt + params.num_generations * each


def price_of_text(num_characters: int) -> int:
    """Tokens of work of a text that becomes a vector."""
    return 1 + num_characters // _CHARACTERS_A_TOKEN


def least_price(num_characters: int) -> int:
    """The least that a prompt can cost of which only the length is known."""
    return num_characters // _MOST_CHARACTERS_A_TOKEN
