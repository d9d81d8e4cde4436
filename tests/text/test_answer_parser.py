from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_ai.text.answer_format import Opening, ReasoningFormat, ToolFormat
from lepton_ai.text.answer_parser import AnswerParser, Piece, PieceKind
from lepton_ai.text.chat_template import ChatTemplate

from .templates import LLAMA3, QWEN2


def _tools(source: str) -> ToolFormat:
    found = ChatTemplate(source).answer_format.tools
    assert found is not None
    return found


HERMES, LLAMA = _tools(QWEN2), _tools(LLAMA3)
NAMES = ("f", "get_weather")
ARGUMENTS = r'{"a": "}</tool_call>\"{\\", "b": [{}, "\u00e9"], "c": 1}'
CALL = f'<tool_call>\n{{"name": "f", "arguments": {ARGUMENTS}}}\n</tool_call>'
OTHER = '<tool_call>{"name":"get_weather","arguments":{}}</tool_call>'

REASONING, TEXT, CALLED, ARGS = PieceKind.REASONING, PieceKind.TEXT, PieceKind.CALL, PieceKind.ARGUMENTS


def _parser(tools: ToolFormat | None, opening: Opening | None) -> AnswerParser:
    reasoning = None if opening is None else ReasoningFormat()
    return AnswerParser(tools, reasoning, opening or Opening.AFTER_REASONING, names=NAMES)


def _read(parser: AnswerParser, chunks: Sequence[str], *, is_cut: bool = False) -> list[Piece]:
    """The pieces, with neighbours of one kind joined."""
    pieces = [piece for chunk in chunks for piece in parser.push(chunk)] + parser.finish(is_cut=is_cut)
    assert all(piece.text for piece in pieces)
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].kind is piece.kind is not CALLED:
            joined[-1] = Piece(piece.kind, joined[-1].text + piece.text)
        else:
            joined.append(piece)
    return joined


def _cut(text: str, cuts: Sequence[int]) -> list[str]:
    return [text[a:b] for a, b in pairwise(sorted({0, len(text), *(cut for cut in cuts if cut < len(text))}))]


