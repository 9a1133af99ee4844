"""The manifests of ``training/kubernetes``: they are what Kubernetes accepts, and each pod finds itself in the cluster."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tfmi.models.systems import load_config
from tfmi.training.distribution.cluster import Cluster, read_cluster

FOLDER = Path(__file__).resolve().parents[2] / "training" / "kubernetes"
MANIFESTS = sorted(FOLDER.glob("*.yaml"))


def objects(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]


def named(path: Path, kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in objects(path) if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def joined(script: str, environment: dict[str, str]) -> Cluster:
    """The cluster that a pod's script ends in, instead of training."""
    said = script.replace("exec tfmi-train", 'printf "%s" "$TF_CONFIG"; : ')
    finished = subprocess.run(["/bin/sh", "-ec", said], capture_output=True, text=True, check=True, env={**os.environ, **environment})
    cluster = read_cluster(None, {"TF_CONFIG": finished.stdout})
    assert cluster is not None
    return cluster


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_kubernetes_accepts_the_manifests(path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate, which holds Kubernetes' schemas")
    for each in objects(path):
        validate.validate(each, "1.31", strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_volume_and_map_is_declared(path: Path) -> None:
    everything = [each for manifest in (path, FOLDER / "storage.yaml") for each in objects(manifest)]
    declared = {(each["kind"], each["metadata"]["name"]) for each in everything}
    for each in objects(path):
        if each["kind"] not in ("Job", "StatefulSet"):
            continue
        pod = each["spec"]["template"]["spec"]
        used = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert used == {volume["name"] for volume in pod["volumes"]}
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in declared
            else:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in declared


def test_workers_find_each_other() -> None:
    manifest = FOLDER / "multi_worker.yaml"
    job = named(manifest, "Job", "tfmi-train")["spec"]
    (container,) = job["template"]["spec"]["containers"]
    workers = int(container["env"][0]["value"])
    assert workers == job["completions"] == job["parallelism"]
    (script,) = container["args"]
    clusters = [joined(script, {"WORKERS": str(workers), "JOB_COMPLETION_INDEX": str(index)}) for index in range(workers)]
    assert [cluster.is_chief for cluster in clusters] == [True, False]
    service = named(manifest, "Service", "tfmi-train")
    assert service["spec"]["ports"][0]["port"] == container["ports"][0]["containerPort"]
    assert clusters[0].addresses == {"worker": ("tfmi-train-0.tfmi-train:2222", "tfmi-train-1.tfmi-train:2222")}


def test_parameter_servers_workers_and_chief_find_each_other() -> None:
    manifest = FOLDER / "parameter_server.yaml"
    settings = named(manifest, "ConfigMap", "tfmi-cluster")["data"]
    counts = {"WORKERS": settings["WORKERS"], "SERVERS": settings["SERVERS"]}
    roles = {"chief": ("Job", "tfmi-chief"), "worker": ("StatefulSet", "tfmi-worker"), "ps": ("StatefulSet", "tfmi-ps")}
    for role, (kind, name) in roles.items():
        declared = named(manifest, kind, name)["spec"]
        (container,) = declared["template"]["spec"]["containers"]
        assert {each["name"]: each["value"] for each in container["env"]} == {"ROLE": role}
        cluster = joined(settings["start.sh"], {**counts, "ROLE": role, "HOSTNAME": f"{name}-0"})
        assert (cluster.strategy, cluster.role, cluster.index, cluster.is_chief) == ("parameter_server", role, 0, role == "chief")
        assert len(cluster.addresses[role]) == declared.get("replicas", 1)


def test_the_configuration_is_one_that_trains(tmp_path: Path) -> None:
    run = tmp_path / "run.yaml"
    run.write_text(named(FOLDER / "storage.yaml", "ConfigMap", "tfmi-run")["data"]["run.yaml"], encoding="utf-8")
    assert json.loads(load_config(str(run), None, [], {}).model_dump_json())["system"] == "mind"
