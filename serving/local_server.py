"""The local server for development and tests. See ``--help`` and docs/serving.md."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfmi.serving.local_server import main

if __name__ == "__main__":
    sys.exit(main())
