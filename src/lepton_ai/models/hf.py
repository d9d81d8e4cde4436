"""What a family says of checkpoints in the layout of the transformers library, and how one is read by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lepton_ai.errors import InvalidModel
from lepton_ai.models.hf_config import HFConfig
from lepton_ai.weights.renamed import Rename, RenamedStore
from lepton_ai.weights.store import WeightStore

DECODER_NAMES: Final[Mapping[str, str]] = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
    "layers.{}.self_attn.q_proj": "blk.{}.attn_q",
    "layers.{}.self_attn.k_proj": "blk.{}.attn_k",
    "layers.{}.self_attn.v_proj": "blk.{}.attn_v",
    "layers.{}.self_attn.o_proj": "blk.{}.attn_output",
    "layers.{}.self_attn.q_norm": "blk.{}.attn_q_norm",
    "layers.{}.self_attn.k_norm": "blk.{}.attn_k_norm",
    "layers.{}.mlp.gate_proj": "blk.{}.ffn_gate",
    "layers.{}.mlp.up_proj": "blk.{}.ffn_up",
    "layers.{}.mlp.down_proj": "blk.{}.ffn_down",
}
"""Tensors that the library's decoders call the same; norms differ by where they stand."""


@dataclass(frozen=True, slots=True)
class HFLayout:
    """``translate`` gives hyper-parameters under the names of GGUF, without the architecture's prefix, and
    ``general.architecture``. ``renames``, ``ignored`` and ``prefixes``: see ``RenamedStore``.
    """

    translate: Callable[[HFConfig], Mapping[str, object]]
    renames: Sequence[Rename]
    ignored: Sequence[str] = ()
    prefixes: Sequence[str] = ()


class TranslatedMetadata(dict[str, object]):
    """Hyper-parameters of a ``config.json`` as ``models.metadata.Metadata``."""

    def get_int(self, key: str, default: int | None = None) -> int:
        """An integer."""
        value = self._present(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "an integer", value)
        return value

    def get_float(self, key: str, default: float | None = None) -> float:
        """A finite real number."""
        value = self._present(key, default)
        if not isinstance(value, float) or not math.isfinite(value):
            raise self._wrong(key, "a number", value)
        return value

    def get_str(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._present(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        return value

    def _present(self, key: str, default: object) -> object:
        value = self.get(key, default)
        if value is None:
            raise InvalidModel(f"config.json: expected what becomes {key}, got nothing", param="model")
        return value

    def _wrong(self, key: str, expected: str, got: object) -> InvalidModel:
        return InvalidModel(f"config.json: {key}: expected {expected}, got {got!r:.80}", param="model")


def translate(
    layout: HFLayout, values: Mapping[str, object], store: WeightStore, allowed_keys: Collection[str] = ()
) -> tuple[TranslatedMetadata, WeightStore]:
    """A checkpoint's hyper-parameters and tensors under the names that its family uses.

    Raises InvalidModel for a key that is absent or of the wrong type, UnsupportedModel for a key that the family does
    not know and that is not one of ``allowed_keys``, WeightMismatch for tensors that come out under one name.
    """
    config = HFConfig(values)
    keys = dict(layout.translate(config))
    config.refuse_unread(allowed_keys)
    architecture = keys.pop("general.architecture")
    metadata = TranslatedMetadata({f"{architecture}.{key}": value for key, value in keys.items()})
    metadata["general.architecture"] = architecture
    return metadata, RenamedStore(store, layout.renames, ignored=layout.ignored, prefixes=layout.prefixes)
