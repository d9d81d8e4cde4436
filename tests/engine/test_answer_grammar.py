"""The constraint of answers, on a model of random weights: what it writes is what was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.engine.tiny_gguf import tiny_gguf
from tests.text.templates import LLAMA3, QWEN2, QWEN3

from lepton_ai import LLM, Constraint, SamplingParams
from lepton_ai.engine.constraints.answer_grammar import AnswerRules, CallChoice, Function, answer_constraint
from lepton_ai.engine.constraints.compiler import ConstraintCompiler
from lepton_ai.errors import InvalidRequest
from lepton_ai.text.answer_format import AnswerFormat, Opening
from lepton_ai.text.answer_parser import AnswerParser, PieceKind
from lepton_ai.text.chat_template import ChatTemplate

ON = {
    "type": "object",
    "properties": {"on": {"$ref": "#/$defs/flag"}},
    "required": ["on"],
    "additionalProperties": False,
    "$defs": {"flag": {"type": "boolean"}},
}
LEVEL = {
    "type": "object",
    "properties": {"level": {"enum": [1, 2, 3]}},
    "required": ["level"],
    "additionalProperties": False,
}
FUNCTIONS = (Function("light", ON, is_strict=True), Function("fan", LEVEL))
QWEN, LLAMA, THINKING = (ChatTemplate(source).answer_format for source in (QWEN2, LLAMA3, QWEN3))
LIGHT = '<tool_call>\n{"name": "light", "arguments": {"on": true}}\n</tool_call>'
FAN = '<tool_call>\n{"name": "fan", "arguments": {"level": 3}}\n</tool_call>'
JSON = Constraint.json_schema(LEVEL)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(tmp_path_factory.mktemp("home")))
        with LLM(tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")) as made:
            yield made


@pytest.fixture(scope="module")
def compiler(llm: LLM) -> ConstraintCompiler:
    return ConstraintCompiler(llm.tokenizer, llm.model_info.vocab_size, [258])


def _constraint(rules: AnswerRules, answers: AnswerFormat, opening: Opening = Opening.AFTER_REASONING) -> Constraint:
    made = answer_constraint(rules, answers, opening)
    assert made is not None
    return made


def _allowed(compiler: ConstraintCompiler, constraint: Constraint, text: str) -> str:
    """As much of ``text`` as may be written, and a full stop if the answer may end there."""
    matcher = compiler.compile(constraint)
    written = b""
    for byte in text.encode():
        if not (int(matcher.mask.view("uint32")[byte // 32]) >> (byte % 32)) & 1 or matcher.is_stopped:
            return written.decode()
        matcher.accept(byte)
        written += bytes([byte])
    may_end = matcher.is_stopped or (int(matcher.mask.view("uint32")[258 // 32]) >> (258 % 32)) & 1
    return written.decode() + ("." if may_end else "")


def _check(compiler: ConstraintCompiler, constraint: Constraint, whole: Sequence[str], parts: dict[str, str]) -> None:
    for text in whole:
        assert _allowed(compiler, constraint, text) == text + "."
    for text, part in parts.items():
        assert _allowed(compiler, constraint, text) == part


def test_a_call_or_text(compiler: ConstraintCompiler) -> None:
    rules = AnswerRules(functions=FUNCTIONS, choice=CallChoice.MAYBE)
    bare = '```json\n{"name": "light",\n  "arguments": {"on": false}\n}\n```'
    _check(
        compiler,
        _constraint(rules, QWEN),
        ["", "a < b <tool\n\n", LIGHT, f"So.\n{LIGHT}\n{FAN}\n{LIGHT}", bare, '{"name": "x", "arguments": 1}', "{"],
        {
            "x <tool_call>y": "x <tool_call>",
            LIGHT.replace("true", "1"): '<tool_call>\n{"name": "light", "arguments": {"on": ',
            f"{LIGHT}\nSo.": f"{LIGHT}\n",
            LIGHT.replace("light", "fan"): '<tool_call>\n{"name": "fan", "arguments": {"',
            '{"name": "fan", "arguments": {"level": 4': '{"name": "fan", "arguments": {"level": ',
            bare + "\nSo.": bare,
        },
    )


def test_text_alone(compiler: ConstraintCompiler) -> None:
    rules = AnswerRules(functions=FUNCTIONS, choice=CallChoice.NEVER)
    constraint = _constraint(rules, QWEN)
    _check(compiler, constraint, ["", "a <tool", '{"name": "light"}'], {LIGHT: "<tool_call"})


def test_one_call_at_most(compiler: ConstraintCompiler) -> None:
    rules = AnswerRules(functions=FUNCTIONS, choice=CallChoice.ALWAYS, allows_several=False)
    constraint = _constraint(rules, QWEN)
    _check(compiler, constraint, [LIGHT, FAN], {f"{LIGHT}\n": LIGHT, "So.": "", "{": ""})


def test_a_call_is_the_whole_answer(compiler: ConstraintCompiler) -> None:
    call = '{"name": "fan", "parameters": {"level": 1}}'
    must = _constraint(AnswerRules(functions=FUNCTIONS, choice=CallChoice.ALWAYS), LLAMA)
    _check(compiler, must, [call], {f"{call}\n": call, "So.": ""})
    may = _constraint(AnswerRules(functions=FUNCTIONS, choice=CallChoice.MAYBE), LLAMA)
    _check(compiler, may, [call, "So.", '{"a": 1}', ""], {call.replace("1", "4"): call[: call.index("1")]})


def test_reasoning_is_free(compiler: ConstraintCompiler) -> None:
    rules = AnswerRules(functions=FUNCTIONS, choice=CallChoice.ALWAYS)
    for prefix, opening in (("<think>", Opening.BEFORE_REASONING), ("", Opening.IN_REASONING)):
        thought = f"{prefix}\n<tool_call> {{ or not?\n</think>\n\n"
        _check(
            compiler,
            _constraint(rules, THINKING, opening),
            [thought + LIGHT],
            {thought + "So.": thought, "<tool_call>x": "<tool_call>" + ("" if prefix else "x.")[:1]},
        )
    may = _constraint(AnswerRules(functions=FUNCTIONS, choice=CallChoice.MAYBE), THINKING, Opening.BEFORE_REASONING)
    thought = "<think>\n<tool_call>\n</think>\n\n"
    _check(
        compiler,
        may,
        [thought + "So.", thought + FAN, "So.", LIGHT],
        {thought + "<tool_call>x": thought + "<tool_call>", "So <think> <tool_call>x": "So <think> <tool_call>"},
    )


def test_json_after_reasoning_or_beside_calls(compiler: ConstraintCompiler) -> None:
    thinking = _constraint(AnswerRules(schema=JSON), THINKING, Opening.BEFORE_REASONING)
    thought = "<think>x</think>\n\n"
    _check(compiler, thinking, [thought + '{"level": 2}', '{"level": 2}'], {thought + "So": thought, "So": ""})
    beside = _constraint(AnswerRules(functions=FUNCTIONS, choice=CallChoice.MAYBE, schema=JSON), QWEN)
    _check(compiler, beside, [LIGHT, '{"level": 2}', f"{LIGHT}\n{FAN}"], {"So": "", '{"name"': '{"'})


def test_without_functions_or_reasoning_the_schema_is_all() -> None:
    assert answer_constraint(AnswerRules(schema=JSON), QWEN, Opening.AFTER_REASONING) is JSON
    assert answer_constraint(AnswerRules(), THINKING, Opening.BEFORE_REASONING) is None
    with pytest.raises(InvalidRequest, match="tools: expected a model whose chat template"):
        answer_constraint(AnswerRules(functions=FUNCTIONS), AnswerFormat(), Opening.AFTER_REASONING)


@pytest.mark.parametrize("is_strict", [False, True])
def test_what_of_a_schema_cannot_be_held(compiler: ConstraintCompiler, is_strict: bool) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    rules = AnswerRules(functions=[Function("f", schema, is_strict=is_strict)], choice=CallChoice.ALWAYS)
    constraint = _constraint(rules, QWEN)
    if is_strict:
        with pytest.raises(InvalidRequest, match="uniqueItems"):
            compiler.compile(constraint)
    else:
        call = '<tool_call>\n{"name": "f", "arguments": {"a": [1, 1]}}\n</tool_call>'
        _check(compiler, constraint, [call], {call.replace("[", "{"): call[: call.index("[")]})


def test_strings_of_a_schema_are_no_grammar(compiler: ConstraintCompiler) -> None:
    text = 'a"}\n%json {} // <tool_call> \\ é'
    schema = {
        "type": "object",
        "properties": {text: {"const": text}},
        "required": [text],
        "additionalProperties": False,
    }
    rules = AnswerRules(functions=[Function("f", schema)], choice=CallChoice.ALWAYS)
    call = f'<tool_call>\n{{"name": "f", "arguments": {json.dumps({text: text}, ensure_ascii=False)}}}\n</tool_call>'
    _check(compiler, _constraint(rules, QWEN), [call], {})


@pytest.mark.parametrize("answers", [QWEN, LLAMA])
def test_what_a_random_model_writes_is_a_call(llm: LLM, answers: AnswerFormat) -> None:
    rules = AnswerRules(functions=FUNCTIONS, choice=CallChoice.ALWAYS, allows_several=False)
    params = SamplingParams(temperature=2.0, seed=3, n=8, max_tokens=200, constraint=_constraint(rules, answers))
    for completion in llm.generate("x", params):
        parser = AnswerParser(answers.tools, None, Opening.AFTER_REASONING, names=("light", "fan"))
        pieces = [*parser.push(completion.text), *parser.finish(is_cut=False)]
        assert [p.kind for p in pieces] == [PieceKind.CALL, PieceKind.ARGUMENTS]
        value = json.loads(pieces[1].text)
        assert value in (
            [{"on": True}, {"on": False}] if pieces[0].text == "light" else [{"level": i} for i in (1, 2, 3)]
        )
