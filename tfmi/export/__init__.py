"""From a trained recommender to a SavedModel that takes raw string ids and answers raw string ids."""

from tfmi.export.exporting import export_savedmodel
from tfmi.export.loading import ExportedModel
from tfmi.export.metadata import load_metadata
from tfmi.export.preflight import check_export

__all__ = ["ExportedModel", "check_export", "export_savedmodel", "load_metadata"]
