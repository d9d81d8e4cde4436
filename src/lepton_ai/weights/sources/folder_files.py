"""Which files of a published folder belong to a model as Lepton reads it. No others are fetched or taken out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lepton_ai.errors import ModelNotFound, UnsupportedModel

CONFIG = "config.json"
_NAMES = frozenset(
    (
        CONFIG,
        "generation_config.json",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "spiece.model",
        "sentencepiece.bpe.model",
        "chat_template.jinja",
        "modules.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
    )
)
# As the transformers library names them. Whatever else ends so is another form of the same weights, or an adapter.
_WEIGHTS = re.compile(r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors")
_SPLIT = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})\.gguf")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_MAX_SHOWN = 8


def is_wanted(name: str) -> bool:
    """Whether a file of this path below the folder is one of a model's."""
    return name in _NAMES or is_weights(name)


def is_weights(name: str) -> bool:
    """Whether a file of this path below the folder holds weights."""
    return _WEIGHTS.fullmatch(name) is not None


def is_relative(path: str) -> bool:
    """Whether a path with slashes stays below where it starts, and says so plainly."""
    steps = path.removesuffix("/").split("/")
    return path.isprintable() and "\\" not in path and all(step not in ("", ".", "..") for step in steps)


def choose_files(names: Iterable[str], member: str | None, where: str) -> Mapping[str, str]:
    """Which of ``names`` make the model: from their names in the finished model to their paths in the source.

    ``member`` is the path of a GGUF file or of a folder with a config.json; without it there must be one of these.
    ``where`` is what an error calls the source. Raises ModelNotFound, UnsupportedModel for a folder of pickles.
    """
    paths = sorted({name for name in names if is_relative(name)})
    if member is None:
        member = _only_model(paths, where)
    if member in paths and member.endswith(".gguf"):
        return {path.rpartition("/")[2]: path for path in _all_parts(member, paths)}
    root = f"{member}/" if member else ""
    if root + CONFIG not in paths:
        raise ModelNotFound(
            f"model: {where} has no GGUF file {member!r} and no folder of this name with a {CONFIG}; "
            f"it has {_shown(_models(paths))}",
            param="model",
        )
    below = [path.removeprefix(root) for path in paths if path.startswith(root)]
    if not any(map(is_weights, below)):
        if pickle := next((name for name in below if name.endswith(_PICKLES)), None):
            raise UnsupportedModel(
                f"{where}: expected model.safetensors, got {pickle}, a pickle, which could run code", param="model"
            )
        raise ModelNotFound(f"model: {where}: expected model.safetensors beside {root}{CONFIG}", param="model")
    return {name: root + name for name in below if is_wanted(name)}


def _all_parts(gguf: str, paths: Iterable[str]) -> list[str]:
    """A GGUF file, or all files of a model of which it is one."""
    if (match := _SPLIT.fullmatch(gguf)) is None:
        return [gguf]
    return [path for path in paths if (m := _SPLIT.fullmatch(path)) and (m[1], m[3]) == (match[1], match[3])]


def _models(paths: Iterable[str]) -> list[str]:
    """GGUF models, by their first file, and folders with a config.json and weights; "" is the source itself."""
    names = list(paths)
    ggufs = [name for name in names if name.endswith(".gguf")]
    firsts = [name for name in ggufs if (m := _SPLIT.fullmatch(name)) is None or int(m[2]) == 1]
    roots = [name.removesuffix(CONFIG) for name in names if f"/{name}".endswith(f"/{CONFIG}")]
    folders = [root for root in roots if any(n.startswith(root) and is_weights(n.removeprefix(root)) for n in names)]
    return [*firsts, *(root.removesuffix("/") for root in folders)]


def _only_model(paths: Iterable[str], where: str) -> str:
    found = _models(paths)
    if len(found) != 1:
        raise ModelNotFound(
            f"model: expected one model in {where}, found {_shown(found)}; name one after a colon", param="model"
        )
    return found[0]


def _shown(models: list[str]) -> str:
    names = [repr(name or ".") for name in models[:_MAX_SHOWN]]
    more = f" and {len(models) - _MAX_SHOWN} more" if len(models) > _MAX_SHOWN else ""
    return (", ".join(names) or "none") + more
