"""Users for whom a model does worst and best: their histories, what they did next, and what they got."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmi.data.dataset import FIRST_INDEX, EvaluationSet, InteractionDataset
from tfmi.data.impressions.impression_dataset import ImpressionRows, RankingDataset
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.evaluation.binary_metrics import auc, sigmoid
from tfmi.reports.gathering.labels import history_labels, item_label, user_label

SHOWN_HISTORY = 10
SHOWN_TARGETS = 8
SHOWN_ANSWERS = 10
# Rows that a user has to have, so that an order of them says something.
FEWEST_ROWS = 5


def extremes(values: np.ndarray, evidence: np.ndarray, most: int) -> tuple[list[int], list[int]]:
    """The places of the worst and the best of ``values`` [n], at most ``most`` each and none in both.

    Of equals those with more ``evidence`` [n], such as longer histories: there the model had most to go on.
    """
    worst = np.lexsort((-evidence, values))[:most]
    best = [int(place) for place in np.lexsort((-evidence, -values))[:most] if place not in worst]
    return [int(place) for place in worst], best


def users_of_retriever(
    recommended: np.ndarray,
    each: np.ndarray,
    data: InteractionDataset,
    examples: EvaluationSet,
    *,
    metric: str,
    most: int,
) -> dict[str, Any]:
    """The users whose lists miss and hit most.

    Args:
        recommended: int32 [U, n], everybody's list.
        each: float [users with a target], the metric of each.
        data: What to call items and users by.
        examples: The U users.
        metric: Its name.
        most: Users of each sort.
    """
    catalogue, profiles = data.catalogue, data.profiles
    rows = np.flatnonzero(examples.targets.lengths() > 0)
    lengths = examples.histories.lengths()[rows]
    worst, best = extremes(each, lengths, most)

    def describe(place: int) -> dict[str, Any]:
        row = int(rows[place])
        targets = list(dict.fromkeys(int(item) for item in examples.targets.row(row)))
        answers = [int(item) for item in recommended[row] if item >= FIRST_INDEX]
        ranks = {item: rank for rank, item in enumerate(answers, start=1)}
        return {
            "user": user_label(profiles, int(examples.histories.users[row]), row),
            "value": float(each[place]),
            "history_length": int(lengths[place]),
            "history": history_labels(catalogue, examples.histories.row(row), SHOWN_HISTORY),
            "targets": [{**item_label(catalogue, item), "rank": ranks.get(item)} for item in targets[:SHOWN_TARGETS]],
            "num_targets": len(targets),
            "answers": [{**item_label(catalogue, item), "hit": item in targets} for item in answers[:SHOWN_ANSWERS]],
        }

    return {"metric": metric, "worst": [describe(place) for place in worst], "best": [describe(place) for place in best]}


def users_of_ranker(rows: ImpressionRows, logits: np.ndarray, data: RankingDataset, most: int) -> dict[str, Any]:
    """The users whose own rows are ordered worst and best (AUC), of those with clicks and others among ``FEWEST_ROWS`` rows or more."""
    order = np.argsort(rows.users, kind="stable")
    users, starts, counts = np.unique(rows.users[order], return_index=True, return_counts=True)
    clicked = np.add.reduceat(rows.labels[order], starts) if len(starts) else np.zeros(0)
    chosen = np.flatnonzero((counts >= FEWEST_ROWS) & (clicked > 0) & (clicked < counts))
    if not len(chosen):
        return {}
    places = [order[starts[index] : starts[index] + counts[index]] for index in chosen]
    values = np.array([auc(rows.labels[each], logits[each]) for each in places])
    worst, best = extremes(values, counts[chosen], most)

    def describe(place: int) -> dict[str, Any]:
        own = places[place]
        user, newest = int(users[chosen[place]]), int(own[np.argmax(rows.timestamps[own])])
        history = data.clicks.items[data.clicks.offsets[user] : rows.history_ends[newest]]
        shown = own[np.argsort(-logits[own], kind="stable")]
        probabilities = sigmoid(logits)
        return {
            "user": user_label(data.profiles, int(data.clicks.users[user]), user),
            "value": float(values[place]),
            "history_length": len(history),
            "history": history_labels(data.catalogue, history, SHOWN_HISTORY),
            "num_targets": int(rows.labels[own].sum()),
            "answers": [
                {
                    **item_label(data.catalogue, int(rows.items[row])),
                    "hit": bool(rows.labels[row] > 0),
                    "probability": float(probabilities[row]),
                }
                for row in shown[:SHOWN_ANSWERS]
            ],
        }

    return {"metric": "auc", "worst": [describe(place) for place in worst], "best": [describe(place) for place in best]}


def users_of_tags(
    answers: np.ndarray, each: np.ndarray, counted: np.ndarray, *, metric: str, data: TagDataset, task: int, most: int
) -> dict[str, Any]:
    """The test users whose later tags are foreseen worst and best.

    Args:
        answers: int32 [users, W], everybody's tags by the model, best first.
        each: float [users], the metric.
        counted: bool [users], whom it counts for.
        metric: Its name.
        data: The data.
        task: Which task.
        most: Users of each sort.
    """
    evaluation = data.test_tags
    rows = np.flatnonzero(counted)
    own, targets = evaluation.own[task], evaluation.targets[task]
    worst, best = extremes(each[rows], own.lengths()[rows], most)

    def names(tags: np.ndarray) -> list[dict[str, str]]:
        return [{"title": data.tags.identifier(int(tag)) or "(a tag that training does not know)", "category": ""} for tag in tags]

    def describe(place: int) -> dict[str, Any]:
        row = int(rows[place])
        start, end = own.offsets[row], own.offsets[row + 1]
        weights = np.ones(end - start) if own.weights is None else own.weights[start:end]
        known = own.items[start:end][np.argsort(-weights, kind="stable")]
        found = [int(tag) for tag in answers[row] if tag >= FIRST_INDEX]
        ranks = {tag: rank for rank, tag in enumerate(found, start=1)}
        wanted = [int(tag) for tag in targets.row(row)]
        return {
            "user": str(data.users.ids[int(data.states.users[evaluation.states[row]])]),
            "value": float(each[row]),
            "history_length": len(known),
            "history": names(known[:SHOWN_HISTORY]),
            "targets": [
                {**label, "rank": ranks.get(tag)} for tag, label in zip(wanted, names(np.array(wanted[:SHOWN_TARGETS])), strict=False)
            ],
            "num_targets": len(wanted),
            "answers": [{**label, "hit": tag in wanted} for tag, label in zip(found, names(np.array(found[:SHOWN_ANSWERS])), strict=False)],
        }

    described = {"metric": f"{metric}, {data.task_names[task]}", "what": "tags"}
    return {**described, "worst": [describe(place) for place in worst], "best": [describe(place) for place in best]}
