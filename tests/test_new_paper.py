"""The components of docs/new_paper.md, copied from the page as somebody would, are trained as the page says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from tfmi.kinds.base import TrainedKind, kind_of
from tfmi.layers.backbones.backbone import BACKBONES
from tfmi.layers.base import EXTRACTORS
from tfmi.layers.user_encoders.user_encoder import USER_ENCODERS
from tfmi.models.systems import load_config

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "new_paper.md").read_text(encoding="utf-8")
MODULES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
RECIPES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported; what they register is gone afterwards, so that no other test meets it."""
    registries = (EXTRACTORS, BACKBONES, USER_ENCODERS)
    for registry in registries:
        registry.names()  # finds the package's own first
        monkeypatch.setattr(registry, "_components", dict(registry._components))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("paper_of_ones_own")]:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(MODULES)))
def test_a_component_copied_from_the_page_learns(importable: Path, number: int) -> None:
    module = f"paper_of_ones_own_{number}"
    (importable / f"{module}.py").write_text(MODULES[number], encoding="utf-8")
    recipe = importable / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"plugins": [module], **yaml.safe_load(RECIPES[number])}), encoding="utf-8")
    config = load_config(str(recipe), settings=["data.embedded.users=80", "data.embedded.items=60", "training.batch_size=32"])
    kind = kind_of(config)
    assert isinstance(kind, TrainedKind)
    data = kind.load_data(config)
    model = kind.build(config, data)
    (batch,) = kind.batches(model, data, config).from_step(0).take(1)
    assert np.isfinite(float(model.compute_loss(batch, training=True)))
    assert len(MODULES) == len(RECIPES) == 3


def test_nothing_of_the_page_stays_registered() -> None:
    assert not {"recent_and_all", "squares", "scaled_towers"} & {*EXTRACTORS.names(), *BACKBONES.names(), *USER_ENCODERS.names()}
