"""Measure an exported SavedModel through its signatures. See ``--help``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# TensorFlow's C++ start-up notices are not for users of this program.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GLOG_minloglevel", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfmi.runs.evaluate_cli import main

if __name__ == "__main__":
    sys.exit(main())
