"""Every user's recommendations, or best tags, from an exported model to Parquet. See ``--help``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfmi.cli.recommend_users import main

if __name__ == "__main__":
    sys.exit(main())
