"""What the page says of a tag model's tags, and users to try it with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfmi.explorer.items import MOST_FOUND, fold
from tfmi.export.item_details import PROFILE, WEIGHTS
from tfmi.export.tags.tag_details import SAMPLE_PROFILES_PATH, TAGS_PATH, read_sample_profiles, read_tags

MOST_PROFILES = 200


@dataclass(frozen=True)
class KnownProfile:
    """A user of the model's data.

    Attributes:
        name: The id.
        fields: By field, a text, a number, or weights by value.
    """

    name: str
    fields: dict[str, Any]


class TagTable:
    """The tags of a version and some profiles, as far as its folder tells.

    Args:
        folder: The version folder.

    Raises:
        ExportError: The folder's tables are damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.tags: list[str] = read_tags(folder)["tag"].to_pylist() if (folder / TAGS_PATH).exists() else []
        self._folded = [fold(tag) for tag in self.tags]
        self.profiles = _profiles(folder) if (folder / SAMPLE_PROFILES_PATH).exists() else []

    def search(self, words: str, most: int = MOST_FOUND) -> list[str]:
        """The first tags, the frequent ones first, in which every one of the words is found; with no words the most frequent tags."""
        wanted = fold(words).split()
        return [tag for tag, text in zip(self.tags, self._folded, strict=True) if all(word in text for word in wanted)][:most]


def _profiles(folder: Path) -> list[KnownProfile]:
    profiles = []
    for row in read_sample_profiles(folder).slice(0, MOST_PROFILES).to_pylist():
        fields = {}
        for name, value in row.items():
            if name.startswith(PROFILE) and not name.endswith(WEIGHTS):
                weights = row.get(f"{name}{WEIGHTS}")
                fields[name.removeprefix(PROFILE)] = value if weights is None else dict(zip(value, weights, strict=True))
        profiles.append(KnownProfile(str(row["user_id"]), fields))
    return profiles
