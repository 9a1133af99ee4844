"""From a table to recommendations. Run it with: python examples/quickstart.py"""

import pandas as pd

import tfmi

likes = {"ann": "jazz blues soul jazz funk blues", "bob": "rock punk metal rock grunge punk", "eve": "jazz rock soul punk funk metal"}
days = pd.date_range("2026-03-01", periods=6)
rows = [(user, item, day) for user, items in likes.items() for item, day in zip(items.split(), days, strict=True)]
events = pd.DataFrame(rows, columns=["user", "item", "time"])
split = {"method": "leave_one_out", "min_user_events": 1, "min_item_events": 1}
dataset = tfmi.Dataset.from_events(events, split=split)
recommender = tfmi.Recommender("mind", dimension=16, interests=2, epochs=5).fit(dataset)
print(recommender.recommend(["ann", "eve"], n=3))
