"""Which processes train together, as ``TF_CONFIG`` says."""

from __future__ import annotations

import json

import pytest

from tfmi.core.errors import ConfigError
from tfmi.models.systems import load_config
from tfmi.training.distribution.cluster import read_cluster

WORKERS = {"worker": ["a:1", "b:1"]}
SERVERS = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}


def config(cluster: object, role: str = "worker", index: object = 0) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": role, "index": index}})}


def test_without_a_cluster_this_process_trains_alone() -> None:
    assert read_cluster(None, {}) is None
    assert read_cluster("none", {}) is None
    assert read_cluster(None, config({"worker": ["a:1"]})) is None


def test_what_the_cluster_has_decides_the_strategy() -> None:
    workers, servers = read_cluster(None, config(WORKERS, index=1)), read_cluster(None, config(SERVERS, "ps"))
    assert workers is not None
    assert servers is not None
    assert (workers.strategy, workers.is_chief, workers.is_server, workers.num_workers) == ("multi_worker", False, False, 2)
    assert (servers.strategy, servers.is_chief, servers.is_server, servers.num_workers) == ("parameter_server", False, True, 2)


@pytest.mark.parametrize(
    ("cluster", "role", "index", "is_chief"),
    [
        (WORKERS, "worker", 0, True),
        (WORKERS, "worker", 1, False),
        ({"chief": ["a:1"], "worker": ["b:1"]}, "worker", 0, False),
        ({"chief": ["a:1"], "worker": ["b:1"]}, "chief", 0, True),
        (SERVERS, "chief", 0, True),
        (SERVERS, "worker", 0, False),
    ],
)
def test_one_process_is_the_chief(cluster: object, role: str, index: int, is_chief: bool) -> None:
    read = read_cluster(None, config(cluster, role, index))
    assert read is not None
    assert read.is_chief is is_chief


@pytest.mark.parametrize(
    ("asked", "environment", "said"),
    [
        ("multi_worker", {}, "TF_CONFIG, which is not set"),
        ("parameter_server", {}, "launch_local.py starts such a cluster"),
        ("none", config(WORKERS), "which would all train the same"),
        ("mirrored", config(WORKERS), "take multi_worker"),
        ("multi_worker", config(SERVERS, "chief"), "has no parameter servers"),
        ("parameter_server", config(WORKERS), "no cluster.chief"),
        ("parameter_server", config({"chief": ["a:1"], "worker": ["b:1"]}, "chief"), "no cluster.ps"),
        (None, {"TF_CONFIG": "{worker"}, "expected JSON"),
        (None, {"TF_CONFIG": "[]"}, "expected {"),
        (None, {"TF_CONFIG": '{"cluster": {}}'}, "no object 'task'"),
        (None, config({"worker": ["a:1"], "evaluator": ["b:1"]}), "an evaluator has nothing to do"),
        (None, config({"worker": "a:1"}), 'a list of "host:port"'),
        (None, config({"worker": ["a:1", "b"]}), 'a list of "host:port"'),
        (None, config({"worker": ["a:1", "a:1"]}), "stands in it twice"),
        (None, config(WORKERS, "boss"), "task.type"),
        (None, config(WORKERS, index=2), "expected 0 to 1"),
        (None, config(WORKERS, index="0"), "expected 0 to 1"),
        (None, config({**SERVERS, "chief": ["a:1", "z:1"]}, "chief"), "expected one address"),
    ],
)
def test_what_is_no_cluster_is_said(asked: str | None, environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_cluster(asked, environment)
    assert said in str(raised.value)


def test_a_setting_that_replicas_do_not_read_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.steps_per_execution.*one step at a time"):
        load_config(None, "mind", ["training.strategy=multi_worker", "training.steps_per_execution=4"], {})
    with pytest.raises(ConfigError, match=r"training\.replicas.*not mirrored"):
        load_config(None, "mind", ["training.replicas=2"], {})
