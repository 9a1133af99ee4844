"""Whether the parts of a retriever work together, told by where each stands in a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tfmi.core.errors import settings_at
from tfmi.layers.base import InterestExtractor, Readout, ReadsInOrder, require_every_item
from tfmi.losses.base import Objective, Regularizer, Weighting, require_softmax, require_summable
from tfmi.losses.regularizers.interest_usage import InterestUsage, usage_network


def check_parts(
    extractor: InterestExtractor,
    readout: Readout,
    objective: Objective,
    weighting: Weighting,
    regularizers: Mapping[str, Regularizer],
    *,
    repeats: bool,
    learned_votes: bool = False,
) -> None:
    """Refuse parts that do not work together.

    Args:
        extractor, readout, objective, weighting: The parts.
        regularizers: By label.
        repeats: Whether a user's own items have scores of their own.
        learned_votes: Whether votes are part of the loss.

    Raises:
        ConfigError: With the part's place in the configuration and the reason.
    """
    with settings_at("model.readout"):
        readout.check(extractor)
    for label, regularizer in regularizers.items():
        with settings_at(f"model.regularizers.{label}"):
            regularizer.check(extractor)
    with settings_at("model.objective"):
        require_summable(readout, objective)
    if repeats:
        with settings_at("model.repetition"):
            require_softmax(objective, "a repetition")
    if learned_votes:
        with settings_at("model.votes.learned"):
            require_softmax(objective, "a vote that is learned")
    with settings_at("model.weighting"):
        weighting.check(objective, readout)


def check_sequences(extractor: InterestExtractor, encoder: ReadsInOrder | None) -> None:
    """Raise ``ConfigError`` unless there are interests after every item of a history, as ``data.examples: sequences`` needs."""
    with settings_at("data.examples"):
        require_every_item(extractor, encoder)


def usage_of(regularizers: Iterable[Regularizer], readout: Readout) -> InterestUsage:
    """What learns the interests' shares. Raises ``ConfigError`` where places cannot be allotted to interests by them."""
    given = list(regularizers)
    learned = sum(isinstance(each, InterestUsage) for each in given) == 1
    with settings_at("model.readout" if learned else "model.regularizers"):
        return usage_network(given, readout)
