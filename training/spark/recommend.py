"""Every user's recommendations, or best tags, with Apache Spark. See ``--help``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tfmi.cli.spark_recommend import main

if __name__ == "__main__":
    sys.exit(main())
