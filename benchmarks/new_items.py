"""A share of the items held out of training altogether, and put into the answers by ``reindex``: how well do their features place them?

Two models are trained alike on a log without the items, with ``model.item_tower.id_dropout`` and without; both are then given the whole
catalogue by ``training/reindex.py``'s own function. Users are tested whom no training has seen: the first four fifths of their events are
the history, the rest the targets, which are known items or new ones. "popularity" answers with the items that training users took most
often, and has counted the held-out ones, too, which the models never saw.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import tfmi
from benchmarks.common import benchmark_arguments, limit_threads, report
from benchmarks.shops import Shop, answers, embedded_shop, popular, recalls, shop_of_sequences
from tfmi.config import merge, parse_settings
from tfmi.export.metadata import load_metadata
from tfmi.refresh.reindex import reindex

HISTORY_SHARE = 0.8
TEST_SHARE = 0.1


class Cut:
    """A shop's users divided into those of training and of the test, and its items into known and new ones."""

    def __init__(self, shop: Shop, share: float, random: np.random.Generator) -> None:
        sequences = {user: items for user, items in shop.histories().items() if len(items) >= 5}
        users, items = np.array(list(sequences), dtype=object), np.array(sorted(set(shop.events["item"])), dtype=object)
        tested = set(random.permutation(users)[: int(TEST_SHARE * len(users))])
        self.new = set(random.permutation(items)[: int(share * len(items))])
        ends = {user: int(HISTORY_SHARE * len(sequences[user])) for user in sequences if user in tested}
        self.histories = [sequences[user][:end] for user, end in ends.items()]
        targets = [sequences[user][end:] for user, end in ends.items()]
        self.known_targets = [[item for item in each if item not in self.new] for each in targets]
        self.new_targets = [[item for item in each if item in self.new] for each in targets]
        of_training = shop.events[~shop.events["user"].isin(tested)]
        self.counts = of_training["item"].value_counts()
        self.events = of_training[~of_training["item"].isin(self.new)]
        self.items = shop.items[~shop.items["item"].isin(self.new)]

    def measure(self, found: list[list[str]]) -> dict[str, float]:
        """Mean recall on targets among the known and among the new items, each over the users who have any."""
        return {
            "known": float(np.nanmean(recalls(found, self.known_targets))),
            "new": float(np.nanmean(recalls(found, self.new_targets))),
        }


def main() -> None:
    """Train, reindex, measure."""
    parser = benchmark_arguments(__doc__ or "", repeats=1)
    parser.add_argument("--data", type=Path, metavar="DIR", help="with sequences.txt and item_attributes.json; else the embedded shop")
    parser.add_argument("--users", type=int, default=4_000, help="of the embedded shop")
    parser.add_argument("--items", type=int, default=2_000, help="of the embedded shop")
    parser.add_argument("--share", type=float, default=0.1, help="of the items that are held out")
    parser.add_argument("--id-dropout", type=float, default=0.2)
    parser.add_argument("--system", default="mind")
    parser.add_argument("--results", type=int, default=50, help="n")
    parser.add_argument("--set", metavar="a.b=value", action="append", default=[], help="a setting of both models; may be repeated")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    random = np.random.default_rng(arguments.seed)
    shop = embedded_shop(arguments.users, arguments.items, 7) if arguments.data is None else shop_of_sequences(arguments.data)
    cut = Cut(shop, arguments.share, random)
    dataset = tfmi.Dataset.from_events(
        cut.events,
        items=cut.items,
        time=shop.time,
        item_columns=shop.item_columns,
        split={"method": "by_user", "test_share": 0.01, "min_user_events": 2, "min_item_events": 1},
    )
    measured: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Path(folder) / "catalogue.parquet"
        shop.items.to_parquet(catalogue)
        leaves_out = False
        for name, dropout in (("without id dropout", 0.0), ("with id dropout", arguments.id_dropout)):
            own = {"seed": arguments.seed + 1, "model": {"item_tower": {"id_dropout": dropout}}}
            settings = merge(parse_settings(arguments.set), own)
            recommender = tfmi.Recommender(arguments.system, **settings).fit(dataset)
            version = recommender.export(Path(folder) / name.replace(" ", "_"), index="exact")
            before = tfmi.load(version)
            measured[f"{name}, before"] = cut.measure(answers(before, cut.histories, arguments.results))
            done = reindex(version, catalogue=catalogue)
            after = tfmi.load(done.folder)
            measured[f"{name}, reindexed"] = cut.measure(answers(after, cut.histories, arguments.results))
            leaves_out = bool(load_metadata(done.folder)["exclude_history"])
            for state in ("before", "reindexed"):
                print(f"{name}, {state}: {measured[f'{name}, {state}']}", flush=True)
    favourites = popular(cut.counts, cut.histories, arguments.results, leaves_out_history=leaves_out)
    measured["popularity"] = cut.measure(favourites)
    plain, ours = measured["without id dropout, before"], measured["with id dropout, before"]
    reindexed, popularity = measured["with id dropout, reindexed"], measured["popularity"]
    times = reindexed["new"] / max(popularity["new"], 1e-12)
    loss = 1 - ours["known"] / plain["known"]
    report(
        "new_items",
        {
            "data": shop.name,
            "system": arguments.system,
            "settings": arguments.set,
            "id_dropout": arguments.id_dropout,
            "held_out_items": len(cut.new),
            "items": len(shop.items),
            "users": len(cut.histories),
            "users_with_new_targets": sum(map(bool, cut.new_targets)),
            f"recall@{arguments.results}": {
                name: {part: round(value, 4) for part, value in each.items()} for name, each in measured.items()
            },
            "new_items_times_popularity": round(times, 2),
            "loss_on_known_items": round(loss, 4),
            "loss_on_known_items_with_new_ones_beside_them": round(1 - reindexed["known"] / plain["known"], 4),
            "seed": arguments.seed,
        },
        {"new items at least 3 times popularity": times >= 3.0, "loss on known items at most 2 %": loss <= 0.02},
    )


if __name__ == "__main__":
    main()
