"""SINE and its variants as configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfmi.errors import ConfigError
from tfmi.models.systems import load_config


def test_sine_with_label_aware_attention_is_a_configuration_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "sine_label.yaml"
    path.write_text(
        "system: sine_label\n"
        "model:\n"
        "  extractor: {name: sparse_interests, num_interests: 4, num_prototypes: 50, assignment: cosine}\n"
        "  readout: {name: label_aware, power: 2}\n"
        "  regularizers: {apart: {name: interest_cosine, weight: 0.05}}\n",
        encoding="utf-8",
    )
    assert load_config(path).system == "sine_label"
    # The named system may change its readout, too.
    changed = load_config(system="sine", settings=["model.readout={name: label_aware}"])
    assert changed.model.readout == {"name": "label_aware"}


@pytest.mark.parametrize(
    ("system", "setting", "message"),
    [
        ("mind", "model.readout={name: predicted_intention}", "PredictedIntention needs current_intention"),
        ("mind", "model.regularizers={pool: {name: concept_covariance}}", "ConceptCovariance needs prototypes"),
        ("youtube_dnn", "model.regularizers={apart: {name: interest_cosine}}", "InterestCosine compares the interests of a user"),
        ("sine", "model.extractor.num_prototypes=3", r"model\.extractor: num_prototypes: expected at least num_interests, 4"),
    ],
)
def test_combinations_that_cannot_work_are_refused_before_any_data_is_read(system: str, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(system=system, settings=[setting])
