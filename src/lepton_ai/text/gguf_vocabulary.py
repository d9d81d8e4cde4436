"""The tokenizer that the metadata of a GGUF file describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from lepton_ai.errors import UnsupportedModel
from lepton_ai.text import byte_level_bpe, sentencepiece, wordpiece
from lepton_ai.text.gguf_tokens import Metadata
from lepton_ai.text.vocabulary import Vocabulary

_READERS: Mapping[str, Callable[[Metadata], Vocabulary]] = MappingProxyType(
    {"gpt2": byte_level_bpe.read_gguf, "llama": sentencepiece.read_gguf, "bert": wordpiece.read_gguf}
)


def read_vocabulary(metadata: Metadata) -> Vocabulary:
    """The vocabulary of a GGUF file. Raises UnsupportedModel for another kind, InvalidModel for a malformed one."""
    model = metadata.get_str("tokenizer.ggml.model")
    if model not in _READERS:
        known = ", ".join(_READERS)
        raise UnsupportedModel(f"tokenizer.ggml.model: expected one of {known}, got {model!r}", param="model")
    return _READERS[model](metadata)
