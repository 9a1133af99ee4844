"""What things are called on a page."""

from __future__ import annotations

SYSTEMS = {
    "popularity": "popularity",
    "recent_popularity": "recent popularity",
    "item_knn": "item-KNN",
    "popular_tags": "popular tags",
    "own_tags": "a user's own tags",
    "mean_click_rate": "mean click rate",
    "item_click_rate": "item's click rate",
}
METRICS = {
    "recall": "share of what users took next that is in the list",
    "hr": "share of users with a hit in the list",
    "ndcg": "hits, the higher in the list the more they count",
    "mrr": "1 / place of the first hit",
    "precision": "share of the list that was taken next",
    "coverage": "share of the catalogue that is in anybody's list",
    "diversity": "share of a list's pairs with different categories",
    "auc": "how often a clicked row stands before one that is not",
    "gauc": "AUC within users, averaged by their rows",
    "log_loss": "cross-entropy in nats, less is better",
    "calibration_error": "distance of predicted and observed rates, less is better",
    "predicted_mean": "mean prediction",
    "observed_mean": "share of clicked rows",
}


def system_name(name: str) -> str:
    """A baseline for people; other systems by their own name."""
    return SYSTEMS.get(name, name)


def spelled_out(key: str) -> str:
    """A key of a report as words."""
    return key.replace("_", " ")
