"""The command line of ``training/score_users.py``: ``recommend_users`` by the name that it has for models of tags."""

from __future__ import annotations

from collections.abc import Sequence

from tfmi.cli import recommend_users


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; see ``tfmi.cli.recommend_users``."""
    return recommend_users.main(arguments, "training/score_users.py")
