"""One explorer for all tests of this folder: a retriever, a newer version of it with a ranker behind, and a model of tags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.export.fake_recommenders import ExplainedRecommender, TableRanker, make_catalogue
from tests.export.tags.tag_datasets import export_tags
from tests.exports import made_once
from tests.models.user_tags.user_tag_models import KERNELS
from tfmi.cli.explorer import build_parser, models_of, serving
from tfmi.config import ExportConfig, IndexConfig
from tfmi.data.dataset import FIRST_INDEX, Catalogue, CategoricalFeature, NumericFeature, Sequences, Vocabulary
from tfmi.export import export_savedmodel

MARKUP = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">"
TITLES = {0: "Teacup, blue", 1: MARKUP, 2: "Чашка синяя", 3: "蓝色杯子", 4: "كوب أزرق", 5: "Café crème, été", 6: "x" * 200, 7: ""}
RESULTS = 10


def titled_catalogue() -> Catalogue:
    """40 items, of category i % 4, of price i, the first ones with unusual titles, item 3 with a picture."""
    plain = make_catalogue()
    rows = plain.num_rows
    titles = ["", "", *[TITLES.get(number, f"Thing {number}") for number in range(rows - FIRST_INDEX)]]
    pictures = np.zeros(rows, np.int32)
    pictures[FIRST_INDEX + 3] = FIRST_INDEX
    features = {
        **plain.features,
        "price": NumericFeature(np.arange(-FIRST_INDEX, rows - FIRST_INDEX).astype(np.float32), 0.0, 1.0),
        "image": CategoricalFeature(Vocabulary(["https://pictures.test/3.png"]), pictures),
    }
    return Catalogue(plain.vocabulary, features, titles, plain.counts)


def publish_models(root: Path) -> None:
    """The model ``toy``, version 1 a retriever that filters, version 2 two stages; and the model ``tags``."""
    catalogue = titled_catalogue()
    histories = Sequences(
        np.array([0, 2, 5]), np.array([2, 4, 3, 8, 9], np.int32), np.arange(5, dtype=np.float64), None, np.array([1, 2], np.int32)
    )
    widths = ExportConfig(num_results=RESULTS, exclusion_width=4, warmup_batch_sizes=[1])
    for export, seed, ranker in (
        (widths.model_copy(update={"filterable": ["category", "price"], "most_results": 20}), 0, None),
        (widths, 1, TableRanker(catalogue)),
    ):
        export_savedmodel(
            ExplainedRecommender(catalogue, seed=seed),
            catalogue,
            root / "toy",
            export=export,
            index=IndexConfig(kind="exact"),
            histories=histories,
            ranker=ranker,
        )
    export_tags(KERNELS, root / "tags", "exact", widths={"warmup_batch_sizes": [1]})


@dataclass(frozen=True)
class Site:
    """Where the page is.

    Attributes:
        address: Of the page.
        models: The folder of models.
    """

    address: str
    models: Path

    def at(self, path: str) -> str:
        """The address of something there."""
        return self.address.rstrip("/") + path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The explorer of all models, with a server of its own."""
    root = made_once(tmp_path_factory, "explored", publish_models)
    flags = ["--port", "0", "--model-base-path", str(root / "toy"), "--model-base-path", str(root / "tags")]
    options = build_parser().parse_args(flags)
    with serving(options, models_of(options)) as address:
        yield Site(address, root)
