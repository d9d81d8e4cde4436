"""What a build of llama.cpp must have to be measured. Needs the standard library only, as workers do."""

from __future__ import annotations


def check_build(system_info: str, machine: str) -> list[str]:
    """Names of what ``llama_print_system_info`` says is on: "CPU : SSE3 = 1 | AVX = 1 | ...".

    Raises RuntimeError if repacked weights are not among them, or vectors of a processor of type ``machine``.
    """
    pairs = (part.rpartition(":")[2].partition("=") for part in system_info.split("|"))
    features = [name.strip() for name, _, value in pairs if value.strip() == "1"]
    missing = {"REPACK", "AVX2" if machine == "x86_64" else "NEON"} - set(features)
    if missing:
        raise RuntimeError(f"llama.cpp was built without {' and '.join(sorted(missing))}: it has {' '.join(features)}")
    return features
