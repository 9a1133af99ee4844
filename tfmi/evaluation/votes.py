"""The weight of counts that vote (``model.votes.weight: auto``), chosen on validation users once a model has learned."""

from __future__ import annotations

import logging

import numpy as np

from tfmi.data.dataset import EvaluationSet, UserProfiles
from tfmi.evaluation.full_catalogue import CatalogueEvaluator
from tfmi.models.retrieval.counted_votes import CountedVotes

log = logging.getLogger(__name__)

# In units of what lies between a user's best score and the last one of a list. At the largest the counts alone decide on the order of what
# they know, so that the choice is never worse on validation users than the model or its counts by themselves.
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
# After so many weights in a row that are no better only the largest is still tried.
PATIENCE = 2


def choose_weight(
    votes: CountedVotes, evaluator: CatalogueEvaluator, examples: EvaluationSet, profiles: UserProfiles | None, metric: str
) -> float:
    """Give ``votes`` the weight that is best on these users; of equal ones the smallest.

    Args:
        votes: Of the evaluator's model, with a weight to choose.
        evaluator: Measures the model.
        examples: The validation users; each weight ranks the catalogue for all of them.
        profiles: Their features, for models trained with any.
        metric: A metric of which more is better, such as "recall@50".

    Returns:
        The weight; 0 where votes do not help.
    """
    assert votes.chosen is not None  # noqa: S101 - of the caller
    votes.chosen.assign(0.0)
    alone = evaluator.rank(examples, profiles)
    best_value, best = evaluator.measure(alone, examples)[metric], 0.0
    value_alone, spread = best_value, _spread(alone.scores)
    misses = 0
    for multiple in MULTIPLES if spread > 0.0 else ():
        if misses == PATIENCE and multiple != MULTIPLES[-1]:
            continue
        weight = multiple * spread
        votes.chosen.assign(weight)
        value = evaluator.evaluate(examples, profiles)[metric]
        misses += 1
        if value > best_value:
            best_value, best, misses = value, weight, 0
    votes.chosen.assign(best)
    log.info("Votes of %s weigh %.4g: validation %s %.4f, %.4f without them", votes.counts.name, best, metric, best_value, value_alone)
    return best


def _spread(scores: np.ndarray) -> float:
    """The mean over users of the best score less the last one of their list; ``scores`` [U, n], -inf where missing. 0 without lists."""
    known = np.isfinite(scores)
    listed = known.any(axis=1)
    if not listed.any():
        return 0.0
    last = np.where(known, scores, np.inf).min(axis=1)
    return float((scores[listed, 0] - last[listed]).mean())
