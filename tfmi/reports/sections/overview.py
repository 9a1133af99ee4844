"""What to know first: how good it is, beside the best of the simple baselines."""

from __future__ import annotations

from typing import Any

from tfmi.evaluation.bootstrap import differences_from
from tfmi.reports.markup import Child, Markup, join, tag
from tfmi.reports.numbers import interval, shown
from tfmi.reports.run_values import RunValues, lower_is_better
from tfmi.reports.sections.names import system_name

KINDS = {"retriever": "Retrieves items", "ranker": "Ranks candidates", "tags": "Knows users by tags"}


def head(run: RunValues) -> Markup:
    """Title, verdict and the figures that people ask for first."""
    system, dataset = run.metrics.get("system", run.config.get("system", "?")), run.metrics.get("dataset", "?")
    kind = KINDS.get(run.gathered.get("kind", ""), "Run")
    lead = f"{kind} · trained on {dataset} · run {run.name} · seed {run.metrics.get('seed', '?')}"
    return join(tag("h1", f"{system} on {dataset}"), tag("p", lead, class_="lead"), verdict(run), _tiles(run))


def verdict(run: RunValues) -> Markup:
    """One sentence: does it beat the simple baselines?"""
    metric, own = run.compared_metric, str(run.metrics.get("system", ""))
    rivals = {name: values[metric] for name, values in run.baseline_metrics().items() if metric in values and name != own}
    if metric not in run.test or not rivals:
        missing = "no simple baseline was measured on this data" if run.gathered else "what the simple baselines reach was not gathered"
        return tag("p", f"Nothing to compare with: {missing}.", class_="verdict even")
    less = lower_is_better(metric)
    best = (min if less else max)(rivals, key=lambda name: rivals[name])
    value, ahead = run.test[metric], (rivals[best] - run.test[metric]) * (1 if less else -1)
    sides = f"{metric} {shown(value)} against {shown(rivals[best])} of {system_name(best)}, the best of the simple baselines"
    certainty = _certainty(run, best, metric)
    if certainty is None:
        bounds = run.metrics.get("test_intervals", {}).get(metric)
        certain = bounds is not None and not bounds[0] <= rivals[best] <= bounds[1]
        said = "" if bounds is None else f" (95 % interval of the model {interval(bounds)})"
        if not certain and bounds is not None:
            return _sentence("even", "No clear difference from counting.", f"{sides}{said}.")
        return _sentence("good", "Better than counting.", f"{sides}{said}.") if ahead > 0 else _sentence("bad", BAD, f"{sides}{said}.")
    said = f"{sides}; difference {certainty.mean:+.4f}, 95 % interval {certainty.low:+.4f} – {certainty.high:+.4f}, over the same users."
    if certainty.low <= 0 <= certainty.high:
        return _sentence("even", "No clear difference from counting.", said)
    return _sentence("good", "Better than counting.", said) if certainty.mean > 0 else _sentence("bad", BAD, said)


BAD = "Worse than counting: do not serve this before you know why."


def _certainty(run: RunValues, best: str, metric: str) -> Any:
    own, others = run.users.get(metric), run.baseline_users.get(best, {}).get(metric)
    if own is None or others is None or len(own) != len(others) or not len(own):
        return None
    return differences_from(others, {"run": own})["run"]


def _sentence(sort: str, short: str, rest: str) -> Markup:
    return tag("p", tag("strong", short), " ", rest, class_=f"verdict {sort}")


def _tiles(run: RunValues) -> Markup:
    train, metric = run.metrics.get("train", {}), run.headline
    tiles: list[tuple[str, str, str]] = []
    if metric:
        bounds = run.metrics.get("test_intervals", {}).get(metric)
        tiles.append((f"test {metric}", shown(float(run.test[metric])), f"95 %: {interval(bounds)}" if bounds else ""))
    users = _test_size(run)
    if users:
        tiles.append(users)
    if train.get("parameters"):
        tiles.append(("parameters", f"{int(train['parameters']):,}", ""))
    if train.get("steps"):
        best = f"best at step {int(train['best_step']):,}" if train.get("best_step") else ""
        tiles.append(("training steps", f"{int(train['steps']):,}", best))
    if train.get("seconds") is not None:
        tiles.append(("time to train", _duration(float(train["seconds"])), f"{float(train.get('examples_per_second', 0)):,.0f} examples/s"))
    recall = (run.export.get("index") or {}).get("recall")
    if recall:
        tiles.append((f"index recall@{recall['at']}", shown(float(recall["value"])), str(run.export["index"].get("kind", ""))))
    return tag("ul", [_tile(*each) for each in tiles], class_="tiles")


def _tile(what: str, much: str, more: str) -> Child:
    return tag("li", tag("span", what, class_="what"), tag("span", much, class_="much"), tag("span", more, class_="more") if more else None)


def _test_size(run: RunValues) -> tuple[str, str, str] | None:
    if run.users:
        return ("test users", f"{len(next(iter(run.users.values()))):,}", "never trained on")
    test = run.metrics.get("data", {}).get("test")
    rows = test.get("rows", test.get("examples")) if isinstance(test, dict) else None
    return None if rows is None else ("test rows", f"{int(rows):,}", "never trained on")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
