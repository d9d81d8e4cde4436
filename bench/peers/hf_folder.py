"""A GGUF file as a Hugging Face folder with the same weights in f32: what every other engine's tools begin with.

``config.json``, ``model.safetensors``, ``tokenizer.json`` and ``tokenizer_config.json``. A tensor is read, dequantised
and written before the next: the folder may be larger than the memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lepton_ai.models.gemma3 import Gemma3Config
from lepton_ai.models.llama import LlamaConfig
from lepton_ai.models.registry import family, load_model
from lepton_ai.models.rope import plain_rope
from lepton_ai.text.gguf_vocabulary import read_vocabulary
from lepton_ai.text.spelling import Spelling
from lepton_ai.text.vocabulary import SpecialTokens, Vocabulary
from lepton_ai.weights.formats import dequantize
from lepton_ai.weights.gguf import GGUFFile
from lepton_ai.weights.gguf_metadata import Metadata

F32Array = npt.NDArray[np.float32]
Config = dict[str, object]

_ARCHITECTURES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
}
"""That of the file -> ``model_type`` and class of the library."""

_DECODERS: Mapping[Spelling, object] = {
    Spelling.BYTE_LEVEL: {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    Spelling.SENTENCEPIECE: {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ],
    },
}


def write_hf_folder(source: Path, target: Path) -> None:
    """Write the folder, which must be there.

    Raises ValueError for a model that is none of llama, qwen2 and gemma3, or whose rotation is stretched.
    """
    with GGUFFile(source) as file:
        config = read_config(file)
        vocabulary = read_vocabulary(file.metadata)
        special = vocabulary.special
        ends = special.eos_token_ids
        config |= {"bos_token_id": special.role_ids.get("bos"), "eos_token_id": special.role_ids.get("eos")}
        _write_json(target / "config.json", config)
        _write_json(target / "generation_config.json", {"eos_token_id": list(ends), "do_sample": False})
        _write_json(target / "tokenizer.json", tokenizer_json(vocabulary))
        _write_json(target / "tokenizer_config.json", _tokenizer_config(special, file.metadata))
        write_safetensors(target / "model.safetensors", _tensors(file))


def read_config(file: GGUFFile) -> Config:
    """What ``config.json`` says, but for token ids. Raises ValueError like ``write_hf_folder``."""
    model = load_model(file.metadata, file).config
    if model.architecture not in _ARCHITECTURES or not isinstance(model, LlamaConfig | Gemma3Config):
        known = ", ".join(_ARCHITECTURES)
        raise ValueError(f"{file.path}: expected an architecture among {known}, got {model.architecture}")
    base = _shortest(file.metadata.get_float(f"{model.architecture}.rope.freq_base", 10000.0))
    rope = model.global_rope if isinstance(model, Gemma3Config) else model.rope
    if rope != plain_rope(base, model.head_dim):
        raise ValueError(f"{file.path}: expected a rotation that is not stretched")
    if isinstance(model, LlamaConfig) and any(model.windows):
        raise ValueError(f"{file.path}: expected layers that see all positions")
    model_type, name = _ARCHITECTURES[model.architecture]
    config: Config = {
        "architectures": [name],
        "model_type": model_type,
        "dtype": "float32",
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.feed_forward_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads,
        "head_dim": model.head_dim,
        "max_position_embeddings": model.context_length,
        "rms_norm_eps": _shortest(model.norm_eps),
        "rope_theta": base,
    }
    return config | (_gemma_keys(file, model) if isinstance(model, Gemma3Config) else _llama_keys(model))


def _llama_keys(model: LlamaConfig) -> Config:
    return {"hidden_act": "silu", "tie_word_embeddings": model.is_head_tied}


def _gemma_keys(file: GGUFFile, model: Gemma3Config) -> Config:
    kinds = ["full_attention" if window is None else "sliding_attention" for window in model.windows]
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": round(model.query_scale**-2),
        "sliding_window": next(window for window in model.windows if window is not None),
        "layer_types": kinds,
        "rope_local_base_freq": _shortest(file.metadata.get_float("gemma3.rope.freq_base_swa", 10000.0)),
    }


def _shortest(value: float) -> float:
    """The shortest number that is the same in f32: a GGUF file has 9.999999747378752e-06 where 1e-05 was meant."""
    return float(str(np.float32(value)))


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that is made when it is written."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], F32Array]


def write_safetensors(path: Path, tensors: Sequence[Tensor]) -> None:
    """Write a file of f32 tensors, one after the other."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + 4 * int(np.prod(tensor.shape))
        header[tensor.name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            values = tensor.read()
            assert values.shape == tensor.shape
            np.ascontiguousarray(values, "<f4").tofile(out)


def _tensors(file: GGUFFile) -> list[Tensor]:
    model = load_model(file.metadata, file)
    layout = family(model.config.architecture).HF
    names = {target: rename.source for rename in layout.renames for target in rename.targets}
    ignored = set(model.ignorable_names())
    return [_tensor(file, name, names, model.config) for name in file.names() if name not in ignored]


def _tensor(file: GGUFFile, name: str, names: Mapping[str, str], config: object) -> Tensor:
    stem, _, ending = name.rpartition(".")
    block, _, part = stem.rpartition(".")
    layer = block.removeprefix("blk.")
    pattern = names[f"blk.{{}}.{part}" if block else stem].format(layer)
    stored = file.get(name)

    def read() -> F32Array:
        values = dequantize(stored.data, stored.type, stored.shape)
        file.release(name)
        if isinstance(config, Gemma3Config) and stem.endswith("norm"):
            # GGUF has added the one that the library adds to a norm's weight.
            return (values.astype(np.float64) - 1.0).astype(np.float32)
        if isinstance(config, LlamaConfig) and config.is_rope_interleaved and part in ("attn_q", "attn_k"):
            return _halves_from_neighbours(values, config.head_dim)
        return values

    return Tensor(f"{'' if stem == 'output' else 'model.'}{pattern}.{ending}", stored.shape, read)


def _halves_from_neighbours(rows: F32Array, head_dim: int) -> F32Array:
    """Rows of each head in the library's order: it rotates (i, i + D/2), where GGUF files of llama have neighbours."""
    return rows.reshape(-1, head_dim // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def tokenizer_json(vocabulary: Vocabulary) -> Config:
    """The whole ``tokenizer.json``: Lepton's own has neither control tokens nor a decoder."""
    special = vocabulary.special
    whole: Config = json.loads(vocabulary.splitter_json)
    model = whole["model"]
    assert isinstance(model, dict)
    # The library counts added tokens on from the vocabulary, whatever ids are beside them, unless it finds them there.
    model["vocab"] |= special.control_tokens
    if special.unspelled_id is not None:
        # An id past the embeddings, which only our own reader knows to leave out.
        del model["vocab"][model["unk_token"]]
        model["unk_token"] = None
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    controls, defined = special.control_tokens, special.user_defined
    whole["added_tokens"] = [
        {"id": token_id, "content": text, **flags, "special": text in controls}
        for text, token_id in sorted((controls | defined).items(), key=lambda item: item[1])
    ]
    whole["decoder"] = _DECODERS[special.spelling]
    return whole


def _tokenizer_config(special: SpecialTokens, metadata: Metadata) -> Config:
    texts = {token_id: text for text, token_id in special.control_tokens.items()}
    config: Config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for role in ("bos", "eos", "pad", "unk"):
        if role in special.role_ids:
            config[f"{role}_token"] = texts[special.role_ids[role]]
    if "tokenizer.chat_template" in metadata:
        config["chat_template"] = metadata.get_str("tokenizer.chat_template")
    return config


def _write_json(path: Path, values: Mapping[str, object]) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
