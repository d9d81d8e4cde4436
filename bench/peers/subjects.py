"""The models that are measured, in the forms that are measured."""

from __future__ import annotations

from dataclasses import dataclass

from bench.model_files import ModelFile, describe_file, describe_folder, make_q4_0
from bench.peers.environments import ensure
from lepton_ai.config import Environment
from lepton_ai.weights.sources.library import Library
from lepton_ai.weights.sources.progress import NoProgress
from lepton_ai.weights.sources.references import canonical_name
from lepton_ai.weights.sources.resolve import resolve

PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model by its short name; ``form`` is PUBLISHED, or Q4_0: what llama.cpp's quantiser makes of that.

    ``label`` names it in a table, with its type of weights.
    """

    model: str
    form: str
    label: str

    @property
    def name(self) -> str:
        """Of its cases."""
        return self.model if self.form == PUBLISHED else f"{self.model}-{self.form.lower()}"

    def prepare(self) -> ModelFile:
        """Pull it, and make its form, if that was not done before. Raises what these raise."""
        path = resolve(self.model, Environment.read(), NoProgress())
        if path.is_dir():
            return describe_folder(path)
        file = describe_file(path)
        return file if self.form == PUBLISHED else describe_file(make_q4_0(file, ensure("llama_cpp")))

    def digest(self) -> str | None:
        """What tells it from all others; None if the model is not here yet."""
        name = canonical_name(self.model)
        found = Library(Environment.read().home).find(name) if name is not None else None
        return None if found is None else f"{found.sha256}-{self.form}"


SMOLLM2 = Subject("smollm2", PUBLISHED, "SmolLM2 Q4_1")
SMOLLM2_Q4_0 = Subject("smollm2", "Q4_0", "SmolLM2 Q4_0")
QWEN_05B = Subject("qwen2.5-coder-0.5b", PUBLISHED, "Qwen2.5-Coder-0.5B")
QWEN_05B_Q4_0 = Subject("qwen2.5-coder-0.5b", "Q4_0", "Qwen2.5-Coder-0.5B Q4_0")
QWEN_15B = Subject("qwen2.5-coder-1.5b", PUBLISHED, "Qwen2.5-Coder-1.5B")
GEMMA = Subject("gemma3-270m", PUBLISHED, "Gemma 3 270M")
MINILM = Subject("minilm", PUBLISHED, "MiniLM")
