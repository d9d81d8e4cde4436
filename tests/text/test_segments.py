import pytest

from lepton_ai.text.segments import ControlSplitter, Segment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a", [Segment("a")]),
        ("<x>", [Segment("<x>", is_control=True)]),
        ("a<x><y>b", [Segment("a"), Segment("<x>", is_control=True), Segment("<y>", is_control=True), Segment("b")]),
        ("<x<x>", [Segment("<x"), Segment("<x>", is_control=True)]),
    ],
)
def test_split(text: str, expected: list[Segment]) -> None:
    assert ControlSplitter(["<x>", "<y>"]).split(text) == expected


def test_longest_token_wins() -> None:
    assert ControlSplitter(["<a", "<a>"]).split("<a>") == [Segment("<a>", is_control=True)]


def test_tokens_are_literal() -> None:
    assert ControlSplitter(["[.]"]).split("a.") == [Segment("a.")]


def test_without_control_tokens_all_is_text() -> None:
    assert ControlSplitter([]).split("<x>") == [Segment("<x>")]
