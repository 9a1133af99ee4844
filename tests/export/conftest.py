"""Exports that the tests of this folder share: making one takes seconds."""

from __future__ import annotations

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
from tests.exports import loaded, made_once
from tfmi.config import ExportConfig, IndexConfig
from tfmi.data.dataset import UserProfiles
from tfmi.export import export_savedmodel
from tfmi.export.publishing import newest_version
from tfmi.models.recommender import Retriever


def _export(
    factory: pytest.TempPathFactory, name: str, recommender: Retriever, kind: str, profiles: UserProfiles | None = None
) -> Exported:
    catalogue = make_catalogue()
    widths = ExportConfig(num_results=NUM_RESULTS, exclusion_width=EXCLUSION_WIDTH, warmup_batch_sizes=[1, 3])
    metadata = {"system": "fake", "configuration": {"seed": 7}, "metrics": {"test": {"recall@6": float("nan")}}, "data": {"users": 6}}
    index = IndexConfig.model_validate({"kind": kind})
    folder = made_once(
        factory,
        f"{name}_export",
        lambda path: export_savedmodel(
            recommender, catalogue, path / "fake", export=widths, index=index, profiles=profiles, metadata=metadata
        ),
    )
    version = newest_version(folder / "fake")
    return Exported(recommender, catalogue, version, loaded(version), profiles)


@pytest.fixture(scope="session")
def exact_export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Interests and a profile, exact index."""
    recommender = TableRecommender(make_catalogue(), (REGION, AGE, GENRES))
    return _export(tmp_path_factory, "exact", recommender, "exact", make_profiles())


@pytest.fixture(scope="session")
def scann_export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Interests without a profile, ScaNN index."""
    pytest.importorskip("scann", reason="ScaNN has no wheel for this platform and Python")
    return _export(tmp_path_factory, "scann", TableRecommender(make_catalogue()), "scann")


@pytest.fixture(scope="session")
def partitioned_export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Interests without a profile, partitioned index."""
    return _export(tmp_path_factory, "partitioned", TableRecommender(make_catalogue()), "partitioned")


@pytest.fixture(scope="session")
def direct_export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A model that ranks by itself."""
    return _export(tmp_path_factory, "direct", NextInLine(make_catalogue()), "scann", make_profiles())
