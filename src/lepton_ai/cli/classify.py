"""``lepton classify``."""

from __future__ import annotations

from dataclasses import asdict

from lepton_ai.cli.loading import open_llm
from lepton_ai.cli.options import AllowConfigKeys, Json, ModelName, PolicyOption, Threads
from lepton_ai.cli.output import print_json
from lepton_ai.cli.table import print_table
from lepton_ai.cli.texts import Input, MaxLength, Texts, gather_texts
from lepton_ai.config import Policy
from lepton_ai.engine.outputs import Classification, LabeledToken


def classify(
    model: ModelName,
    texts: Texts = None,
    *,
    input: Input = None,
    max_length: MaxLength = None,
    threads: Threads = None,
    policy: PolicyOption = Policy.AUTO,
    allow_config_key: AllowConfigKeys = None,
    json: Json = False,
) -> None:
    """Say which class each text has, or each token of it, as the checkpoint was trained to.

    \b
    Examples:
      lepton classify ./sentiment "I like it." "It broke at once."
      lepton classify ./names --input sentences.txt --json
    """
    gathered = gather_texts(texts, input)
    with open_llm(model, threads=threads, policy=policy, allow_config_keys=allow_config_key) as llm:
        name = llm.model_info.name
        if llm.classifies_tokens:
            tokens = llm.classify_tokens(gathered, max_length=max_length)
            _show_tokens(name, gathered, tokens, wants_json=json)
        else:
            _show_texts(name, gathered, llm.classify(gathered, max_length=max_length), wants_json=json)


def _show_texts(name: str, texts: list[str], results: list[Classification], *, wants_json: bool) -> None:
    if wants_json:
        entries = [{"label": r.label, "score": r.score, "scores": dict(r.scores)} for r in results]
        print_json({"model": name, "results": entries})
        return
    rows = [(r.label, f"{r.score:.4f}", text) for r, text in zip(results, texts, strict=True)]
    print_table(("label", "score", "text"), rows, right=("score",))


def _show_tokens(name: str, texts: list[str], results: list[list[LabeledToken]], *, wants_json: bool) -> None:
    if wants_json:
        print_json({"model": name, "results": [[asdict(token) for token in tokens] for tokens in results]})
        return
    rows = [
        (str(index), token.text, token.classification.label, f"{token.classification.score:.4f}")
        for index, tokens in enumerate(results, start=1)
        for token in tokens
    ]
    print_table(("text", "token", "label", "score"), rows, right=("text", "score"))
