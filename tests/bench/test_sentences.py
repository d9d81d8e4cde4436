from __future__ import annotations

from pathlib import Path

import pytest
from bench.sentences import ScoredPair, built_in_sentences, read_stsb, sentence_sets

HEADER = "index\tsentence1\tsentence2\tscore\n"


def stsb(path: Path, *rows: str) -> Path:
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def test_pairs_are_read_by_the_names_of_columns(tmp_path: Path) -> None:
    path = stsb(tmp_path / "dev.tsv", '0\tA "quoted" man.\tIt\'s.\t5.000', '1\t"Open\tEnd"\t0.25')
    assert read_stsb(path) == [ScoredPair('A "quoted" man.', "It's.", 5.0), ScoredPair('"Open', 'End"', 0.25)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index\tsentence1\tscore\n0\ta\t1\n", "expected columns sentence1, sentence2 and score"),
        (HEADER + "0\ta\tb\t1\n1\ta\tb\n", ":3: expected 4 columns, got 3"),
        (HEADER + "0\ta\tb\tmuch\n", "could not convert"),
    ],
)
def test_another_form_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_stsb(path)


def test_built_in_sentences_differ() -> None:
    sentences = built_in_sentences()
    assert len(set(sentences)) == len(sentences) == 400
    assert {len(sentence.split()) for sentence in sentences} >= {2, 3, 5, 20}


def test_quantisers_see_none_of_the_sentences_that_are_measured(tmp_path: Path) -> None:
    path = stsb(tmp_path / "dev.tsv", *(f"{i}\tfirst {i}\tsecond {i // 2}\t1" for i in range(10)))
    for sets, size in ((sentence_sets(None), 200), (sentence_sets(path, size=3), 3)):
        assert len(set(sets.measured)) == len(set(sets.calibration)) == size
        assert not set(sets.measured) & set(sets.calibration)
    assert sets.measured == ("first 0", "second 1", "first 5")


def test_too_few_sentences_are_an_error(tmp_path: Path) -> None:
    path = stsb(tmp_path / "dev.tsv", "0\tsame\tsame\t1", "1\tsame\tother\t2")
    assert sentence_sets(path, size=1).measured == ("same",)
    with pytest.raises(ValueError, match="expected at least 4 different ones, got 2"):
        sentence_sets(path, size=2)
