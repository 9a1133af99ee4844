"""Write the page of a finished run, or of several side by side. See ``--help``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfmi.cli.report import main

if __name__ == "__main__":
    sys.exit(main())
