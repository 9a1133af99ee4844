"""Parameters of approximate indexes from the catalogue's size, down to a handful of items, or by hand."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

# Below this a scan of all vectors takes less than a millisecond and finds everything, so approximation has nothing to give.
BRUTE_FORCE_BELOW = 5_000
# "auto" is exact up to so many numbers in the catalogue's vectors, 20,000 items of width 64. Up to there no approximate kind is faster by
# more than half a millisecond for a request of four interests on one core.
EXACT_UP_TO = 20_000 * 64
# The most that a build of ScaNN holds beside the vectors that it is given, as a multiple of them: 8.0, 8.2 and 6.5 at 250,000 to 1,000,000
# items of width 64 (benchmarks/index_build.py).
SCANN_BUILD_TABLES = 8.5
_BYTES = 4
# ScaNN's hashing learns 16 codes per block and refuses to train on fewer vectors than that.
FEWEST_HASHED_ITEMS = 16
# A leaf with fewer items than this costs more to choose than to scan.
ITEMS_PER_LEAF = 16
# Share of the leaves to search. Interests lie between clusters more often than items do, so it is generous for small catalogues.
SEARCHED_SHARE_AT_10_000 = 0.25
FEWEST_SEARCHED_LEAVES = 10
# Exact scores for five times as many candidates as results lose about 1 % of the results to quantisation; for twice as many, 10 %.
REORDERING_PER_RESULT = 5
FEWEST_REORDERING_CANDIDATES = 200
DEFAULT_DIMENSIONS_PER_BLOCK = 2
# Partitions for each square root of the catalogue's size. Small ones are near to what is sought as a whole, many cost time to compare.
PARTITIONS_PER_ROOT = 4.0
# Below this, comparing with centres costs more than scoring everything.
FEWEST_PARTITIONED_ITEMS = 2_000
# How many partitions are searched for each interest, before a target recall asks for more.
SEARCHED_PARTITIONS = 16
# By how much a search grows at each step towards a recall that it misses.
WIDENING_STEP = 1.5


@dataclass(frozen=True)
class ScannParameters:
    """How a ScaNN index is built and searched.

    Attributes:
        brute_force: Score every vector exactly; the other fields then have no meaning.
        leaves: Partitions of the catalogue.
        leaves_to_search: Partitions scored per query.
        reordering_candidates: At least this many of the best approximate scores are computed again exactly ...
        reordering_per_result: ... and at least this many for each result asked for.
        dimensions_per_block: Dimensions that share one 4-bit code: more is smaller and faster, and less accurate.
        training_iterations: Of the clustering that makes the partitions.
    """

    brute_force: bool
    leaves: int
    leaves_to_search: int
    reordering_candidates: int
    reordering_per_result: int
    dimensions_per_block: int
    training_iterations: int


def choose_parameters(
    num_items: int,
    dimension: int,
    *,
    leaves: int | None = None,
    leaves_to_search: int | None = None,
    reordering_candidates: int | None = None,
    dimensions_per_block: int | None = None,
    training_iterations: int = 12,
) -> ScannParameters:
    """Fill in what is None from the catalogue's size, and bring what is given by hand within what the catalogue allows.

    A small catalogue is scored by brute force, unless a parameter of the approximation is given by hand; one too small for ScaNN to
    learn its codes from always is.
    """
    by_hand = any(value is not None for value in (leaves, leaves_to_search, reordering_candidates, dimensions_per_block))
    brute_force = num_items < FEWEST_HASHED_ITEMS or (num_items < BRUTE_FORCE_BELOW and not by_hand)
    leaves = leaves if leaves is not None else round(2 * math.sqrt(num_items))
    leaves = max(1, min(leaves, num_items // ITEMS_PER_LEAF))
    if leaves_to_search is None:
        share = SEARCHED_SHARE_AT_10_000 * math.sqrt(10_000 / num_items)
        leaves_to_search = max(FEWEST_SEARCHED_LEAVES, round(share * leaves))
    return ScannParameters(
        brute_force=brute_force,
        leaves=leaves,
        leaves_to_search=min(leaves_to_search, leaves),
        reordering_candidates=min(reordering_candidates or FEWEST_REORDERING_CANDIDATES, num_items),
        reordering_per_result=REORDERING_PER_RESULT if reordering_candidates is None else 1,
        dimensions_per_block=min(dimensions_per_block or DEFAULT_DIMENSIONS_PER_BLOCK, dimension),
        training_iterations=training_iterations,
    )


def scann_build_bytes(num_items: int, dimension: int) -> int:
    """About how much memory the build of a ScaNN index takes besides the vectors that it is given."""
    return round(SCANN_BUILD_TABLES * num_items * dimension * _BYTES)


def widened(parameters: ScannParameters, num_items: int, by_hand: Collection[str]) -> list[dict[str, int]]:
    """The ways to search one step further, without what was set ``by_hand``: more leaves, and exact scores for more candidates."""
    ways: list[dict[str, int]] = []
    if parameters.brute_force:
        return ways
    if "leaves_to_search" not in by_hand and parameters.leaves_to_search < parameters.leaves:
        ways.append({"leaves_to_search": min(math.ceil(WIDENING_STEP * parameters.leaves_to_search), parameters.leaves)})
    if "reordering_candidates" not in by_hand and parameters.reordering_candidates < num_items:
        ways.append(
            {
                "reordering_candidates": min(math.ceil(WIDENING_STEP * parameters.reordering_candidates), num_items),
                "reordering_per_result": math.ceil(WIDENING_STEP * parameters.reordering_per_result),
            }
        )
    return ways


def choose_partitions(num_items: int, partitions: int | None = None, partitions_to_search: int | None = None) -> tuple[int, int]:
    """How many partitions a partitioned index has, and how many it searches for each interest; what is given is kept where it can be."""
    if partitions is None:
        partitions = round(PARTITIONS_PER_ROOT * math.sqrt(num_items)) if num_items >= FEWEST_PARTITIONED_ITEMS else 1
    partitions = max(1, min(partitions, num_items))
    return partitions, min(partitions_to_search or SEARCHED_PARTITIONS, partitions)
