"""Item attributes of the Amazon review data: ``item_attributes.json``, from item id to a list of unnamed attribute numbers.

The lists are ordered: an optional brand, then a path of categories from the broadest to the narrowest. The broadest level can be told
from the rest without names: such an attribute stands first where the brand is missing and second after a brand, and never deeper; a
brand never stands second, a narrower category never first. In the Beauty data this rule finds six attributes, and every item has
exactly one of them. It becomes the item's category; all attributes together are its tags.
"""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfmi.core.errors import DataError
from tfmi.data.reading.joins import likely_reason
from tfmi.data.tables import ItemTable

log = logging.getLogger(__name__)

ATTRIBUTES_FILE = "item_attributes.json"
# What users do one after the other has more in common than any two events have; with as many pairs as this it shows.
FEWEST_PAIRS, MOST_PAIRS = 500, 20_000
# The share of the items that must have attributes, as of a log's events in its catalogue.
FEWEST_JOINED = 0.05
# Standard errors, and the factor, by which neighbours share an attribute more often, where the attributes are those of the items.
FITTING_ERRORS, FITTING_FACTOR = 4.0, 1.1


def read_attributes(path: Path) -> ItemTable:
    """Read the attributes as tags of weight 1 and, where the lists show it, a category. Raises ``DataError`` on another content."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(attributes, list) for attributes in content.values()):
        raise DataError(f'{path}: expected a JSON object from item ids to lists of attributes, e.g. {{"4": [1, 2, 3]}}')
    lists = {str(item): [str(attribute) for attribute in attributes] for item, attributes in content.items()}
    broadest = broadest_categories(lists)
    return ItemTable(
        item_ids=list(lists),
        categories=[next((a for a in attributes if a in broadest), "") for attributes in lists.values()] if broadest else None,
        tags=[[(attribute, 1.0) for attribute in attributes] for attributes in lists.values()],
    )


def broadest_categories(lists: Mapping[str, Sequence[str]]) -> set[str]:
    """The attributes that stand first in some lists and second in others, and never deeper."""
    places: dict[str, set[int]] = defaultdict(set)
    for attributes in lists.values():
        for place, attribute in enumerate(attributes):
            places[attribute].add(place)
    return {attribute for attribute, seen in places.items() if seen == {0, 1}}


def check_join(
    path: Path, table: ItemTable, item_ids: Sequence[str], items: np.ndarray, rows: np.ndarray, *, certain: bool, fix: str
) -> None:
    """Say how many items have attributes, and check by the data that these are their own.

    Two numberings, of the original data and of a split, match each other id by id and mean other items. The data tells: neighbours in a
    user's sequence share an attribute far more often than any two events do, unless the attributes are of other items.

    Args:
        path: The attributes' file.
        table: The attributes.
        item_ids: The id of each code.
        items: int [events] codes, each row's events one after the other.
        rows: int [events] the row of each event.
        certain: Whether a file says which number is which; the data is then warned of only.
        fix: What to do about the wrong numbering.

    Raises:
        DataError: No item has attributes, or they are not those of the items and nothing says otherwise.
    """
    known = set(table.item_ids)
    joined = sum(identifier in known for identifier in item_ids)
    example = ""
    if 0 < joined < len(item_ids):
        lacking = [identifier for identifier in item_ids if identifier not in known][:1000]
        example = f"; {likely_reason(lacking, list(table.item_ids))}"
    share = joined / max(len(item_ids), 1)
    log.info("%s: %s of %s items (%s) have attributes%s", path, f"{joined:,}", f"{len(item_ids):,}", f"{share:.1%}", example)
    if not joined:
        example = f"{table.item_ids[0]!r} there, {item_ids[0]!r} here" if len(table.item_ids) and len(item_ids) else "one of them is empty"
        raise DataError(f"{path}: none of the {len(item_ids):,} items is in it ({example}); {fix}")
    if share < FEWEST_JOINED:
        raise DataError(
            f"{path}: only {joined:,} of {len(item_ids):,} items ({share:.1%}) are in it, less than {FEWEST_JOINED:.0%}: the two "
            f"hardly belong together{example}; {fix}"
        )
    fits = attributes_fit(table, item_ids, items, rows)
    if fits:
        return
    if fits is None:
        if not certain:
            log.warning("%s: taken to be by the numbers of these files; there is too little data to tell. Otherwise %s", path, fix)
        return
    message = (
        "the attributes are no more alike between neighbours in a sequence than between any two events, so they seem to be of other items: "
        "two numberings are mixed"
    )
    if not certain:
        raise DataError(f"{path}: {message}; {fix}")
    log.warning("%s: %s, or say nothing of what users do", path, message)


def attributes_fit(table: ItemTable, item_ids: Sequence[str], items: np.ndarray, rows: np.ndarray) -> bool | None:
    """Whether neighbours in a row share an attribute more often than events at random do; None if there are too few pairs to tell.

    Args as for ``check_join``.
    """
    attributes = dict(zip(table.item_ids, ({name for name, _ in tags} for tags in table.tags or []), strict=False))
    of_code = [attributes.get(identifier, set()) for identifier in item_ids]
    told = np.array([bool(each) for each in of_code], dtype=bool)
    pairs = np.flatnonzero((rows[1:] == rows[:-1]) & (items[1:] != items[:-1]) & told[items[1:]] & told[items[:-1]])
    if len(pairs) < FEWEST_PAIRS:
        return None
    generator = np.random.default_rng(0)
    pairs = generator.permutation(pairs)[:MOST_PAIRS]
    first, second = items[pairs], items[pairs + 1]
    neighbours = _share_in_common(of_code, first, second)
    chance = _share_in_common(of_code, first, generator.permutation(second))
    error = math.sqrt(2 * max(chance * (1 - chance), 1e-9) / len(pairs))
    return neighbours - chance > FITTING_ERRORS * error and neighbours > FITTING_FACTOR * chance


def _share_in_common(attributes: Sequence[set[str]], first: np.ndarray, second: np.ndarray) -> float:
    shared = (not attributes[a].isdisjoint(attributes[b]) for a, b in zip(first.tolist(), second.tolist(), strict=True))
    return sum(shared) / len(first)
