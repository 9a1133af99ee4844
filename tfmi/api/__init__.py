"""The library as people use it: a dataset from tables, and one class for each kind of model over a small base.

    dataset = tfmi.Dataset.from_events(events, items=catalogue, users=users, split="leave_one_out")
    recommender = tfmi.Recommender("mind", dimension=64, interests=4)
    recommender.fit(dataset)
    recommender.recommend(["user-1"], n=10)

It does what the programs do, by the same ``ModelKind``: a saved recommender is a run folder, and a run folder loads as a recommender.
"""
