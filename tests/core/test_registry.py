"""Components register themselves, and their constructors are their schema."""

from __future__ import annotations

from typing import Literal

import pytest

from tfmi.core.errors import ConfigError
from tfmi.core.registry import Registry


class _Layer:
    def __init__(self, width: int, rate: float = 0.5, mode: Literal["a", "b"] = "a", **kwargs: object) -> None:
        if width > 10:
            raise ValueError("width must be at most 10")
        self.width, self.rate, self.mode = width, rate, mode


@pytest.fixture
def registry() -> Registry[_Layer]:
    made: Registry[_Layer] = Registry("layer", "tfmi.evaluation")
    made.register("wide")(_Layer)
    return made


def test_builds_from_a_description(registry: Registry[_Layer]) -> None:
    layer = registry.build({"name": "wide", "width": 3, "rate": 1, "mode": "b"}, "here")
    assert (layer.width, layer.rate, layer.mode) == (3, 1.0, "b")


def test_what_is_offered_is_taken_by_who_has_such_a_parameter_and_sets_nothing_else(registry: Registry[_Layer]) -> None:
    layer = registry.build({"name": "wide", "mode": "b"}, "here", width=3, mode="a", seed=7)
    assert (layer.width, layer.mode) == (3, "b")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"width": 3}, "here: expected a 'name'"),
        ({"name": "wid", "width": 3}, "did you mean 'wide'"),
        ({"name": "wide"}, "here.width: required"),
        ({"name": "wide", "width": "3"}, "here.width: Input should be a valid integer"),
        ({"name": "wide", "width": True}, "here.width"),
        ({"name": "wide", "width": 3, "mode": "c"}, "here.mode: Input should be 'a' or 'b', got 'c'"),
        ({"name": "wide", "width": 3, "rate": float("nan")}, "here.rate: expected a number, got nan"),
        ({"name": "wide", "width": 3, "kwargs": {}}, "here.kwargs: unknown parameter"),
        ({"name": "wide", "width": 11}, "here: width must be at most 10"),
    ],
)
def test_refuses_with_the_path(registry: Registry[_Layer], spec: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        registry.build(spec, "here")
    assert expected in str(error.value)


def test_a_name_is_taken_once(registry: Registry[_Layer]) -> None:
    class Other:
        pass

    with pytest.raises(ValueError, match="already registered"):
        registry.register("wide")(Other)  # type: ignore[arg-type]


def test_classes_of_two_modules_are_two_classes(registry: Registry[_Layer]) -> None:
    namesake = type("_Layer", (), {"__module__": "elsewhere", "__qualname__": _Layer.__qualname__})
    with pytest.raises(ValueError, match=r"already registered by .*test_registry\._Layer"):
        registry.register("wide")(namesake)
    registry.register("wide")(_Layer)
    assert registry.get("wide") is _Layer
