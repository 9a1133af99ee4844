"""What the interests of a model are like, and which items of real histories feed each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmi.reports.figures.bars import Bar, bar_chart
from tfmi.reports.figures.frame import figure, table
from tfmi.reports.figures.heat_map import heat_map
from tfmi.reports.markup import Child, tag
from tfmi.reports.page import PageSection, section
from tfmi.reports.run_values import RunValues

EXPLAINED = {
    "users": "test users that were looked at",
    "active": "mean number of active interests per user",
    "attention_entropy": "1: every item of a history weighs the same in an interest; 0: one item has all",
    "cosine": "of a user's interests, pair by pair; near 1 they say the same",
    "recommendation_balance": "1: all interests find equally many of the recommended items; 0: one finds all",
}
CONTRIBUTING = "interests that found something of a user's list"
# Above this, interests say much the same.
COLLAPSED = 0.95
# What fits into a picture of a user.
MOST_INTERESTS = 12


def interests(run: RunValues) -> PageSection | None:
    """The section of interests; None for models without any."""
    figures: Mapping[str, Any] = run.metrics.get("interests", {})
    routing = run.gathered.get("routing", [])
    if not figures and not routing:
        return None
    rows: list[list[Child]] = [
        [name.replace("_", " "), value, EXPLAINED.get(name, CONTRIBUTING if name.startswith("contributing") else "")]
        for name, value in figures.items()
        if not isinstance(value, list)
    ]
    return section(
        "interests",
        "Interests",
        _warning(figures),
        table(["figure", "value", "what it says"], rows) if rows else None,
        tag("div", _shares(figures), class_="figures") if figures.get("recommendation_share") else None,
        _routing(routing),
    )


def _warning(figures: Mapping[str, Any]) -> Child:
    if float(figures.get("cosine", 0.0)) > COLLAPSED:
        return tag(
            "p",
            tag("strong", "The interests have collapsed: "),
            "they point the same way, so that several find what one would. See REMI's and Re4's regularisers.",
            class_="verdict bad",
        )
    return None


def _shares(figures: Mapping[str, Any]) -> Child:
    shares = [100 * float(share) for share in figures["recommendation_share"]]
    bars = [Bar(f"interest {place}", share, said=f"{share:.1f} %") for place, share in enumerate(shares)]
    return figure(
        "Share of the recommended items that each interest found",
        bar_chart("share of the recommended items that each interest found", bars, x_label="% of recommended items"),
        header=["interest", "% of recommended items"],
        rows=[[bar.name, bar.value] for bar in bars],
    )


def _routing(routing: list[Mapping[str, Any]]) -> Child:
    charts: list[Child] = []
    for user in routing:
        names = [item["title"] + (f" · {item['category']}" if item["category"] else "") for item in user["items"]]
        weights = [row[:MOST_INTERESTS] for row in user["weights"]]
        columns = [str(place) for place in range(len(weights[0]) if weights else 0)]
        cut = user["history_length"] - len(names)
        charts.append(
            figure(
                f"Which items feed which interest: {user['user']}",
                heat_map(f"weight of each item of the history of {user['user']} in each interest", names, columns, weights),
                header=["item", *(f"interest {column}" for column in columns)],
                rows=[[name, *row] for name, row in zip(names, weights, strict=True)],
                note=f"Columns are interests; oldest item on top{f', {cut} older ones are not shown' if cut else ''}.",
            )
        )
    if not charts:
        return None
    return [
        tag("h3", "Routing: the history of real users in their interests"),
        tag("p", "Validation users with long histories. The darker, the more of an item goes into an interest."),
        tag("div", charts, class_="figures"),
    ]
