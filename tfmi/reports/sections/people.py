"""Users for whom the model does worst and best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmi.reports.markup import Child, tag
from tfmi.reports.numbers import shown
from tfmi.reports.page import PageSection, section
from tfmi.reports.run_values import RunValues


def people(run: RunValues) -> PageSection:
    """The section of single users."""
    found: Mapping[str, Any] = run.gathered.get("users") or {}
    if not found:
        why = (
            "evaluation.report_users is 0, or no test user has enough to look at"
            if run.gathered
            else "they were not gathered with this run"
        )
        return section("users", "Worst and best users", tag("p", f"No single users are shown: {why}."))
    metric = found["metric"]
    parts: list[Child] = [
        tag(
            "p",
            f"Test users with the lowest and the highest {metric}; of equals those with the longest histories. ✓ marks what the user took.",
        )
    ]
    for which in ("worst", "best"):
        if found.get(which):
            people_of = tag("div", [_person(user, metric, found.get("what", "items")) for user in found[which]], class_="people")
            parts += [tag("h3", which.capitalize()), people_of]
    return section("users", "Worst and best users", parts)


def _person(user: Mapping[str, Any], metric: str, what: str) -> Child:
    length, shown_items = user["history_length"], user["history"]
    newest = f"History: {length:,} {what}" + (f", the newest {len(shown_items)}" if length > len(shown_items) else "")
    if what == "tags":
        newest = f"Before: {length:,} tags" + (f", the {len(shown_items)} most frequent" if length > len(shown_items) else "")
    return tag(
        "article",
        tag("h4", user["user"]),
        tag("p", f"{metric} {shown(float(user['value']))}", class_="small"),
        tag("p", newest, class_="group"),
        tag("ol", [tag("li", _item(each)) for each in shown_items]),
        _targets(user),
        tag("p", "Shown, by the model's order" if "targets" not in user else "Answered, best first", class_="group"),
        tag("ol", [tag("li", _answer(each), class_="hit" if each["hit"] else None) for each in user["answers"]]),
        class_="person",
    )


def _targets(user: Mapping[str, Any]) -> Child:
    if "targets" not in user:
        return None
    found, count = user["targets"], user["num_targets"]
    return [
        tag("p", "Took next" + (f": {count:,}, the first {len(found)}" if count > len(found) else ""), class_="group"),
        tag(
            "ol",
            [
                tag("li", _item(each), f" ✓ at {each['rank']}" if each["rank"] else "", class_="hit" if each["rank"] else None)
                for each in found
            ],
        ),
    ]


def _answer(answer: Mapping[str, Any]) -> Child:
    probability = f" {answer['probability']:.3f}" if "probability" in answer else ""
    return [_item(answer), tag("span", probability, class_="tag") if probability else None, " ✓" if answer["hit"] else None]


def _item(item: Mapping[str, Any]) -> Child:
    return [tag("bdi", item["title"]), tag("span", f" · {item['category']}", class_="tag") if item["category"] else None]