CASES: list[tuple[ToolFormat | None, Opening | None, str, list[Piece]]] = [
    (HERMES, None, "", []),
    (HERMES, None, " a < b <tool \n", [Piece(TEXT, " a < b <tool \n")]),
    (HERMES, None, CALL, [Piece(CALLED, "f"), Piece(ARGS, ARGUMENTS)]),
    (
        HERMES,
        None,
        f"Let me see.\n\n{CALL}\n{OTHER}\n",
        [
            *(Piece(TEXT, "Let me see."), Piece(CALLED, "f"), Piece(ARGS, ARGUMENTS)),
            *(Piece(CALLED, "get_weather"), Piece(ARGS, "{}")),
        ],
    ),
    (HERMES, None, f"{OTHER} <tool", [Piece(CALLED, "get_weather"), Piece(ARGS, "{}"), Piece(TEXT, " <tool")]),
    (HERMES, None, f"{OTHER}\nDone.", [Piece(CALLED, "get_weather"), Piece(ARGS, "{}"), Piece(TEXT, "\nDone.")]),
    # Not what models are shown, but a call.
    (
        HERMES,
        None,
        '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>',
        [Piece(CALLED, "f"), Piece(ARGS, '{"a": 1}')],
    ),
    # No call, and not lost.
    (HERMES, None, "x <tool_call>f(1)</tool_call> y", [Piece(TEXT, "x <tool_call>f(1)</tool_call> y")]),
    (HERMES, None, "x\n<tool_call>f(1)", [Piece(TEXT, "x\n<tool_call>f(1)")]),
    (
        HERMES,
        None,
        '<tool_call>{"name": "f", "arguments": 1}</tool_call>',
        [Piece(TEXT, '<tool_call>{"name": "f", "arguments": 1}</tool_call>')],
    ),
    # Without marks.
    (HERMES, None, '{"name": "f", "arguments": {"a": 1}}', [Piece(CALLED, "f"), Piece(ARGS, '{"a": 1}')]),
    (
        HERMES,
        None,
        '```json\n{\n  "name": "f",\n  "arguments": {\n    "a": 1\n  }\n}\n```',
        [Piece(CALLED, "f"), Piece(ARGS, '{\n    "a": 1\n  }')],
    ),
    (HERMES, None, '{"name": "g", "arguments": {}}', [Piece(TEXT, '{"name": "g", "arguments": {}}')]),
    (HERMES, None, '{"name": "f", "argument": {}}', [Piece(TEXT, '{"name": "f", "argument": {}}')]),
    (HERMES, None, 'So: {"name": "f", "arguments": {}}', [Piece(TEXT, 'So: {"name": "f", "arguments": {}}')]),
    (HERMES, None, '```python\n{"name"', [Piece(TEXT, '```python\n{"name"')]),
    (LLAMA, None, '\n{"name": "f", "parameters": {"a": 1}}', [Piece(CALLED, "f"), Piece(ARGS, '{"a": 1}')]),
    (LLAMA, None, '{"x": 1} <tool_call>', [Piece(TEXT, '{"x": 1} <tool_call>')]),
    # Reasoning.
    (None, Opening.IN_REASONING, "\nso\n\n x\n</think>\n\n a \n", [Piece(REASONING, "so\n\n x"), Piece(TEXT, "a \n")]),
    (None, Opening.IN_REASONING, "so </thin", [Piece(REASONING, "so </thin")]),
    (None, Opening.IN_REASONING, " \n", []),
    (None, Opening.IN_REASONING, "</think>  ", []),
    (None, Opening.BEFORE_REASONING, "\n<think>so</think>a", [Piece(REASONING, "so"), Piece(TEXT, "a")]),
    (None, Opening.BEFORE_REASONING, " <thin", [Piece(TEXT, " <thin")]),
    (None, Opening.BEFORE_REASONING, "a <think>b</think>", [Piece(TEXT, "a <think>b</think>")]),
    (None, Opening.AFTER_REASONING, "<think>b</think>", [Piece(TEXT, "<think>b</think>")]),
    (
        HERMES,
        Opening.BEFORE_REASONING,
        f"<think>\n<tool_call> or </thing>?\n</think>\n\n{CALL}",
        [Piece(REASONING, "<tool_call> or </thing>?"), Piece(CALLED, "f"), Piece(ARGS, ARGUMENTS)],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[str(i) for i in range(len(CASES))])
def test_whole_and_letter_by_letter(case: tuple[ToolFormat | None, Opening | None, str, list[Piece]]) -> None:
    tools, opening, text, want = case
    assert _read(_parser(tools, opening), [text]) == want
    assert _read(_parser(tools, opening), [*text]) == want
    for place in range(len(text)):
        assert _read(_parser(tools, opening), [text[:place], text[place:]]) == want


_FRAGMENTS = [
    *("<tool_call>", "</tool_call>", "<think>", "</think>", "<tool", "_call>", "\n", " ", "<", "a", "```", "```json\n"),
    *('{"name": "f", "arguments": ', '{"name": "', 'f", "arguments"', "{", "}", '"', "\\", ":", "[", "]", CALL, OTHER),
]


@given(
    text=st.lists(st.sampled_from(_FRAGMENTS), max_size=14).map("".join),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    tools=st.sampled_from([HERMES, LLAMA, None]),
    opening=st.sampled_from([None, *Opening]),
    is_cut=st.booleans(),
)
def test_pieces_do_not_depend_on_how_the_text_is_cut(
    text: str, cuts: list[int], tools: ToolFormat | None, opening: Opening | None, is_cut: bool
) -> None:
    chunks = _cut(text, cuts)
    want = _read(_parser(tools, opening), [text], is_cut=is_cut)
    assert _read(_parser(tools, opening), chunks, is_cut=is_cut) == want
    assert _read(_parser(tools, opening), [*text], is_cut=is_cut) == want


@given(
    text=st.text(st.sampled_from('ab<tol_c>/{}" \n`jsn'), max_size=60), cuts=st.lists(st.integers(0, 60), max_size=9)
)
def test_text_without_a_call_is_passed_on(text: str, cuts: list[int]) -> None:
    chunks = _cut(text, cuts)
    assert "".join(piece.text for piece in _read(_parser(HERMES, None), chunks)) == text


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    calls=st.lists(st.dictionaries(st.text(), _JSON, max_size=3), min_size=1, max_size=3),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
    size=st.integers(1, 7),
)
def test_arguments_are_what_the_model_wrote(
    calls: list[dict[str, object]], ascii_only: bool, indent: int | None, size: int
) -> None:
    written = [json.dumps(call, ensure_ascii=ascii_only, indent=indent) for call in calls]
    text = "\n".join(f'<tool_call>\n{{"name": "f", "arguments": {each}}}\n</tool_call>' for each in written)
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    assert [p.text for p in _read(_parser(HERMES, None), chunks) if p.kind is ARGS] == written


def test_arguments_come_as_they_are_written() -> None:
    parser = _parser(HERMES, None)
    parser.push('<tool_call>\n{"name": "f", "arguments": ')
    assert parser.push('{"a') == [Piece(CALLED, "f"), Piece(ARGS, '{"a')]
    assert parser.push('": "x') == [Piece(ARGS, '": "x')]
    assert parser.push("\\") == []
    assert parser.push('"y"') == [Piece(ARGS, '\\"y"')]
    assert parser.push("}}\n</") == [Piece(ARGS, "}")]
    assert parser.push("tool_call>") == []


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('<tool_call>\n{"name": "f', []),
        ('<tool_call>\n{"name": "f", "arguments": {"a": "b\\', [Piece(CALLED, "f"), Piece(ARGS, '{"a": "b\\')]),
        ('<tool_call>\n{"name": "f", "arguments": {}', [Piece(CALLED, "f"), Piece(ARGS, "{}")]),
        ('{"name": "f', [Piece(TEXT, '{"name": "f')]),
        ("a <tool_", [Piece(TEXT, "a <tool_")]),
    ],
)
def test_an_answer_that_is_cut(text: str, want: list[Piece]) -> None:
    assert _read(_parser(HERMES, None), [*text], is_cut=True) == want


def test_what_may_be_text() -> None:
    parser = _parser(HERMES, Opening.BEFORE_REASONING)
    seen = []
    for chunk in ("<th", "ink>", "so", "</think>", "\n", "a", " <tool_", "call>", '{"name": "f", "arguments": {'):
        parser.push(chunk)
        seen.append((parser.is_reasoning, parser.is_text, parser.is_holding))
    assert seen == [
        *((False, True, True), (True, False, False), (True, False, False), (False, True, False)),
        *((False, True, False), (False, True, False), (False, True, True), (False, False, False)),
        (False, False, False),
    ]
