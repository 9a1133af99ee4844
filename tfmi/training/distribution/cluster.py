"""Which processes train together, as TensorFlow's ``TF_CONFIG`` and the configuration say."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfmi.core.errors import ConfigError

VARIABLE = "TF_CONFIG"
ROLES = ("chief", "worker", "ps")


@dataclass(frozen=True)
class Cluster:
    """The processes of a run, and which of them this one is.

    Attributes:
        strategy: ``mirrored``, ``multi_worker`` or ``parameter_server``.
        addresses: ``host:port`` of the processes by role; empty for ``mirrored``, which has one process.
        role: Of this process: ``chief``, ``worker`` or ``ps``.
        index: Which process of its role it is, from 0.
    """

    strategy: str
    addresses: Mapping[str, tuple[str, ...]]
    role: str = "chief"
    index: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process validates, writes the run's folder and exports: the chief or, where there is none, the first worker."""
        return self.role == "chief" or (self.role == "worker" and self.index == 0 and "chief" not in self.addresses)

    @property
    def is_server(self) -> bool:
        """Whether this process only does what the chief sends it: parameter servers, and the workers of such a cluster."""
        return self.strategy == "parameter_server" and self.role != "chief"

    @property
    def num_workers(self) -> int:
        """How many processes take training steps."""
        if self.strategy == "mirrored":
            return 1
        chiefs = len(self.addresses.get("chief", ())) if self.strategy == "multi_worker" else 0
        return len(self.addresses.get("worker", ())) + chiefs

    def __str__(self) -> str:
        counts = ", ".join(f"{len(hosts)} {role}" for role, hosts in self.addresses.items())
        return f"{self.strategy} ({counts}; this is {self.role} {self.index})" if counts else self.strategy


def read_cluster(asked: str | None, environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster of this run.

    Args:
        asked: ``training.strategy``. None: what ``TF_CONFIG`` describes, ``parameter_server`` where it has parameter servers and
            ``multi_worker`` where it has several workers.
        environment: Where ``TF_CONFIG`` stands.

    Returns:
        None for training in this process alone.

    Raises:
        ConfigError: ``TF_CONFIG`` is no cluster, or not one of the strategy that is asked for.
    """
    text = environment.get(VARIABLE, "").strip()
    addresses, role, index = _parsed(text) if text else ({}, "chief", 0)
    workers = len(addresses.get("worker", ())) + len(addresses.get("chief", ()))
    strategy = asked or ("parameter_server" if "ps" in addresses else "multi_worker" if workers > 1 else None)
    if strategy is None or strategy == "none":
        if asked == "none" and workers + len(addresses.get("ps", ())) > 1:
            raise ConfigError(
                f"training.strategy: none, but {VARIABLE} describes {_counted(addresses)}, which would all train the same; "
                f"unset {VARIABLE}, or leave the strategy out"
            )
        return None
    cluster = Cluster(strategy, addresses, role, index)
    _check(cluster)
    return cluster


def _parsed(text: str) -> tuple[dict[str, tuple[str, ...]], str, int]:
    """Addresses by role, and the role and the index of this process."""
    form = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        described: Any = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{VARIABLE}: expected JSON such as {form}, but {error}") from None
    if not isinstance(described, dict):
        raise ConfigError(f"{VARIABLE}: expected {form}, got {text}")
    cluster, task = described.get("cluster"), described.get("task")
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        absent = "cluster" if not isinstance(cluster, dict) else "task"
        raise ConfigError(f"{VARIABLE}: expected {form}; there is no object {absent!r} in it")
    addresses: dict[str, tuple[str, ...]] = {}
    for role, hosts in cluster.items():
        if role not in ROLES:
            hint = "; the chief validates, an evaluator has nothing to do" if role == "evaluator" else ""
            raise ConfigError(f"{VARIABLE}: cluster.{role}: expected one of {', '.join(ROLES)}{hint}")
        if not isinstance(hosts, list) or not all(isinstance(host, str) and ":" in host for host in hosts):
            raise ConfigError(f'{VARIABLE}: cluster.{role}: expected a list of "host:port", got {hosts!r}')
        if hosts:
            addresses[role] = tuple(hosts)
    everybody = [host for hosts in addresses.values() for host in hosts]
    twice = sorted({host for host in everybody if everybody.count(host) > 1})
    if twice:
        raise ConfigError(f"{VARIABLE}: {twice[0]} stands in it twice; every process needs an address of its own")
    role, index = task.get("type"), task.get("index")
    if role not in addresses:
        raise ConfigError(f"{VARIABLE}: task.type: expected one of {', '.join(addresses) or 'the roles of cluster'}, got {role!r}")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(addresses[role]):
        raise ConfigError(f"{VARIABLE}: task.index: expected 0 to {len(addresses[role]) - 1} (cluster.{role}), got {index!r}")
    return addresses, role, index


def _check(cluster: Cluster) -> None:
    name, addresses = cluster.strategy, cluster.addresses
    start = "training/launch_local.py starts such a cluster on one machine"
    if name == "mirrored":
        if len([host for hosts in addresses.values() for host in hosts]) > 1:
            raise ConfigError(
                f"training.strategy: mirrored trains in one process, but {VARIABLE} describes {_counted(addresses)}; "
                f"take multi_worker, or unset {VARIABLE}"
            )
        return
    if not addresses:
        raise ConfigError(f"training.strategy: {name} needs the addresses of its processes in {VARIABLE}, which is not set; {start}")
    if len(addresses.get("chief", ())) > 1:
        raise ConfigError(f"{VARIABLE}: cluster.chief: expected one address, got {len(addresses['chief'])}")
    if name == "multi_worker":
        if "ps" in addresses:
            raise ConfigError(
                f"training.strategy: multi_worker has no parameter servers, but {VARIABLE} describes {_counted(addresses)}; take "
                "parameter_server, or leave cluster.ps out"
            )
        return
    absent = [role for role in ROLES if role not in addresses]
    if absent:
        raise ConfigError(
            f"training.strategy: parameter_server needs a chief, workers and parameter servers (ps), but {VARIABLE} has no "
            f"cluster.{absent[0]}; {start}"
        )


def _counted(addresses: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{len(hosts)} {role}" for role, hosts in addresses.items())
