"""What ``import tfmi`` offers by name. Names that are not here are internal, and may change between versions."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

import tfmi
from tfmi.core.registry import Registry

PACKAGES = ["tfmi", "tfmi.layers", "tfmi.losses", "tfmi.metrics", "tfmi.index"]

TOP_LEVEL = {
    *("RunConfig", "SYSTEMS", "build_model", "export_savedmodel", "load_config", "load_dataset", "rerank", "InterestRetrieval"),
    *("Dataset", "Recommender", "Ranker", "TagModel", "load"),
    *("ConfigError", "DataError", "ExportError", "IndexBuildError", "TfmiError", "TrainingError"),
    *("index", "layers", "losses", "metrics"),
}
INDEX = {
    *("Candidates", "CandidateSource", "ExactIndex", "InterestIndex", "ItemFilter", "PartitionedIndex"),
    *("RerankedItem", "ScannIndex", "allot_interests", "build_index", "search_filtered", "widen_search"),
    *("candidate_source", "measure_recall", "merge_interests", "rerank", "select"),
}
METRICS = {
    *("CatalogueEvaluator", "FullCatalogueEvaluation", "GroupedAuc", "ImpressionEvaluator", "RecommendedItems", "ReliabilityBins"),
    *("TagEvaluator", "auc", "catalogue_coverage", "category_coverage", "category_diversity", "click_metrics"),
    *("expected_calibration_error", "grouped_auc", "log_loss", "per_user_metrics", "ranking_metrics", "reliability_bins"),
    "session_metrics",
}
# What a component of your own is derived from, and where it registers; all registered components are public besides.
LAYER_BASES = {
    *("AdaptsToSequences", "Backbone", "ConfiguredLayer", "EncodedSequence", "ExpertBody", "FieldEmbedding", "FieldVectors"),
    *("InterestExtractor", "InterestOutput", "ItemPropagation", "RandomStream", "RankingInputs", "Readout", "RepeatScorer"),
    *("SequenceEncoder", "SharedInteraction", "TagTower", "UserEncoder"),
    *("BACKBONES", "ENCODERS", "EXPERT_BODIES", "EXTRACTORS", "PROPAGATIONS", "READOUTS", "REPETITIONS", "USER_ENCODERS"),
}
LOSS_BASES = {
    *("BatchContext", "CatalogueTable", "Contrast", "ItemSpace", "Objective", "Regularizer", "SoftCoarseLoss", "TaskLoss", "Weighting"),
    *("OBJECTIVES", "REGULARIZERS", "TASK_LOSSES", "WEIGHTINGS"),
}


@pytest.mark.parametrize(("package", "expected"), [("tfmi", TOP_LEVEL), ("tfmi.index", INDEX), ("tfmi.metrics", METRICS)])
def test_the_public_surface_is_exactly_this(package: str, expected: set[str]) -> None:
    assert set(importlib.import_module(package).__all__) == expected


@pytest.mark.parametrize(("package", "expected"), [("tfmi.layers", LAYER_BASES), ("tfmi.losses", LOSS_BASES)])
def test_bases_and_registries_are_public(package: str, expected: set[str]) -> None:
    assert expected <= set(importlib.import_module(package).__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_under_its_own_name(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        assert name in dir(module)
        if not isinstance(value, (Registry, ModuleType, dict)):
            assert getattr(value, "__name__", name) == name
            assert value.__doc__, f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", [tfmi.layers, tfmi.losses], ids=["layers", "losses"])
def test_every_registered_component_is_public(package: ModuleType) -> None:
    for registry in (value for value in (getattr(package, name) for name in package.__all__) if isinstance(value, Registry)):
        for name in registry.names():
            component = registry.get(name)
            if component.__module__.startswith("tfmi."):
                stub = f"{package.__name__.replace('.', '/')}/__init__.pyi"
                assert getattr(package, component.__name__, None) is component, f"add a line for {component.__qualname__} to {stub}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'tfmi\.layers' has no attribute 'Nothing'"):
        getattr(tfmi.layers, "Nothing")  # noqa: B009 - as an attribute, the type checker would refuse it
