"""``lepton embed`` and ``lepton classify`` on small checkpoints in their published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Lepton
from tests.engine.published import BERT_HIDDEN, SENTENCE_FILES, published_bert, write_files

from lepton_ai.cli.embed import cosines


@pytest.fixture
def sentences(tmp_path: Path) -> str:
    return str(write_files(tmp_path / "sentences", published_bert() | SENTENCE_FILES))


def test_two_texts_and_their_cosine(lepton: Lepton, sentences: str) -> None:
    result = lepton("embed", sentences, "a man plays", "the guitar")
    value = lepton("embed", sentences, "a man plays", "the guitar", "--json").json()
    assert result.status == 0
    (rows, cosine) = np.array(value["embeddings"]), np.array(value["cosines"])
    assert rows.shape == (2, BERT_HIDDEN) == (2, value["dimension"])
    assert cosine[0, 1] == pytest.approx(rows[0] @ rows[1], abs=1e-6)
    assert result.out.splitlines()[-1] == f"cosine {cosine[0, 1]:.4f}"


def test_texts_from_a_file_to_a_file(lepton: Lepton, sentences: str, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("a man\n\n" + "the guitar\n" * 20)
    output = tmp_path / "vectors.npy"
    result = lepton("embed", sentences, "--input", str(lines), "--output", str(output))
    assert result.status == 0 and "21 vectors of 32 values" in result.err
    vectors = np.load(output)
    assert vectors.shape == (21, BERT_HIDDEN) and np.array_equal(vectors[1], vectors[20])
    refused = lepton("embed", sentences, "--input", str(lines))
    assert refused.status == 2 and "--output: expected a file for the vectors of 21 texts" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "texts: expected at least one, got none"),
        (["a", "--input", "x.txt"], "--input: expected texts as arguments or in a file, got both"),
        (["--input", "/nowhere/x.txt"], "--input: cannot read /nowhere/x.txt"),
        (["a", "--output", "x.csv"], "--output: expected a file name that ends in .npy, got 'x.csv'"),
        (["a", "--output", "/nowhere/x.npy"], "--output: cannot write /nowhere/x.npy"),
        (["a", "--pooling", "middle"], "pooling: expected one of cls, mean, max, last, mean_sqrt_len, got 'middle'"),
        (["a man " * 20], "42 tokens exceed the 24 that the model was made for"),
    ],
)
def test_bad_input(lepton: Lepton, sentences: str, arguments: list[str], message: str) -> None:
    result = lepton("embed", sentences, *arguments)
    assert result.status != 0 and message in result.err and not result.out


def test_a_file_in_another_encoding(lepton: Lepton, sentences: str, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    result = lepton("embed", sentences, "--input", str(tmp_path / "latin.txt"))
    assert result.status == 2 and "--input: expected UTF-8, got another byte at 3" in result.err


def test_a_row_of_zeros_is_like_nothing() -> None:
    assert np.array_equal(
        cosines(np.array([[3, 4], [0, 0], [-3, -4]], np.float32)), [[1, 0, -1], [0, 0, 0], [-1, 0, 1]]
    )


def test_classes_of_texts(lepton: Lepton, tmp_path: Path) -> None:
    path = str(write_files(tmp_path / "m", published_bert(head="ForSequenceClassification", labels=3)))
    result = lepton("classify", path, "a man", "the guitar")
    assert result.status == 0 and len(result.out.splitlines()) == 3
    value = lepton("classify", path, "a man", "the guitar", "--json").json()
    first = value["results"][0]  # type: ignore[index]
    assert sum(first["scores"].values()) == pytest.approx(1)
    assert first["label"] in result.out


def test_classes_of_tokens(lepton: Lepton, tmp_path: Path) -> None:
    path = str(write_files(tmp_path / "m", published_bert(head="ForTokenClassification", labels=2)))
    result = lepton("classify", path, "a man plays")
    assert [line.split()[1] for line in result.out.splitlines()] == ["token", "a", "man", "plays"]
    value = lepton("classify", path, "a man", "--json").json()
    assert [token["text"] for token in value["results"][0]] == ["a", "man"]  # type: ignore[index]


def test_a_model_without_a_classifier(lepton: Lepton, sentences: str) -> None:
    result = lepton("classify", sentences, "a")
    assert result.status == 2 and "expected a trained classifier of texts, got none" in result.err
