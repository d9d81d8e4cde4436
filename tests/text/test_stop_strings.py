import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_ai.errors import InvalidRequest
from lepton_ai.text.stop_strings import StopMatcher


def _run(stops: list[str], pieces: list[str]) -> tuple[list[str], str | None]:
    matcher = StopMatcher(stops)
    shown = [matcher.feed(piece) for piece in pieces]
    return [*shown, matcher.finish()], matcher.matched


def test_stop_string_over_pieces_never_leaks() -> None:
    assert _run(["END"], ["a E", "N", "D b", "c"]) == (["a ", "", "", "", ""], "END")


def test_false_start_is_let_out() -> None:
    assert _run(["END"], ["E", "N", "x"]) == (["", "", "ENx", ""], None)


def test_end_of_text_lets_the_rest_out() -> None:
    assert _run(["\n\n"], ["a\n"]) == (["a", "\n"], None)


def test_overlapping_false_start() -> None:
    assert _run(["aab"], ["a", "a", "a", "b!"]) == (["", "", "a", "", ""], "aab")


def test_first_to_complete_wins_and_then_the_longest() -> None:
    assert _run(["bcd", "c"], ["abcd"]) == (["ab", ""], "c")
    assert _run(["c", "abc", "bc"], ["xabc"]) == (["x", ""], "abc")


def test_without_stop_strings_all_passes() -> None:
    assert _run([], ["a", "", "b"]) == (["a", "", "b", ""], None)


@pytest.mark.parametrize("stops", [[""], ["a", ""], [None], [3], "stop"])
def test_bad_stop_strings_are_refused(stops: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="stop: expected"):
        StopMatcher(stops)


def _oracle(stops: list[str], text: str) -> tuple[str, str | None]:
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    pieces=st.lists(st.text("abc", max_size=4), max_size=10),
)
def test_any_cut_gives_what_a_search_of_the_whole_gives(stops: list[str], pieces: list[str]) -> None:
    shown, matched = _run(stops, pieces)
    assert ("".join(shown), matched) == _oracle(stops, "".join(pieces))


@given(stop=st.text("ab", min_size=1, max_size=5), pieces=st.lists(st.text("ab", max_size=3), max_size=10))
def test_no_more_is_held_than_could_become_the_stop_string(stop: str, pieces: list[str]) -> None:
    matcher = StopMatcher([stop])
    seen = shown = ""
    for piece in pieces:
        seen += piece
        shown += matcher.feed(piece)
        if matcher.matched:
            return
        held = seen[len(shown) :]
        assert seen == shown + held
        assert stop.startswith(held)
