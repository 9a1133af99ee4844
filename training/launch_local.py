"""Several processes on this machine that train together. See ``--help``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfmi.cli.launch_local import main

if __name__ == "__main__":
    sys.exit(main())
