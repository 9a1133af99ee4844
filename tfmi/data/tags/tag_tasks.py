"""The tasks of a log with tags: actions, each by the least weight of an event that is one."""

from __future__ import annotations

from tfmi.config import DataConfig
from tfmi.core.errors import ConfigError
from tfmi.data.synthetic.shop_tags import CLICK, PURCHASE

# Where data.tagging.tasks says nothing. Any rating is a movie watched; about half of them are at least 4.
DEFAULT_TASKS = {
    "embedded": {"clicked": CLICK, "bought": PURCHASE},
    "movielens": {"watched": 0.0, "liked": 4.0},
    "lastfm": {"tagged": 0.0},
}
ANY_EVENT = {"clicked": 0.0}


def task_thresholds(config: DataConfig) -> dict[str, float]:
    """The least weight of each task, rising: an event that is one of a task is one of all tasks before it.

    Raises:
        ConfigError: Two tasks are the same.
    """
    given = config.tagging.tasks
    tasks = given if given is not None else DEFAULT_TASKS.get(config.dataset, ANY_EVENT)
    if len(set(tasks.values())) != len(tasks):
        raise ConfigError(f"data.tagging.tasks: two tasks with the same least weight would be the same task, got {tasks}")
    return dict(sorted(tasks.items(), key=lambda task: task[1]))
