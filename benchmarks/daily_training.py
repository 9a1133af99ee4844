"""A log cut by time into a base and some days: every day's warm start beside a full run on the same log, and beside doing nothing.

The log is the embedded shop's, whose year ends with the days. Some items enter the catalogue in the course of them: their earlier events
are left out. Day by day the log grows, and three models answer what the next day's users will do, from all that these did before it:

- "warm start": the model of the day before, trained on for ``--warm-steps`` steps on the whole log (``train.py --warm-start``);
- "full run": a new model, trained for ``--full-steps`` steps on the same log;
- "nothing": the model of the base, which also was the first one to be started from.

All three validate as often, and keep their best weights. A target that a model does not know counts as missed.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

import tfmi
from benchmarks.common import benchmark_arguments, limit_threads, report
from benchmarks.shops import Shop, answers, embedded_shop, recalls
from tfmi.config import merge, parse_settings

DAY = 86_400.0
VALIDATIONS = 3


class Days:
    """The log up to every day, and what happens on the day after it.

    Args:
        shop: Its events in order of time.
        days: How many, besides the base and the day after the last.
        new_items: The share of the items that enter on one of the days.
        random: Draws which, and when.
    """

    def __init__(self, shop: Shop, days: int, new_items: float, random: np.random.Generator) -> None:
        end = np.floor(shop.events["time"].max() / DAY) * DAY  # the last day is hardly there
        self._first = end - (days + 1) * DAY  # where the base ends
        items = np.array(sorted(set(shop.events["item"])), dtype=object)
        entering = random.permutation(items)[: int(new_items * len(items))]
        enters = dict(zip(entering, self._first + DAY * random.integers(0, days, len(entering)), strict=True))
        entry = shop.events["item"].map(enters).fillna(0.0)
        self._events = shop.events[(shop.events["time"] >= entry) & (shop.events["time"] < end)]
        self.entering = len(entering)

    def until(self, day: int) -> pd.DataFrame:
        """The log up to the end of a day; day 0 is the end of the base."""
        return self._events[self._events["time"] < self._first + day * DAY]

    def asked_after(self, day: int) -> tuple[list[list[str]], list[list[str]]]:
        """The histories at the end of a day of those who come on the next, and what they do then."""
        starts = self._first + day * DAY
        then = self._events[(self._events["time"] >= starts) & (self._events["time"] < starts + DAY)]
        targets = then.groupby("user", sort=False)["item"].apply(list)
        before = self.until(day)
        histories = before[before["user"].isin(targets.index)].groupby("user", sort=False)["item"].apply(list)
        return list(histories), [targets[user] for user in histories.index]


def main() -> None:
    """Train, day by day, and measure."""
    parser = benchmark_arguments(__doc__ or "", repeats=1)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--new-items", type=float, default=0.05, help="share of the items that enter in the course of the days")
    parser.add_argument("--full-steps", type=int, default=1_500)
    parser.add_argument("--warm-steps", type=int, default=300)
    parser.add_argument("--system", default="mind")
    parser.add_argument("--results", type=int, default=50, help="n")
    parser.add_argument("--set", metavar="a.b=value", action="append", default=[], help="a setting of all models; may be repeated")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    shop = embedded_shop(arguments.users, arguments.items, 7)
    days = Days(shop, arguments.days, arguments.new_items, np.random.default_rng(arguments.seed))

    def trained(day: int, steps: int, folder: Path, former: Path | None) -> tfmi.Recommender:
        events = days.until(day)
        items = shop.items[shop.items["item"].isin(set(events["item"]))]
        split = {"method": "by_user", "valid_share": 0.05, "test_share": 0.01, "min_user_events": 2, "min_item_events": 1}
        dataset = tfmi.Dataset.from_events(events, items=items, item_columns=shop.item_columns, split=split)
        training = {"max_steps": steps, "max_epochs": 1_000, "evaluate_every": steps // VALIDATIONS, "patience": VALIDATIONS}
        if former is not None:
            training["warm_start"] = str(former)  # type: ignore[assignment]
        settings = merge(parse_settings(arguments.set), {"seed": arguments.seed + 1 + day, "training": training})
        return tfmi.Recommender(arguments.system, **settings).fit(dataset, folder=folder)

    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        runs = Path(temporary)
        base = trained(0, arguments.full_steps, runs / "base", None)
        former = runs / "base"
        for day in range(1, arguments.days + 1):
            histories, targets = days.asked_after(day)
            warm = trained(day, arguments.warm_steps, runs / f"warm-{day}", former)
            full = trained(day, arguments.full_steps, runs / f"full-{day}", None)
            former = runs / f"warm-{day}"
            row: dict[str, float] = {"day": day, "users": len(histories)}
            for name, model in (("warm start", warm), ("full run", full), ("nothing", base)):
                row[name] = round(float(np.nanmean(recalls(answers(model, histories, arguments.results), targets))), 4)
            rows.append(row)
            print(row, flush=True)
    weights = [row["users"] for row in rows]
    means = {name: float(np.average([row[name] for row in rows], weights=weights)) for name in ("warm start", "full run", "nothing")}
    report(
        "daily_training",
        {
            "data": shop.name,
            "events": len(days.until(0)),
            "items_entering": days.entering,
            "system": arguments.system,
            "settings": arguments.set,
            "steps": {"warm start": arguments.warm_steps, "full run": arguments.full_steps},
            f"recall@{arguments.results}": {"by_day": rows, "all": {name: round(value, 4) for name, value in means.items()}},
            "warm_start_over_full_run": round(means["warm start"] / means["full run"], 4),
            "nothing_over_full_run": round(means["nothing"] / means["full run"], 4),
            "seed": arguments.seed,
        },
        {
            "a fifth of the steps": 5 * arguments.warm_steps <= arguments.full_steps,
            "every day's warm start within 2 % of the full run": all(row["warm start"] >= 0.98 * row["full run"] for row in rows),
            "all days together within 2 %": means["warm start"] >= 0.98 * means["full run"],
        },
    )


if __name__ == "__main__":
    main()
