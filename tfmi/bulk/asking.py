"""What an exported model can be asked in bulk, whatever kind it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tfmi.bulk.parts import Answers
from tfmi.bulk.recommendations import RecommendationAnswers, RetrieverFields
from tfmi.bulk.tag_answers import TagScorer
from tfmi.bulk.user_file import Fields
from tfmi.core.errors import ConfigError, ExportError
from tfmi.export.exported_model import ExportedModel
from tfmi.export.tags.user_fields import UserFields


@dataclass(frozen=True)
class _BulkKind:
    """How models with one signature are asked about many users."""

    signature: str
    fields: Callable[[ExportedModel], Fields]
    answers: Callable[[ExportedModel, int, int | None, bool], Answers]


def _tags(model: ExportedModel, batch_size: int, most: int | None, vectors: bool) -> Answers:
    if vectors:
        raise ConfigError("--vectors: models of tags answer with tags; only retrievers have interest vectors")
    return TagScorer(model, batch_size, most)


def _recommendations(model: ExportedModel, batch_size: int, most: int | None, vectors: bool) -> Answers:
    return RecommendationAnswers(model, batch_size, most, vectors=vectors)


_KINDS = (
    _BulkKind("recommend", lambda model: RetrieverFields(model.metadata, restrictions=True), _recommendations),
    _BulkKind("user_tags", lambda model: UserFields(model.metadata["profile_inputs"]), _tags),
)


def _kind_of(model: ExportedModel) -> _BulkKind:
    for kind in _KINDS:
        if kind.signature in model.signature_names:
            return kind
    wanted = " nor ".join(kind.signature for kind in _KINDS)
    raise ExportError(f"this model has neither {wanted} among its signatures, so that it cannot be asked about users")


def fields_of(model: ExportedModel) -> Fields:
    """What can be said of a user."""
    return _kind_of(model).fields(model)


def answers_of(model: ExportedModel, batch_size: int, most: int | None, *, vectors: bool = False) -> Answers:
    """Asks the model.

    Args:
        model: The model.
        batch_size: Users per request.
        most: Items, or tags of each task, per user at most; None: all that the model answers.
        vectors: Whether to answer with users' interest vectors, too.

    Raises:
        ConfigError: The model answers with fewer, or has no vectors.
        ExportError: The model cannot be asked about users.
    """
    return _kind_of(model).answers(model, batch_size, most, vectors)
