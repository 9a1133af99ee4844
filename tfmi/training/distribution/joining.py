"""Joining the other processes or devices of a run, and what this process then has to do."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import tensorflow as tf

from tfmi.core.errors import ConfigError, TrainingError
from tfmi.core.heartbeat import doing
from tfmi.training.distribution.cluster import VARIABLE, Cluster
from tfmi.training.distribution.parameter_server import ParameterServerSteps
from tfmi.training.distribution.synchronous import SynchronousSteps
from tfmi.training.distribution.twin import TwinPlan
from tfmi.training.steps import StepRunner

log = logging.getLogger(__name__)

# A table is cut into parts of at least so many bytes, at most one for each parameter server.
SMALLEST_PART = 64 << 10


@dataclass(frozen=True)
class Distribution:
    """The strategy of a run, in this process.

    Attributes:
        cluster: Who trains together.
        strategy: TensorFlow's strategy.
    """

    cluster: Cluster
    strategy: tf.distribute.Strategy

    @property
    def is_chief(self) -> bool:
        """Whether this process validates and writes; the others only take steps."""
        return self.cluster.is_chief

    def runner(self, plan: TwinPlan, model: tf.keras.Model) -> StepRunner:
        """Who takes the steps of the chief's ``model``."""
        if self.cluster.strategy == "parameter_server":
            return ParameterServerSteps(self.strategy, plan, model)
        return SynchronousSteps(self.strategy, plan, model, num_processes=self.cluster.num_workers)

    def helper(self, plan: TwinPlan) -> SynchronousSteps:
        """Takes the steps that the chief asks for."""
        return SynchronousSteps(self.strategy, plan, None, num_processes=self.cluster.num_workers)


_current: ContextVar[Distribution | None] = ContextVar("distribution", default=None)


def current_distribution() -> Distribution | None:
    """The strategy under which a model that is now fitted is to be trained; None in this process alone."""
    return _current.get()


@contextmanager
def under(distribution: Distribution | None) -> Iterator[None]:
    """Whatever is fitted inside is trained under the strategy."""
    token = _current.set(distribution)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def losses_of_processes_said(distribution: Distribution | None) -> Iterator[None]:
    """Turn what TensorFlow raises when another process is gone into a message."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError, tf.errors.CancelledError) as error:
        if distribution is None or not distribution.cluster.addresses:
            raise
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"another process of this run is gone ({reason}). Start all of them again with --resume: training goes on from the last "
            "validation"
        ) from None


def join_cluster(cluster: Cluster | None, replicas: int | None = None) -> Distribution | None:
    """Make the strategy; waits until the other processes are there. Call it before anything else is computed.

    Args:
        cluster: What ``read_cluster`` says; None is no strategy.
        replicas: ``training.replicas``: copies of the model in this process, for ``mirrored``; None: one for each GPU.

    Raises:
        ConfigError: The strategy cannot be made here.
    """
    if cluster is None:
        return None
    log.info("Training together: %s", cluster)
    if cluster.strategy == "mirrored":
        return Distribution(cluster, _mirrored(replicas))
    with doing("waiting for the other processes of the cluster"):
        if cluster.strategy == "multi_worker":
            return Distribution(cluster, _multi_worker())
        return Distribution(cluster, _parameter_server(cluster))


def serve(cluster: Cluster) -> None:
    """Do what the chief of a ``parameter_server`` cluster sends; does not return.

    Raises:
        ConfigError: The address of this process cannot be used.
    """
    _fail_fast()
    options = tf.compat.v1.ConfigProto()
    # A worker that waits for parameter servers must not keep them from answering.
    options.inter_op_parallelism_threads = max(multiprocessing.cpu_count(), cluster.num_workers + 1)
    spec = tf.train.ClusterSpec({role: list(hosts) for role, hosts in cluster.addresses.items()})
    address = cluster.addresses[cluster.role][cluster.index]
    try:
        server = tf.distribute.Server(spec, job_name=cluster.role, task_index=cluster.index, protocol="grpc", config=options)
    except tf.errors.OpError as error:
        raise ConfigError(f"{VARIABLE}: {address}: this address cannot be used here: {str(error).splitlines()[0]}") from None
    log.info("Serving as %s %s on %s", cluster.role, cluster.index, address)
    server.join()


def _mirrored(replicas: int | None) -> tf.distribute.Strategy:
    devices = _devices(replicas)
    if devices is None or devices[0].startswith("GPU"):
        return tf.distribute.MirroredStrategy(devices)
    # Of copies on one CPU nothing has to be sent: a sum is a sum.
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


def _devices(replicas: int | None) -> list[str] | None:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if replicas is not None and replicas > len(gpus):
            raise ConfigError(f"training.replicas: {replicas}, but there are {len(gpus)} GPUs")
        return None if replicas is None else [f"GPU:{index}" for index in range(replicas)]
    if replicas is None or replicas == 1:
        return ["CPU:0"]
    (cpu,) = tf.config.list_physical_devices("CPU")
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    except RuntimeError:  # TensorFlow has begun to compute.
        if len(tf.config.list_logical_devices("CPU")) < replicas:
            raise ConfigError(
                f"training.replicas: {replicas} copies on one CPU have to be asked for before TensorFlow computes anything; start a new "
                "process"
            ) from None
    return [f"CPU:{index}" for index in range(replicas)]


def _multi_worker() -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ConfigError(
            f"training.strategy: multi_worker has to be joined before TensorFlow computes anything ({error}); start a new process"
        ) from None
    except tf.errors.OpError as error:
        raise ConfigError(f"{VARIABLE}: the cluster cannot be joined: {str(error).splitlines()[0]}") from None


def _parameter_server(cluster: Cluster) -> tf.distribute.Strategy:
    _fail_fast()
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(
        min_shard_bytes=SMALLEST_PART, max_shards=len(cluster.addresses["ps"])
    )
    try:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        return tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)
    except tf.errors.OpError as error:
        raise ConfigError(f"{VARIABLE}: the cluster cannot be joined: {str(error).splitlines()[0]}") from None


def _fail_fast() -> None:
    """A process that is gone is told at once, instead of being waited for."""
    os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
