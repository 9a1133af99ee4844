"""The answers of ``explain_tags`` as rows that people read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfmi.export.saving import Answering, Request
from tfmi.export.tags.user_fields import UserFields
from tfmi.serving.client import Evidence, TagExplanation, tag_explanation


@dataclass(frozen=True)
class TaskExplanation:
    """Why a user has a score for a tag, for one task: the client's ``TagExplanation`` with the names of the model's metadata.

    Attributes:
        task, tag: Of what.
        score: The logit.
        bias: What it holds for every tag.
        experts: What each expert that the task uses adds, by expert: their sum and the bias are the score.
        gates: How much the tag listens to each of them.
        fields: Largest effects first.
        values: Largest effects first, of fields with several values.
    """

    task: str
    tag: str
    score: float
    bias: float
    experts: Mapping[int, float]
    gates: Mapping[int, float]
    fields: tuple[Evidence, ...]
    values: tuple[Evidence, ...]

    @property
    def probability(self) -> float:
        """The sigmoid of the score."""
        return float(1.0 / (1.0 + np.exp(-self.score)))

    def rows(self, most: int = 10) -> list[str]:
        """Lines of text: the score, its experts, and at most so many fields and values."""
        lines = [f"{self.tag} ({self.task}): score {self.score:+.4f}, probability {self.probability:.4f}"]
        if len(self.experts) > 1 or self.bias:
            parts = [f"expert {expert} {share:+.4f} (gate {self.gates[expert]:.2f})" for expert, share in self.experts.items()]
            lines.append("  = " + ", ".join([*parts, *([f"bias {self.bias:+.4f}"] if self.bias else [])]))
        for title, evidence in (("field", self.fields), ("value", self.values)):
            for each in evidence[:most]:
                name = each.field if each.value is None else f"{each.field}: {each.value}"
                looked = "" if each.attention is None else f"  attention {each.attention:.3f}"
                lines.append(f"  {title} {name:<40} {each.effect:+.4f}{looked}")
        return lines


def explain_tag(model: Answering, request: Request, tag: str) -> list[TaskExplanation]:
    """Ask an exported model why the user of a request of one row has a score for a tag: one explanation per task.

    Fields and values of which the user has none are left out.
    """
    fields = UserFields(model.metadata["profile_inputs"])
    found = model.predict("explain_tags", {**request, "tags": np.array([tag], dtype=object)})
    sent, outputs = ({name: values.tolist() for name, values in each.items()} for each in (request, found))
    names = {fields.column(name): name for name in fields.kinds}
    return [_named(task, tag, tag_explanation(task["output"], 0, sent, outputs), names) for task in model.metadata["tasks"]]


def _named(task: Mapping[str, Any], tag: str, why: TagExplanation, names: Mapping[str, str]) -> TaskExplanation:
    return TaskExplanation(
        task=task["task"],
        tag=tag,
        score=why.score,
        bias=why.bias,
        experts={expert: why.experts[expert] for expert in task["experts"]},
        gates={expert: why.gates[expert] for expert in task["experts"]},
        fields=_effective(why.fields, names),
        values=_effective(why.values, names),
    )


def _effective(evidence: Iterable[Evidence], names: Mapping[str, str]) -> tuple[Evidence, ...]:
    """Under the fields' names, without those that did nothing and were not looked at."""
    return tuple(replace(each, field=names[each.field]) for each in evidence if each.effect or each.attention)
