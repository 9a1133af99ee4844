"""Whether predicted probabilities hold, and how tasks use experts."""

from __future__ import annotations

from tfmi.reports.figures.bars import Bar, bar_chart, column_chart
from tfmi.reports.figures.frame import figure, table
from tfmi.reports.figures.heat_map import heat_map
from tfmi.reports.figures.lines import Line, line_chart
from tfmi.reports.markup import Child, tag
from tfmi.reports.numbers import shown
from tfmi.reports.page import PageSection, section
from tfmi.reports.run_values import RunValues


def calibration(run: RunValues) -> PageSection | None:
    """The section of calibration; None for what predicts no probability."""
    bins = run.gathered.get("calibration")
    if not bins:
        return None
    predicted, observed, counts = bins["predicted"], bins["observed"], bins["counts"]
    largest = max([*predicted, *observed, 1e-9])
    lines = [Line("perfect", [0, largest], [0, largest], 1, dashed=True), Line("this model", predicted, observed, 0)]
    rows: list[list[Child]] = [list(row) for row in zip((shown(float(each)) for each in predicted), observed, counts, strict=True)]
    test = run.test
    means = f"Mean prediction {shown(test.get('predicted_mean'))}, share of clicked rows {shown(test.get('observed_mean'))}, "
    return section(
        "calibration",
        "Calibration",
        tag("p", f"{means}calibration error {shown(test.get('calibration_error'))}. Bins hold equally many test rows."),
        tag(
            "div",
            figure(
                "What is observed where a probability is predicted",
                line_chart("reliability of predicted probabilities", lines, x_label="predicted", y_label="observed share", zero=True),
                header=["predicted", "observed", "rows"],
                rows=rows,
                legend=[("this model", 0), ("perfect", 1)],
            ),
            figure(
                "Rows of each bin",
                column_chart(
                    "rows of each bin, by its mean prediction",
                    [f"{value:.2g}" for value in predicted],
                    counts,
                    x_label="bin, by its mean prediction",
                    y_label="rows",
                    style=3,
                ),
                header=["predicted", "rows"],
                rows=[[row[0], row[2]] for row in rows],
            ),
            class_="figures",
        ),
    )


def experts(run: RunValues) -> PageSection | None:
    """The section of experts; None for models without a gate."""
    found = run.metrics.get("experts")
    if not found:
        return None
    tasks = {name: values for name, values in found.items() if "shares" in values}
    numbers = sorted({expert for values in tasks.values() for expert in values["shares"]}, key=int)
    charts: list[Child] = [
        figure(
            f"Share of each expert: {task}",
            bar_chart(
                f"share of each expert in {task}",
                [Bar(f"expert {each}", float(values["shares"].get(each, 0.0)), style=(0, 2, 3, 4, 5, 6, 7)[place % 7]) for each in numbers],
                x_label="share",
            ),
            header=["expert", "share"],
            rows=[[f"expert {each}", float(values["shares"].get(each, 0.0))] for each in numbers],
            note=f"Entropy of the gate {shown(values['gate_entropy'])}: 1 where all tags mix all experts alike, 0 where each tag has one.",
        )
        for place, (task, values) in enumerate(tasks.items())
    ]
    cosines = run.gathered.get("kernel_cosines")
    if cosines:
        names = [f"kernel {place}" for place in range(len(cosines))]
        charts.append(
            figure(
                "Cosine of every pair of kernels",
                heat_map("cosine of every pair of kernels", names, [str(place) for place in range(len(names))], cosines, low=-1.0),
                header=["kernel", *names],
                rows=[[name, *row] for name, row in zip(names, cosines, strict=True)],
                note="Near 1 two kernels have collapsed into one.",
            )
        )
    return section("experts", "Experts", tag("p", "Over tags, by their frequency."), tag("div", charts, class_="figures"))


def stages(run: RunValues) -> PageSection | None:
    """The section of two stages: clicks to come, found by retrieval and ordered by the ranker; None for a single stage."""
    found = run.metrics.get("two_stage")
    if not found:
        return None
    orders = {"retrieval": f"{found['retriever']} alone", "ranked_by_logits": "ranked by the ranker", "ranked": "ranked by both scores"}
    known = {key: name for key, name in orders.items() if key in found}
    names = list(found["retrieval"])
    rows: list[list[Child]] = [[name, *(found[key][metric] for metric in names if metric in found[key])] for key, name in known.items()]
    pool = found.get("pool", {})
    said = (
        f"The ranker orders the best {shown(pool.get('size'))} items that retrieval finds, which hold {shown(pool.get('recall'))} of the "
    )
    weight = f"clicks to come. Retrieval's score counts {shown(found.get('retrieval_weight'))} times beside the ranker's."
    names = [metric for metric in names if all(metric in found[key] for key in known)]
    return section("stages", "Both stages", tag("p", said + weight), table(["order", *names], rows))


def tags_to_foresee(run: RunValues) -> PageSection | None:
    """The section of later tags, task by task, beside two ways of counting; None for models of other kinds."""
    found = run.metrics.get("test_tags")
    if not found:
        return None
    tables: list[Child] = []
    for task, kinds in found.items():
        for kind, by_name in kinds.items():
            names = [name for name in next(iter(by_name.values())) if name != "users"]
            rows: list[list[Child]] = [
                [
                    {"model": "this model", "popular_tags": "popular tags", "own_tags": "a user's own tags"}.get(system, system),
                    *(values[name] for name in names),
                ]
                for system, values in by_name.items()
            ]
            users = int(next(iter(by_name.values()))["users"])
            tables.append(table(["system", *names], rows, caption=f"{task}: {kind} later tags, {users:,} users"))
    return section("later-tags", "Later tags, task by task", tables)
