"""Item attributes of the Amazon review data: ``item_attributes.json``, from item id to a list of unnamed attribute numbers.

The lists are ordered: an optional brand, then a path of categories from the broadest to the narrowest. The broadest level can be told
from the rest without names: such an attribute stands first where the brand is missing and second after a brand, and never deeper; a
brand never stands second, a narrower category never first. In the Beauty data this rule finds six attributes, and every item has
exactly one of them. It becomes the item's category; all attributes together are its tags.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmi.core.errors import DataError
from tfmi.data.tables import ItemTable

ATTRIBUTES_FILE = "item_attributes.json"


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
