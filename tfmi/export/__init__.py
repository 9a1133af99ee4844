"""From a trained recommender to a SavedModel that takes raw string ids and answers raw string ids."""

from tfmi.export.exporting import export_savedmodel
from tfmi.export.loading import ExportedModel
from tfmi.export.metadata import load_metadata

__all__ = ["ExportedModel", "export_savedmodel", "load_metadata"]
