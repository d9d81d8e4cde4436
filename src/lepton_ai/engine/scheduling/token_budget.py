"""How a step's tokens are divided among the requests that run."""

from __future__ import annotations

from collections.abc import Sequence


def allot(missing: Sequence[int], budget: int) -> list[int]:
    """Tokens for each request, given how many each lacks, in order of rank; at most ``budget`` in all.

    Those that lack one, which decode, get it. The first request gets at least one whatever it lacks. Of the rest, the
    first that lacks more has half, or what it needs; in the other half the others follow, whoever lacks least first: a
    short prompt does not wait for a long one, and a long one always gets on. What is left over goes by rank.
    """
    if len(missing) <= budget and all(lacks == 1 for lacks in missing):
        return [1] * len(missing)
    counts = [0] * len(missing)
    left = budget
    if missing and missing[0] > 1 and left:
        counts[0] = 1
        left -= 1
    for index, lacks in enumerate(missing):
        if lacks == 1 and left:
            counts[index] = 1
            left -= 1
    prompts = [index for index, lacks in enumerate(missing) if lacks > 1]
    if not left or not prompts:
        return counts
    first, *others = prompts
    half = (left + counts[first] + 1) // 2
    for_others = left - (min(missing[first], half) - counts[first])
    for index in sorted(others, key=lambda i: missing[i]):
        counts[index] = min(missing[index], for_others)
        for_others -= counts[index]
        left -= counts[index]
    for index in prompts:
        more = min(missing[index] - counts[index], left)
        counts[index] += more
        left -= more
    return counts
