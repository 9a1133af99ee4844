"""The page of one run."""

from __future__ import annotations

from tfmi.reports.markup import tag
from tfmi.reports.page import page
from tfmi.reports.run_values import RunValues
from tfmi.reports.sections.card import configuration_section, model_card
from tfmi.reports.sections.data import data
from tfmi.reports.sections.interests import interests
from tfmi.reports.sections.measures import measures, slices
from tfmi.reports.sections.overview import head
from tfmi.reports.sections.people import people
from tfmi.reports.sections.predictions import calibration, experts, stages, tags_to_foresee
from tfmi.reports.sections.serving import how_to_serve
from tfmi.reports.sections.training import training

SECTIONS = (
    measures,
    slices,
    tags_to_foresee,
    stages,
    calibration,
    training,
    interests,
    experts,
    people,
    data,
    how_to_serve,
    model_card,
    configuration_section,
)


def run_page(run: RunValues) -> str:
    """A run's page as HTML."""
    made = [each(run) for each in SECTIONS]
    sections = [each for each in made if each is not None]
    title = f"{run.metrics.get('system', '?')} on {run.metrics.get('dataset', '?')}: {run.name}"
    return page(title, head(run), sections, tag("p", f"tfmi {run.metrics.get('versions', {}).get('tfmi', '')} · run folder {run.path}"))
