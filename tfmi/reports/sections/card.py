"""The model card: what the model is for, what it knows, and where it ends. And what the run was set to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmi.reports.figures.frame import table
from tfmi.reports.markup import Child, tag
from tfmi.reports.numbers import shown
from tfmi.reports.page import PageSection, section
from tfmi.reports.run_values import RunValues

USES = {
    "retriever": "Candidates out of the whole catalogue for a user whose newest items are known. Rules, filters and a ranker may follow.",
    "ranker": "The order of candidates that a retriever has found, and the probability that a user clicks each of them, at places like "
    "those of the training log.",
    "tags": "Profiles: which tags a user likes, and which users like a tag, for audiences and explanations.",
}
NOT_FOR = {
    "retriever": "It says nothing of people beyond what they are likely to take next, and was not made for decisions about them.",
    "ranker": "Its probabilities hold for rows like those of the log; shown elsewhere, or to others, they have to be checked again.",
    "tags": "A tag is a guess from behaviour, no fact about a person; do not use it where such a guess may do harm.",
}


def model_card(run: RunValues) -> PageSection:
    """The section of intended use, data and limits."""
    kind = run.gathered.get("kind", "")
    return section(
        "card",
        "Model card",
        tag("h3", "Intended use"),
        tag("p", USES.get(kind, "See the documentation of its system.")),
        tag("p", NOT_FOR.get(kind, "")) if kind in NOT_FOR else None,
        tag("h3", "Data"),
        tag("p", "See the ", tag("a", "data card", href="#data"), ". What its users did is all that the model knows of the world."),
        tag("h3", "Limits"),
        tag("ul", [tag("li", each) for each in limits(run)]),
    )


def limits(run: RunValues) -> list[str]:
    """What this run's own figures and settings say of where it ends."""
    settings, report = run.config, run.metrics.get("data", {})
    length = settings.get("data", {}).get("history_length")
    found = [
        "Measured on the past of the same log: what users would have done with other lists is not in it, and only what is served tells.",
    ]
    if length and run.gathered.get("kind") != "tags":
        found.append(f"It sees the newest {length} items of a history, and nothing before.")
    if run.gathered.get("kind") == "retriever":
        found.append(
            "Items that training does not know are ignored in histories and never recommended; users without a known item get the most "
            "popular ones."
        )
    cold = report.get("cold_items_as_candidates")
    if cold:
        found.append(
            f"{cold:,} candidates have too few events to be learned from: the model knows them by their features, if it reads any."
        )
    found += _from_figures(run)
    last = _last_time(report)
    if last:
        found.append(f"Its newest event is of {last} (UTC); taste and catalogue move on.")
    found.append("One seed: another one gives other figures. Compare systems over several (tfmi-report RUN RUN …).")
    found.append("No figure here says whether groups of people are treated alike, beyond the slices above.")
    return found


def _from_figures(run: RunValues) -> list[str]:
    found = []
    coverage = run.test.get(f"coverage@{run.longest_cutoff}")
    if coverage is not None:
        found.append(f"{1 - coverage:.1%} of the catalogue is in no test user's list of {run.longest_cutoff}.")
    curve: Mapping[str, Any] = next(iter(run.gathered.get("data", {}).get("popularity", {}).values()), {})
    if curve.get("tenth", 0.0) > 0.5:
        found.append(f"The most frequent tenth has {curve['tenth']:.0%} of the events: figures speak of it most.")
    slices = {
        name: values
        for name, values in run.metrics.get("test_slices", {}).items()
        if run.headline in values and not name.startswith("target")
    }
    if slices:
        weakest = min(slices, key=lambda name: slices[name][run.headline])
        if slices[weakest][run.headline] < 0.8 * run.test[run.headline]:
            group, _, label = weakest.partition(":")
            found.append(f"Weakest slice: {group} {label}, {run.headline} {shown(float(slices[weakest][run.headline]))}.")
    return found


def _last_time(report: Any) -> Any:
    if not isinstance(report, Mapping):
        return None
    if report.get("last_time"):
        return report["last_time"]
    return next((found for value in report.values() if (found := _last_time(value))), None)


def configuration_section(run: RunValues) -> PageSection:
    """The section of settings and versions."""
    versions: Mapping[str, Any] = run.metrics.get("versions", {})
    rows: list[list[Child]] = [[name, str(version)] for name, version in versions.items()]
    return section(
        "configuration",
        "Configuration and versions",
        tag("p", "All settings that this run reads, as YAML; training/train.py --config takes it."),
        tag("details", tag("summary", "config.yaml"), tag("pre", run.config_text)),
        table(["package", "version"], rows) if rows else None,
    )
