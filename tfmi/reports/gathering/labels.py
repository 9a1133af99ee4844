"""Items and users as people know them."""

from __future__ import annotations

from typing import Any

from tfmi.data.dataset import FIRST_INDEX, Catalogue, CategoricalFeature, UserProfiles


def storable(text: str) -> str:
    """A text that UTF-8 can hold: halves of surrogate pairs, which JSON may bring, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def item_label(catalogue: Catalogue, item: int) -> dict[str, str]:
    """``title`` (the id where there is none) and ``category`` ("" where there is none); an unknown item says so."""
    if item < FIRST_INDEX:
        return {"title": "(an item that training does not know)", "category": ""}
    identifier = catalogue.vocabulary.identifier(item)
    title = catalogue.titles[item] if catalogue.titles is not None else ""
    category = catalogue.features.get("category")
    named = category.vocabulary.identifier(int(category.values[item])) if isinstance(category, CategoricalFeature) else ""
    return {"title": storable(title or identifier), "category": storable(named)}


def user_label(profiles: UserProfiles | None, profile_row: int, row: int) -> str:
    """A user's id where the data keeps it, else its number among the users."""
    known = "" if profiles is None or profile_row == 0 else str(profiles.user_ids[profile_row])
    return storable(known) or f"user no. {row + 1:,}"


def history_labels(catalogue: Catalogue, items: Any, most: int) -> list[dict[str, str]]:
    """The newest ``most`` items, oldest first."""
    return [item_label(catalogue, int(item)) for item in items[-most:]]
