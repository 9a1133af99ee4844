"""The users that an exported user-tag model was trained on, as known at the end of its data."""

from __future__ import annotations

from pathlib import Path

from tfmi.bulk.users import Users, UsersInMemory
from tfmi.config import validate_config
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.tags.tag_loading import load_tag_dataset
from tfmi.export.exported_model import ExportedModel
from tfmi.export.profile_inputs import profile_values


def load_trained_users(model: ExportedModel, folder: Path) -> UsersInMemory:
    """Load the data that a model's metadata names.

    Args:
        model: The model.
        folder: Where it is, for messages.

    Raises:
        ConfigError: The metadata holds no configuration.
        DataError: The data cannot be read, or lacks a field.
    """
    if "configuration" not in model.metadata:
        raise ConfigError(f"{folder}: this model's metadata holds no run configuration; export it with training/train.py")
    dataset = load_tag_dataset(validate_config(model.metadata["configuration"]).data)
    names = [each["feature"] for each in model.metadata["profile_inputs"]]
    missing = sorted(set(names) - set(dataset.states.fields))
    if missing:
        raise DataError(f"this model reads the fields {missing}, which the data {dataset.name!r} lacks")
    features = {name: dataset.states.fields[name] for name in names}
    return UsersInMemory(dataset.name, Users(list(dataset.users.ids), profile_values(features, dataset.users.states)))
