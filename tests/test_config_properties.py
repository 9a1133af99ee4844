"""Any mapping is a configuration or one message that names the key; merging is the obvious thing, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tfmi.config import RunConfig, merge, parse_settings, parse_yaml, validate_config
from tfmi.core.errors import ConfigError

SECTIONS = list(RunConfig.model_fields)
NAMES = st.sampled_from(["name", "kind", "path", "dimension", "batch_size", "columns", "extractor", "index", "no_such_key"]) | st.text(
    max_size=4
)
LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8)
CONFIGURATIONS = st.dictionaries(st.sampled_from(SECTIONS) | NAMES, VALUES, max_size=4)
# Without "name", which makes a mapping a component: another component inherits nothing.
KEYS = st.sampled_from(list("abcd"))
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=10)
MAPPINGS = st.dictionaries(KEYS, TREES, max_size=4)


@settings(max_examples=100, deadline=None)
@given(CONFIGURATIONS)
def test_any_mapping_is_a_configuration_or_one_message(values: dict[str, Any]) -> None:
    config: Any = RunConfig()
    try:
        config = validate_config(values)
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - either outcome is right
    assert validate_config(config.model_dump()) == config


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="a.=[]{}:,&*!| \n0123", max_size=40))
def test_any_setting_and_any_yaml_is_read_or_refused(text: str) -> None:
    for read in (lambda: parse_settings([text]), lambda: parse_yaml(text, "file.yaml")):
        try:
            read()
        except ConfigError as error:
            assert str(error)  # noqa: PT017 - either outcome is right


def paths(values: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every leaf by its path; an empty mapping is a leaf."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        found.update(paths(value, (*prefix, key)) if isinstance(value, Mapping) and value else {(*prefix, key): value})
    return found


def merged_by_hand(base: Any, override: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(override, Mapping)):
        return override
    return {
        key: merged_by_hand(base[key], override[key]) if key in base and key in override else override.get(key, base.get(key))
        for key in [*base, *override]
    }


@settings(max_examples=100, deadline=None)
@given(MAPPINGS, MAPPINGS)
def test_merging_is_key_by_key_and_the_override_is_stronger(base: dict[str, Any], override: dict[str, Any]) -> None:
    before = (paths(base), paths(override))
    merged = merge(base, override)
    assert merged == merged_by_hand(base, override)
    assert (paths(base), paths(override)) == before
    assert merge(merged, override) == merged
