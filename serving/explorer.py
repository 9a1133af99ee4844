"""Explore in the browser what a served model makes of a history. See ``--help`` and docs/explorer.md."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfmi.cli.explorer import main

if __name__ == "__main__":
    sys.exit(main())
