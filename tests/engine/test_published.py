"""From an empty cache to text, by a short name, through a hub that serves a checkpoint as it is published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load, save
from tests.engine.published import BERT_HIDDEN, GPT2_CONTEXT, GPT2_VOCAB_SIZE, published_bert, published_gpt2
from tests.weights.sources.fake_hub import FakeHub, serve_hub

from lepton_ai import BertModel, GPTModel, SamplingParams, Tokenizer
from lepton_ai.backends.cpu.memory import huge_zeros
from lepton_ai.errors import ContextLengthExceeded, InvalidModel, TruncationWarning, UnsupportedModel, WeightMismatch
from lepton_ai.text.detokenizer import Detokenizer

REPOSITORY = "openai-community/gpt2-medium"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))
    with serve_hub(monkeypatch) as hub:
        yield hub


def test_a_model_by_its_short_name(hub: FakeHub) -> None:
    hub.add(REPOSITORY, published_gpt2())
    tokenizer = Tokenizer.from_pretrained("gpt-2-medium")
    with pytest.warns(TruncationWarning, match="20"):
        ids = tokenizer.encode("A text of more than twenty bytes.", add_special_tokens=True, max_length=20)
    with GPTModel.from_pretrained("gpt-2-medium", policy="exact") as model:
        logits = model(ids).logits
        assert logits.shape == (20, GPT2_VOCAB_SIZE) and np.isfinite(logits).all()
        completion = model.generate(ids, temperature=0.0, max_tokens=8, ignore_eos=True)
        assert completion.token_ids[0] == int(logits[-1].argmax())
        assert not model.llm.has_chat_template and model.llm.model_info.context_length == GPT2_CONTEXT
        with pytest.raises(ContextLengthExceeded):
            model(list(range(GPT2_CONTEXT + 1)))
    assert "pytorch_model.bin" not in hub.fetched()


def test_an_encoder_by_its_short_name(hub: FakeHub) -> None:
    hub.add("google-bert/bert-base-uncased", published_bert())
    with BertModel.from_pretrained("bert-base", policy="exact") as model:
        ids = model.tokenizer.encode("Who plays the guitar?", max_length=512)
        output = model(ids)
        assert output.last_hidden_state.shape == (len(ids), BERT_HIDDEN)
        assert output.pooler_output is not None and output.pooler_output.shape == (BERT_HIDDEN,)
        (vector,) = model.llm.embed("Who plays the guitar?", pooling="cls", normalize=False)
        assert np.array_equal(vector, output.last_hidden_state[0])
    assert "pytorch_model.bin" not in hub.fetched()


def _changed(**config: object) -> dict[str, bytes]:
    files = published_gpt2()
    files["config.json"] = json.dumps({**json.loads(files["config.json"]), **config}).encode()
    return files


@pytest.mark.parametrize(
    ("files", "kind", "message"),
    [
        (_changed(rotary_share=0.5), UnsupportedModel, "unknown keys.*'rotary_share'.*--allow-config-key"),
        (_changed(scale_attn_by_inverse_layer_idx=True), UnsupportedModel, "scale_attn_by_inverse_layer_idx"),
        (_changed(n_layer=3), WeightMismatch, "missing blk.2"),
        (_changed(n_layer=1), WeightMismatch, "unexpected blk.1"),
        (_changed(n_embd=48), WeightMismatch, "has shape"),
        (_changed(vocab_size=300), InvalidModel, "vocab_size: expected the 257 rows"),
    ],
)
def test_a_config_that_is_not_that_of_the_weights(
    hub: FakeHub, files: dict[str, bytes], kind: type[InvalidModel], message: str
) -> None:
    hub.add(REPOSITORY, files)
    with pytest.raises(kind, match=message):
        GPTModel.from_pretrained("gpt-2-medium")


def test_a_key_that_is_vouched_for(hub: FakeHub) -> None:
    hub.add(REPOSITORY, _changed(rotary_share=0.5))
    with GPTModel.from_pretrained("gpt-2-medium", allow_config_keys=["rotary_share"]) as model:
        assert model([1, 2]).logits.shape == (2, GPT2_VOCAB_SIZE)


def test_a_tokenizer_of_more_tokens_than_embeddings(hub: FakeHub) -> None:
    files = published_gpt2()
    files["vocab.json"] = json.dumps({**json.loads(files["vocab.json"]), "xx": GPT2_VOCAB_SIZE}).encode()
    hub.add(REPOSITORY, files)
    with pytest.raises(InvalidModel, match=r"expected a tokenizer of at most 257 tokens.*got one of 258"):
        GPTModel.from_pretrained("gpt-2-medium")


def test_end_tokens_and_sampling_of_the_generation_config(hub: FakeHub) -> None:
    files = published_gpt2()
    hub.add(REPOSITORY, files)
    with GPTModel.from_pretrained("gpt-2-medium") as model:
        assert model.llm.default_params == SamplingParams()
        first = model.generate("x", temperature=0.0, max_tokens=1, ignore_eos=True).token_ids[0]
    config = {"eos_token_id": [256, first], "temperature": 0.0, "repetition_penalty": 1.0}
    hub.add("other/gpt2", {**files, "generation_config.json": json.dumps(config).encode()})
    with GPTModel.from_pretrained("hf:other/gpt2") as model:
        assert model.llm.default_params == SamplingParams(temperature=0.0)
        for completion in (model.generate("x"), model.generate("x", max_tokens=9), model.llm.generate("x")[0]):
            assert (completion.token_ids, completion.finish_reason) == ((first,), "stop")
        going_on = model.llm.generate("x", SamplingParams(temperature=0.0, max_tokens=3, ignore_eos=True))[0]
        assert len(going_on.token_ids) == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"eos_token_id": GPT2_VOCAB_SIZE}, r"eos_token_id: expected token ids from 0 to 256, got 257"),
        ({"top_p": 1.5}, r"generation_config\.json: top_p: expected a number in \(0, 1\], got 1\.5"),
        ({"top_k": 0.5}, r"generation_config\.json: top_k: expected an integer"),
    ],
)
def test_a_generation_config_that_is_wrong(hub: FakeHub, config: dict[str, object], message: str) -> None:
    hub.add(REPOSITORY, {**published_gpt2(), "generation_config.json": json.dumps(config).encode()})
    with pytest.raises(InvalidModel, match=message):
        GPTModel.from_pretrained("gpt-2-medium")


def test_more_embeddings_than_the_tokenizer_has_tokens(hub: FakeHub) -> None:
    files = published_gpt2()
    vocab = json.loads(files["vocab.json"])
    short = {token: i for token, i in vocab.items() if i < 128} | {"<|endoftext|>": 128}
    files |= {"vocab.json": json.dumps(short).encode(), "generation_config.json": b"{}"}
    hub.add(REPOSITORY, files)
    with GPTModel.from_pretrained("gpt-2-medium") as model:
        completion = model.generate([1, 2, 3], temperature=2.0, max_tokens=40, seed=0, ignore_eos=True)
        known = [i for i in completion.token_ids if i < model.tokenizer.vocab_size]
        assert 0 < len(known) < len(completion.token_ids) == 40
        detokenizer = Detokenizer(model.tokenizer, is_continuation=True)
        assert completion.text == "".join(map(detokenizer.feed, known)) + detokenizer.finish()


@pytest.mark.parametrize("tensor", ["h.1.attn.c_attn.weight", "ln_f.bias"])
def test_weights_that_are_no_numbers(hub: FakeHub, tensor: str) -> None:
    files = published_gpt2()
    tensors = load(files["model.safetensors"])
    tensors[tensor].reshape(-1)[-1] = np.nan
    hub.add(REPOSITORY, {**files, "model.safetensors": save(tensors)})
    with pytest.raises(InvalidModel, match="expected finite weights, got a NaN or an infinity") as raised:
        GPTModel.from_pretrained("gpt-2-medium")
    assert raised.value.code == "invalid_model"


def test_a_file_that_changes_while_it_is_packed(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPOSITORY, published_gpt2())

    def touch(num_bytes: int) -> npt.NDArray[np.uint8]:
        with next(tmp_path.rglob("models/*/model.safetensors")).open("ab") as file:
            file.write(b"more")
        return huge_zeros(num_bytes)

    monkeypatch.setattr("lepton_ai.backends.cpu.memory.huge_zeros", touch)
    with pytest.raises(InvalidModel, match="the file changed while it was open"):
        GPTModel.from_pretrained("gpt-2-medium")
    assert list(tmp_path.rglob("*.pack")) == []
