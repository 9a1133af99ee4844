"""The answers of ``explain_tags`` as rows that people read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfmi.export.saving import Answering
from tfmi.export.tags.user_fields import Request, UserFields


@dataclass(frozen=True)
class Evidence:
    """What a field, or one of its values, did for a score.

    Attributes:
        field: The field.
        value: The value; None for the field as a whole.
        effect: The score minus what it would be without.
        attention: The share of what the model looked at; None for models that do not attend to fields.
    """

    field: str
    value: str | None
    effect: float
    attention: float | None


@dataclass(frozen=True)
class TagExplanation:
    """Why a user has a score for a tag, for one task.

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


def explain_tag(model: Answering, request: Request, tag: str) -> list[TagExplanation]:
    """Ask an exported model why the user of a request of one row has a score for a tag: one explanation per task.

    Fields and values of which the user has none are left out.
    """
    fields = UserFields(model.metadata["profile_inputs"])
    outputs = model.predict("explain_tags", {**request, "tags": np.array([tag], dtype=object)})
    values = fields.values_of(request, 0)
    return [_explanation(task, tag, fields, values, outputs) for task in model.metadata["tasks"]]


def _explanation(
    task: Mapping[str, Any], tag: str, fields: UserFields, values: Mapping[str, list[str]], outputs: Mapping[str, np.ndarray]
) -> TagExplanation:
    key = task["output"]

    def output(name: str) -> Any:
        found = outputs.get(f"{key}_{name}")
        return None if found is None else found[0].tolist()

    of_fields, of_values = [], []
    for name in fields.kinds:
        column = fields.column(name)
        of_fields.append(Evidence(name, None, output(f"effect_{column}"), output(f"attention_{column}")))
        if name in values:
            effects = output(f"value_effects_{column}")
            looked = output(f"value_attention_{column}") or [None] * len(effects)
            cells = zip(values[name], effects, looked, strict=True)
            of_values += [Evidence(name, value, effect, attention) for value, effect, attention in cells if value]
    experts, gates = output("experts"), output("gates")
    return TagExplanation(
        task=task["task"],
        tag=tag,
        score=output("scores"),
        bias=output("biases"),
        experts={expert: experts[expert] for expert in task["experts"]},
        gates={expert: gates[expert] for expert in task["experts"]},
        fields=_largest_first(of_fields),
        values=_largest_first(of_values),
    )


def _largest_first(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Without those that did nothing and were not looked at."""
    there = [each for each in evidence if each.effect or each.attention]
    return tuple(sorted(there, key=lambda each: -abs(each.effect)))
