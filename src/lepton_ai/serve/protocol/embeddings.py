"""``/v1/embeddings``, ``/tokenize`` and ``/detokenize``: the requests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lepton_ai.serve.protocol.base import Ids, Prompt, RequestModel, Texts, as_several


class EmbeddingRequest(RequestModel):
    """Texts, or their token ids, to turn into vectors. ``dimensions`` other than the model's own are refused."""

    model: str
    input: Texts
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: Annotated[str, Field(max_length=128)] | None = None

    @property
    def texts(self) -> list[Prompt]:
        """One or several."""
        return as_several(self.input)


class TokenizeRequest(RequestModel):
    """A text to cut into tokens. ``model`` may be left out where one is served."""

    model: str | None = None
    prompt: str
    add_special_tokens: bool = True


class DetokenizeRequest(RequestModel):
    """Tokens to join into a text. ``model`` may be left out where one is served."""

    model: str | None = None
    tokens: Ids
