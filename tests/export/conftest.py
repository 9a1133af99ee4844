"""Exports that the tests of this folder share: making one takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.fake_recommenders import (
    AGE,
    EXCLUSION_WIDTH,
    GENRES,
    NUM_RESULTS,
    REGION,
    Exported,
    NextInLine,
    TableRecommender,
    make_catalogue,
    make_profiles,
)
from tfmi.config import ExportConfig, IndexConfig
from tfmi.data.dataset import Catalogue, UserProfiles
from tfmi.export import ExportedModel, export_savedmodel
from tfmi.models.recommender import Retriever


def _export(recommender: Retriever, catalogue: Catalogue, directory: Path, kind: str, profiles: UserProfiles | None) -> Exported:
    widths = ExportConfig(num_results=NUM_RESULTS, exclusion_width=EXCLUSION_WIDTH, warmup_batch_sizes=[1, 3])
    folder = export_savedmodel(
        recommender,
        catalogue,
        directory,
        export=widths,
        index=IndexConfig.model_validate({"kind": kind}),
        profiles=profiles,
        metadata={"system": "fake", "configuration": {"seed": 7}, "metrics": {"test": {"recall@6": float("nan")}}, "data": {"users": 6}},
    )
    return Exported(recommender, catalogue, folder, ExportedModel(folder), profiles)


@pytest.fixture(scope="session")
def exact_export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Interests and a profile, exact index."""
    catalogue, profiles = make_catalogue(), make_profiles()
    recommender = TableRecommender(catalogue, (REGION, AGE, GENRES))
    return _export(recommender, catalogue, tmp_path_factory.mktemp("exact") / "fake", "exact", profiles)


@pytest.fixture(scope="session")
def scann_export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Interests without a profile, ScaNN index."""
    pytest.importorskip("scann", reason="ScaNN has no wheel for this platform and Python")
    catalogue = make_catalogue()
    return _export(TableRecommender(catalogue), catalogue, tmp_path_factory.mktemp("scann") / "fake", "scann", None)


@pytest.fixture(scope="session")
def partitioned_export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Interests without a profile, partitioned index."""
    catalogue = make_catalogue()
    return _export(TableRecommender(catalogue), catalogue, tmp_path_factory.mktemp("partitioned") / "fake", "partitioned", None)


@pytest.fixture(scope="session")
def direct_export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A model that ranks by itself."""
    catalogue = make_catalogue()
    return _export(NextInLine(catalogue), catalogue, tmp_path_factory.mktemp("direct") / "fake", "scann", make_profiles())
