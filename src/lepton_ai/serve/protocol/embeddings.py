"""``/v1/embeddings``, ``/tokenize`` and ``/detokenize``: the requests."""

from __future__ import annotations

from typing import Literal

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.protocol.base import RequestModel


class EmbeddingRequest(RequestModel):
    """Texts, or their token ids, to turn into vectors. ``dimensions`` other than the model's own are refused."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None

    @property
    def texts(self) -> list[str | list[int]]:
        """One or several. Raises InvalidRequest for none."""
        if isinstance(self.input, str):
            return [self.input]
        if not self.input:
            raise InvalidRequest("input: expected at least one text", param="input")
        if isinstance(self.input[0], int):
            return [self.input]
        return list(self.input)


class TokenizeRequest(RequestModel):
    """A text to cut into tokens. ``model`` may be left out where one is served."""

    model: str | None = None
    prompt: str
    add_special_tokens: bool = True


class DetokenizeRequest(RequestModel):
    """Tokens to join into a text. ``model`` may be left out where one is served."""

    model: str | None = None
    tokens: list[int]
