"""Which items are left, and how often training has each: counted by Spark over all users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfmi.config import SplitConfig
from tfmi.data.streaming.shard_reading import HASH_BUCKETS
from tfmi.data.streaming.streamed_log import no_frequent_item, user_part
from tfmi.spark.log_tasks import ITEMS, USERS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class ItemCounts:
    """Items in the order of their ids.

    Attributes:
        ids: Those that are left.
        counts: int64 [items] events of the training users that are left.
        distinct: The items that the log has.
    """

    ids: list[str]
    counts: np.ndarray
    distinct: int


def count_items(session: SparkSession, work: Path, split: SplitConfig) -> ItemCounts:
    """Filter as ``core_mask`` does, once or until nothing changes, and count.

    A user is left if enough of the user's events are of items that are left, also when the filters are repeated: who is left out on the
    way has too few events of the items of that moment, of which the last ones are a part. So the items alone say what is left.

    Raises:
        DataError: No item has enough events.
    """
    from pyspark.sql import functions as sql

    counted = session.read.parquet(_address(work / ITEMS)).groupBy("item").agg(sql.sum("count").alias("count"))
    users = session.read.parquet(_address(work / USERS))
    events = users.select("user", "bucket", sql.explode("items").alias("item"))
    distinct = counted.count()
    left = _stored(session, counted.where(sql.col("count") >= split.min_item_events).select("item"), work / "left-0")
    number = left.count()
    turn = 1
    while split.iterate_core and number:
        before = number
        own = _of_those_left(events, left, split)
        frequent = own.groupBy("item").count().where(sql.col("count") >= split.min_item_events).select("item")
        left = _stored(session, frequent, work / f"left-{turn}")
        number, turn = left.count(), turn + 1
        if number == before:
            break
    if not number:
        raise no_frequent_item(distinct, split.min_item_events)
    part = user_part(split, "train")
    share = sql.col("bucket") / sql.lit(float(HASH_BUCKETS))
    training = _of_those_left(events.where((share >= part.low) & (share < part.high)), left, split)
    counts = left.join(training.groupBy("item").count(), "item", "left").orderBy("item").toArrow()
    return ItemCounts(counts["item"].to_pylist(), counts["count"].fill_null(0).to_numpy(), distinct)


def _of_those_left(events: DataFrame, items: DataFrame, split: SplitConfig) -> DataFrame:
    """The events of these items, by users who have enough of them."""
    from pyspark.sql import functions as sql

    own = events.join(items, "item", "left_semi")
    users = own.groupBy("user").count().where(sql.col("count") >= split.min_user_events).select("user")
    return own.join(users, "user", "left_semi")


def _stored(session: SparkSession, frame: DataFrame, path: Path) -> DataFrame:
    """The same, written out: what follows neither counts it again nor depends on the machines that have."""
    frame.write.parquet(_address(path))
    return session.read.schema(frame.schema).parquet(_address(path))


def _address(path: Path) -> str:
    """A path that every machine sees; without a scheme Spark would look in the cluster's own file system."""
    return path.absolute().as_uri()
