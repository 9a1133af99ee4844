"""Pages as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfmi.core.files import write_atomically
from tfmi.reports.comparison_page import comparison_page
from tfmi.reports.run_page import run_page
from tfmi.reports.run_values import RunValues, note_export, read_run
from tfmi.training.run_folder import RunFolder


def write_report(folder: RunFolder, published: Path | None = None, *, shown_path: str | None = None) -> Path:
    """Write the page of a finished run, ``report.html`` in its folder, from the folder's files.

    Args:
        folder: The run's.
        published: The version that was exported of it just now, which the folder remembers; None: as remembered.
        shown_path: The folder as the page names it; None: as it is called.

    Returns:
        The file.

    Raises:
        ConfigError: The folder holds no finished run.
        StorageError: The file cannot be written.
    """
    if published is not None:
        note_export(folder, published)
    return write_atomically(folder.report, run_page(read_run(folder, shown_path)))


def write_page(values: RunValues, path: Path) -> Path:
    """Write the page of values that are no run folder's, such as those of an exported model; raises ``StorageError``."""
    return write_atomically(path, run_page(values))


def write_comparison(folders: Sequence[RunFolder], path: Path) -> Path:
    """Write a page with several finished runs side by side.

    Args:
        folders: The runs' folders.
        path: The HTML file.

    Returns:
        The file.

    Raises:
        ConfigError: A folder holds no finished run, or the runs have no metric in common.
        StorageError: The file cannot be written.
    """
    return write_atomically(path, comparison_page([read_run(folder) for folder in folders], path.parent))
