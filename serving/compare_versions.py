"""Compare two versions of a model before a rollout. See ``--help`` and docs/serving.md."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfmi.cli.compare_versions import main

if __name__ == "__main__":
    sys.exit(main())
