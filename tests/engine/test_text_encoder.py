"""Texts to vectors and classes, on small checkpoints in their published layout."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.published import (
    BERT_CONTEXT,
    BERT_HIDDEN,
    BERT_WORDS,
    SENTENCE_FILES,
    published_bert,
    write_files,
)
from tests.engine.tiny_gguf import tiny_gguf
from tests.weights.gguf_writer import Tensor, Typed, Value, write_gguf

from lepton_ai import LLM, BertModel, GPTModel
from lepton_ai.errors import ContextLengthExceeded, InvalidModel, InvalidRequest, TruncationWarning
from lepton_ai.models.registry import read_model
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.gguf_values import ValueType

TEXTS = ["a man plays", "The guitar.", "who plays the guitar?", "a man plays the guitars ."]
LONG = "a man " * 15  # 32 tokens: more than declared, less than the context


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def sentence_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("sentences"), published_bert() | SENTENCE_FILES)


@pytest.fixture
def llm(sentence_path: Path) -> Iterator[LLM]:
    with LLM(sentence_path) as made:
        yield made


def test_vectors_in_the_order_of_texts(llm: LLM) -> None:
    vectors = llm.embed(TEXTS)
    assert vectors.shape == (4, BERT_HIDDEN) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert np.array_equal(llm.embed(text), vector[None])
        assert np.array_equal(llm.embed([llm.tokenizer.encode(text)]), vector[None])
    assert llm.embed([]).shape == (0, BERT_HIDDEN)


def test_pairs_have_types(llm: LLM) -> None:
    pair = llm.tokenizer.encode_pair("who plays?", "a man")
    (vector,) = llm.embed([("who plays?", "a man")])
    rows, _ = llm.hidden_states(pair.ids, pair.token_type_ids)
    np.testing.assert_allclose(vector, rows.mean(0) / np.linalg.norm(rows.mean(0)), atol=1e-6)
    assert not np.allclose(vector, llm.embed([pair.ids])[0], atol=1e-3)


def test_other_ways_of_pooling(llm: LLM) -> None:
    rows, _ = llm.hidden_states(llm.tokenizer.encode(TEXTS[0]))
    (cls,) = llm.embed(TEXTS[0], pooling="cls", normalize=False)
    np.testing.assert_array_equal(cls, rows[0])
    (unscaled,) = llm.embed(TEXTS[0], normalize=False)
    np.testing.assert_allclose(unscaled, rows.mean(0), atol=1e-6)
    with pytest.raises(InvalidRequest, match=r"pooling: expected one of cls, mean, .*, got 'middle'"):
        llm.embed("a", pooling="middle")


def test_a_checkpoint_that_does_not_say_how_to_pool(tmp_path: Path) -> None:
    with LLM(write_files(tmp_path / "plain", published_bert())) as llm:
        with pytest.raises(InvalidRequest, match=r"pooling: expected one of .* as the checkpoint does not say"):
            llm.embed("a man")
        assert not np.allclose(np.linalg.norm(llm.embed("a man", pooling="mean")), 1, atol=1e-3)


def test_nothing_is_cut_in_silence(llm: LLM) -> None:
    with pytest.raises(ContextLengthExceeded, match=r"texts\[1\]: 32 tokens exceed the 24 .* max_length"):
        llm.embed(["a man", LONG])
    whole = llm.embed(LONG, max_length=40)
    with pytest.warns(TruncationWarning, match="8 of"):
        cut = llm.embed(LONG, max_length=24)
    assert not np.allclose(whole, cut, atol=1e-3)
    for wrong in (0, 49):
        with pytest.raises(InvalidRequest, match="max_length: expected 1 to 48"):
            llm.embed("a man", max_length=wrong)
    with pytest.raises(ContextLengthExceeded, match="49 tokens exceed the 48"):
        llm.hidden_states([5] * 49)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([1, 2, 3], "texts: expected a list of texts, got a list of ids"),
        (b"text", "texts: expected a list of texts, got bytes"),
        ([[]], r"texts\[0\]: expected at least one token"),
        (["a", [14]], r"texts\[1\]: expected token ids from 0 to 13, got 14"),
        ([3.5], r"texts\[0\]: expected text or token ids, got float"),
    ],
)
def test_what_is_no_text(llm: LLM, texts: object, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        llm.embed(texts)  # type: ignore[arg-type]


def test_types_of_tokens_are_checked(llm: LLM) -> None:
    with pytest.raises(InvalidRequest, match="token_type_ids: expected one for each of 2 ids, got 1"):
        llm.hidden_states([5, 6], [0])
    with pytest.raises(InvalidRequest, match="token_type_ids: expected token ids from 0 to 1, got 2"):
        llm.hidden_states([5, 6], [0, 2])


def test_threads_share_a_model(llm: LLM) -> None:
    wanted, got = llm.embed(TEXTS), {}

    def work(index: int) -> None:
        got[index] = [llm.embed(TEXTS) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(each, wanted) for vectors in got.values() for each in vectors)


def test_classes_of_texts(tmp_path: Path) -> None:
    files = published_bert(head="ForSequenceClassification", labels=3)
    with LLM(write_files(tmp_path / "model", files)) as llm:
        results = llm.classify(TEXTS)
        for result in results:
            assert [label for label, _ in result.scores] == ["class 0", "class 1", "class 2"]
            assert sum(score for _, score in result.scores) == pytest.approx(1)
            assert (result.label, result.score) == max(result.scores, key=lambda pair: pair[1])
        assert llm.classify(TEXTS[2]) == [results[2]]
        with pytest.raises(InvalidRequest, match="expected a trained classifier of tokens, got one of texts"):
            llm.classify_tokens(TEXTS)


def _changed(files: dict[str, bytes], old: bytes, new: bytes) -> dict[str, bytes]:
    assert old in files["config.json"]
    return {**files, "config.json": files["config.json"].replace(old, new)}


@pytest.mark.parametrize(
    ("labels", "problem", "is_probability", "is_share"),
    [
        (1, None, True, False),
        (3, "multi_label_classification", True, False),
        (1, "regression", False, False),
        (2, "single_label_classification", True, True),
    ],
)
def test_what_scores_mean(
    tmp_path: Path, labels: int, problem: str | None, is_probability: bool, is_share: bool
) -> None:
    files = published_bert(head="ForSequenceClassification", labels=labels)
    if problem:
        files = _changed(files, b'"model_type"', f'"problem_type": "{problem}", "model_type"'.encode())
    with LLM(write_files(tmp_path / "model", files), policy="exact") as llm:
        scores = np.array([[score for _, score in r.scores] for r in llm.classify(TEXTS)])
    assert bool(((scores > 0) & (scores < 1)).all()) == is_probability
    assert np.allclose(scores.sum(1), 1) == is_share


def test_classes_of_tokens(tmp_path: Path) -> None:
    files = published_bert(head="ForTokenClassification", labels=2)
    with LLM(write_files(tmp_path / "model", files)) as llm:
        (first, second) = llm.classify_tokens(["a guitars", "who ?"])
        assert [token.text for token in first] == ["a", "guitar", "s"]
        assert [token.token_id for token in second] == [13, 12]
        assert {token.classification.label for token in first + second} <= {"class 0", "class 1"}
        with pytest.raises(InvalidRequest, match="expected a trained classifier of texts, got one of tokens"):
            llm.classify("a")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"1": "class 1"', b'"2": "class 1"', "id2label: expected a label by number"),
        (b', "1": "class 1"', b"", "output_labels: expected one for each of 2 classes, got 1"),
        (b'"hidden_act": "gelu"', b'"hidden_act": "mish"', "hidden_act: expected one of 'gelu'"),
        (b'"absolute"', b'"relative_key"', "position_embedding_type"),
        (b'"use_cache": true', b'"is_decoder": true', "is_decoder"),
        (b'"num_attention_heads": 2', b'"num_attention_heads": 5', "attention.head_count: expected a divisor"),
        (b'"use_cache": true', b'"problem_type": "ranking"', "problem_type: expected one of"),
    ],
)
def test_a_config_that_is_not_run(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    files = _changed(published_bert(head="ForSequenceClassification", labels=2), old, new)
    with pytest.raises(InvalidModel, match=message):
        LLM(write_files(tmp_path / "model", files))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_dtype": "int8"}, "kv_dtype: expected none for an encoder, which keeps no KV, got int8"),
        ({"kv_memory_bytes": 1 << 20}, "kv_memory_bytes: expected none for an encoder, which keeps no KV, got 1048576"),
    ],
)
def test_an_encoder_keeps_no_kv(llm: LLM, sentence_path: Path, options: dict[str, Any], message: str) -> None:
    assert llm.model_info.kv_dtype is None
    with pytest.raises(InvalidRequest, match=message) as raised:
        LLM(sentence_path, **options)
    assert raised.value.param in options


def test_an_encoder_does_not_generate(llm: LLM, sentence_path: Path) -> None:
    message = "model: expected one that generates, got bert, an encoder"
    for refused in (
        lambda: llm.generate("a"),
        lambda: llm.stream("a"),
        lambda: llm.score("a"),
        lambda: llm.logits("a"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            refused()
    with pytest.raises(InvalidRequest, match=message):
        GPTModel.from_pretrained(sentence_path)


def test_a_decoder_does_not_embed(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf")
    with (
        LLM(path, backend="reference") as llm,
        pytest.raises(InvalidRequest, match="model: expected an encoder, got llama, which generates"),
    ):
        llm.embed("a")
    with pytest.raises(InvalidRequest, match="expected an encoder"):
        BertModel.from_pretrained(path, backend="reference")


def test_the_reference_agrees(sentence_path: Path) -> None:
    with LLM(sentence_path, policy="exact") as cpu, LLM(sentence_path, policy="exact", backend="reference") as oracle:
        np.testing.assert_allclose(cpu.embed(TEXTS), oracle.embed(TEXTS), rtol=0, atol=2e-6)


def bert_gguf(path: Path, files: dict[str, bytes]) -> Path:
    """The same checkpoint as a GGUF file, as its converter names things; without the pooler."""
    folder = write_files(path.parent / "folder", files)
    tensors: dict[str, Tensor] = {}
    with open_checkpoint(folder) as checkpoint:
        _, store = read_model(checkpoint)
        for name in store.names():
            if not name.startswith("cls."):
                tensor = store.get(name)
                tensors[name] = (tensor.type, tensor.shape, tensor.data.tobytes())
    control, pieces = BERT_WORDS[:5], BERT_WORDS[5:]
    metadata: dict[str, Value] = {
        "general.architecture": "bert",
        "bert.block_count": 2,
        "bert.context_length": BERT_CONTEXT,
        "bert.embedding_length": BERT_HIDDEN,
        "bert.feed_forward_length": 2 * BERT_HIDDEN,
        "bert.attention.head_count": 2,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": Typed(ValueType.U32, 1),
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [*control, *(w[2:] if w.startswith("##") else "\u2581" + w for w in pieces)],
        "tokenizer.ggml.token_type": [3] * len(control) + [1] * len(pieces),
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.mask_token_id": 4,
    }
    write_gguf(path, metadata, tensors)
    return path


def test_a_gguf_file_gives_the_vectors_of_the_folder(sentence_path: Path, tmp_path: Path) -> None:
    path = bert_gguf(tmp_path / "bert.gguf", published_bert())
    with LLM(path) as from_file, LLM(sentence_path) as from_folder:
        assert np.array_equal(from_file.embed(TEXTS), from_folder.embed(TEXTS))
        assert np.array_equal(from_file.embed([("who plays?", "a man")]), from_folder.embed([("who plays?", "a man")]))
