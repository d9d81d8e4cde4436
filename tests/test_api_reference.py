"""The docstrings of public names say what is raised, truly, and which shapes arrays have."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator

import pytest
from tests.engine.tiny_gguf import CONTEXT_LENGTH, tiny_gguf

import lepton_ai
from lepton_ai import LLM, BertModel, GPTModel, SamplingParams, Tokenizer, errors
from lepton_ai.engine.stream import Stream
from lepton_ai.errors import LeptonError

CLASSES: tuple[type, ...] = (
    *(value for name in lepton_ai.__all__ if inspect.isclass(value := getattr(lepton_ai, name))),
    Stream,
)
ERRORS = frozenset(errors.__all__)
OF_THE_CLASS = ("__init__", "__next__", "__anext__", "__aiter__")
"""Methods of which the docstring of their class speaks."""

RAISE_NOTHING = frozenset(
    (
        *("LLM.close", "GPTModel.close", "Stream.cancel", "Stream.close", "Stream.__aiter__", "Stream.__init__"),
        *("Tokenizer.__init__", "Tokenizer.encode_with_controls", "Tokenizer.is_control", "Tokenizer.joiner"),
        *("LeptonError.__init__", "LeptonError.to_dict", "BertModel.close"),
        *("AsyncLLM.__init__", "AsyncLLM.close", "EngineProcess.close", "EngineProcess.kill"),
        *("Stream.fail", "Stream.on_leave"),
    )
)
"""Public callables that raise no error of Lepton's. A new one either says what it raises or stands here."""


def public_callables() -> Iterator[tuple[str, Callable[..., object]]]:
    """Methods and constructors by name. Those of dataclasses that check nothing, and properties, raise nothing."""
    for owner in CLASSES:
        is_plain = dataclasses.is_dataclass(owner) and not hasattr(owner, "__post_init__")
        shown = {"__call__", *OF_THE_CLASS} - ({"__init__"} if is_plain else set())
        ours = (base for base in reversed(owner.__mro__) if base.__module__.startswith("lepton_ai."))
        for name, member in {name: member for base in ours for name, member in vars(base).items()}.items():
            function = member.__func__ if isinstance(member, classmethod) else member
            if inspect.isfunction(function) and (not name.startswith("_") or name in shown):
                yield f"{owner.__name__}.{name}", function


CALLABLES = dict(public_callables())
OWNERS = {owner.__name__: owner for owner in CLASSES}


def doc_of(name: str) -> str:
    """The docstring that speaks of a callable."""
    owner, _, method = name.partition(".")
    return inspect.getdoc(OWNERS[owner] if method in OF_THE_CLASS else CALLABLES[name]) or ""


def documented_errors(name: str) -> set[str]:
    """The errors that a callable's docstring names, those of methods included that it says it raises like."""
    doc, owner = doc_of(name), name.partition(".")[0]
    raised = re.search(r"\b[Rr]aises?\b.*", doc, re.DOTALL)
    if raised is None:
        return set()
    found = {word for word in re.findall(r"\w+", raised[0]) if word in ERRORS}
    for other in re.findall(r"(?:like|what) ``([\w.]+)``", raised[0]):
        qualified = other if "." in other else f"{other}.__init__" if other in OWNERS else f"{owner}.{other}"
        found |= documented_errors(qualified)
    return found


def test_what_raises_nothing_is_there() -> None:
    assert sorted(RAISE_NOTHING - CALLABLES.keys()) == []


@pytest.mark.parametrize("name", sorted(CALLABLES.keys() - RAISE_NOTHING))
def test_a_docstring_says_what_is_raised(name: str) -> None:
    assert documented_errors(name), doc_of(name)


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_a_docstring_gives_the_shapes_of_arrays(name: str) -> None:
    annotations = " ".join(map(str, CALLABLES[name].__annotations__.values()))
    assert "Array" not in annotations or re.search(r"\[[\w, .]+\]", doc_of(name))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GPTModel]:
    path = tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", has_template=False)
    with GPTModel.from_pretrained(path, backend="reference") as model:
        yield model


LONG = [1] * (CONTEXT_LENGTH + 1)
MESSAGES = [{"role": "user", "content": "Hello"}]
PROVOKED: dict[str, Callable[[GPTModel], object]] = {
    "LLM.__init__ path": lambda model: LLM("./no-such-model"),
    "LLM.__init__ backend": lambda model: LLM(model.llm.model_info.path, backend="abacus"),
    "LLM.generate empty": lambda model: model.llm.generate([[]]),
    "LLM.generate long": lambda model: model.llm.generate([LONG]),
    "LLM.stream": lambda model: model.llm.stream(LONG),
    "LLM.chat": lambda model: model.llm.chat(MESSAGES),
    "LLM.chat_stream": lambda model: model.llm.chat_stream(MESSAGES),
    "LLM.chat_prompt": lambda model: model.llm.chat_prompt(MESSAGES),
    "LLM.score": lambda model: model.llm.score([LONG]),
    "LLM.logits": lambda model: model.llm.logits(LONG),
    "GPTModel.__call__ unknown": lambda model: model([-1]),
    "GPTModel.__call__ long": lambda model: model(LONG),
    "GPTModel.generate both": lambda model: model.generate("a", SamplingParams(), max_tokens=1),
    "GPTModel.generate long": lambda model: model.generate(LONG),
    "GPTModel.from_pretrained": lambda model: GPTModel.from_pretrained("./no-such-model"),
    "GPTModel.__call__ none": lambda model: model([]),
    "BertModel.__init__": lambda model: BertModel(model.llm),
    "BertModel.from_pretrained": lambda model: BertModel.from_pretrained(model.llm.model_info.path),
    "LLM.require": lambda model: model.llm.require(is_encoder=True),
    "LLM.embed": lambda model: model.llm.embed("a"),
    "LLM.classify": lambda model: model.llm.classify("a"),
    "LLM.classify_tokens": lambda model: model.llm.classify_tokens("a"),
    "LLM.hidden_states": lambda model: model.llm.hidden_states([1]),
    "SamplingParams.__init__": lambda model: SamplingParams(temperature=-1.0),
    "Tokenizer.from_pretrained": lambda model: Tokenizer.from_pretrained("./no-such-model"),
    "Tokenizer.from_folder": lambda model: Tokenizer.from_folder("./no-such-folder"),
    "Tokenizer.encode": lambda model: model.tokenizer.encode(3),  # type: ignore[arg-type]
    "Tokenizer.encode_pair": lambda model: model.tokenizer.encode_pair("a", "b"),
    "Tokenizer.decode": lambda model: model.tokenizer.decode([1 << 20]),
    "Tokenizer.token_bytes": lambda model: model.tokenizer.token_bytes(-1),
}


@pytest.mark.parametrize("what", PROVOKED)
def test_what_is_raised_is_what_the_docstring_says(what: str, model: GPTModel) -> None:
    with pytest.raises(LeptonError) as caught:
        PROVOKED[what](model)
    names = {cls.__name__ for cls in type(caught.value).__mro__}
    assert names & documented_errors(what.partition(" ")[0]) - {"LeptonError"}
