"""Models as callables: logits of a whole prompt, generation by settings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.engine.tiny_gguf import VOCAB_SIZE, tiny_gguf

from lepton_ai import GPTModel, SamplingParams
from lepton_ai.errors import InvalidRequest


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GPTModel]:
    path = tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")
    with GPTModel.from_pretrained(path, backend="reference", max_tokens_per_step=32) as model:
        yield model


def test_logits_of_every_token(model: GPTModel) -> None:
    ids = model.tokenizer.encode("a prompt that is longer than one step of thirty-two tokens, a little")
    output = model(ids)
    assert output.logits.shape == (len(ids), VOCAB_SIZE) and output.logits.dtype == np.float32
    pieces = list(model.llm.logits(ids))
    assert len(pieces) > 1
    np.testing.assert_array_equal(output.logits, np.concatenate(pieces))


def test_logits_speak_dlpack(model: GPTModel) -> None:
    logits = model([1, 2, 3]).logits
    assert np.shares_memory(np.from_dlpack(logits), logits)


def test_generation_follows_the_logits(model: GPTModel) -> None:
    ids = model.tokenizer.encode("hello")
    completion = model.generate("hello", temperature=0.0, max_tokens=4, ignore_eos=True)
    assert completion.token_ids[0] == int(model(ids).logits[-1].argmax())
    assert completion == model.generate(ids, SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True))


def test_settings_are_given_once(model: GPTModel) -> None:
    with pytest.raises(InvalidRequest, match="params: expected params or single settings, got both"):
        model.generate("hello", SamplingParams(), max_tokens=3)
    with pytest.raises(TypeError, match="max_new_tokens"):
        model.generate("hello", max_new_tokens=3)


def test_one_completion_is_given(model: GPTModel) -> None:
    with pytest.raises(InvalidRequest, match="n: expected 1, since one completion is given, got 2"):
        model.generate("hello", n=2)
    best = model.generate("hello", best_of=3, seed=1, max_tokens=4, ignore_eos=True)
    assert len(best.token_ids) == 4 and best.logprobs is None
