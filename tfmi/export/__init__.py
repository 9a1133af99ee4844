"""From a trained recommender to a SavedModel that takes raw string ids and answers raw string ids."""

from tfmi.export.exported_model import ExportedModel
from tfmi.export.metadata import load_metadata
from tfmi.export.preflight import check_export
from tfmi.export.retrieval.export_retriever import export_savedmodel

__all__ = ["ExportedModel", "check_export", "export_savedmodel", "load_metadata"]
