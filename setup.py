"""Packaging. Every dependency has a reason, a lower bound that is known to work and an upper bound at the next breaking release."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "([^"]+)"', (ROOT / "tfmi" / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
if VERSION is None:
    raise RuntimeError("tfmi/__init__.py: no line __version__ = ...")

SCANN_PLATFORMS = "sys_platform == 'linux'"  # ScaNN has wheels for Linux only

INSTALL_REQUIRES = [
    "tensorflow>=2.20,<2.21",  # ScaNN 1.4.2 is built against it
    "tf-keras>=2.20,<2.21",  # Keras 2, which TensorFlow Recommenders needs
    "tensorflow-recommenders>=0.7.7,<0.8",  # retrieval task, ScaNN layer
    f"scann>=1.4.2,<1.5; {SCANN_PLATFORMS}",  # the index inside the SavedModel
    "tensorflow-serving-api>=2.20,<2.21",  # warm-up records, gRPC stubs
    "grpcio>=1.66,<2",  # local server and client
    "h11>=0.14,<1",  # HTTP/1.1 of the local server: strict about framing, no dependencies of its own
    "numpy>=2.0,<3",
    "pandas>=2.2,<4",  # reading logs
    "pyarrow>=17,<27",  # Parquet
    "scipy>=1.13,<2",  # sparse co-occurrence counts
    "pydantic>=2.8,<3",  # typed configuration
    "PyYAML>=6.0.1,<7",
    "matplotlib>=3.9,<4",  # plots of a run
    "tqdm>=4.66,<5",  # progress
]
DEV = [
    "ruff>=0.17,<0.18",
    "mypy>=2.4,<3",
    "pytest>=8.3,<10",
    "pytest-xdist>=3.6,<4",  # test files side by side, one per core
    "hypothesis>=6.100,<7",
    "selenium>=4.25,<5",  # tests of pages in Chromium; they skip where there is no browser
    "types-PyYAML>=6,<7",
    "kubernetes-validate>=1.31,<2",  # Kubernetes' schemas, for the manifests of training/kubernetes
]
DOCS = [
    "mkdocs>=1.6,<2",  # the site
    "mkdocs-material>=9.6,<10",  # its theme
    "mkdocstrings[python]>=1.0,<2",  # pages of the API from docstrings
]
# What benchmarks and some tests compare with; a peer that needs more has an environment of its own.
BENCH = [
    "faiss-cpu>=1.9,<2",  # another vector store, which exported item vectors are searched with
]
# Logs and users on many machines. 4.1 is the first with DataFrame.repartitionById; it needs Java 17.
SPARK = [
    "pyspark>=4.1,<4.2",
]

# What searches for hyper-parameters: benchmarks/compare_systems.py --tune.
TUNE = [
    "optuna>=4.2,<5",  # TPE, median pruning, journal files
]

# Each is also a file to run from a checkout: training/train.py, serving/client.py and so on.
PROGRAMS = [
    "tfmi-train = tfmi.cli.train:main",
    "tfmi-launch-local = tfmi.cli.launch_local:main",
    "tfmi-evaluate = tfmi.cli.evaluate:main",
    "tfmi-compare-versions = tfmi.cli.compare_versions:main",
    "tfmi-export-vectors = tfmi.cli.export_vectors:main",
    "tfmi-report = tfmi.cli.report:main",
    "tfmi-reindex = tfmi.cli.reindex:main",
    "tfmi-recommend-users = tfmi.cli.recommend_users:main",
    "tfmi-score-users = tfmi.cli.score_users:main",
    "tfmi-explain-tags = tfmi.cli.explain_tags:main",
    "tfmi-explorer = tfmi.cli.explorer:main",
    "tfmi-spark-prepare = tfmi.cli.spark_prepare:main",
    "tfmi-spark-recommend = tfmi.cli.spark_recommend:main",
    "tfmi-inspect = tfmi.cli.inspect_log:main",
    "tfmi-serve = tfmi.serving.local_server:main",
    "tfmi-client = tfmi.serving.client:main",
]

setup(
    name="tfmi",
    version=VERSION.group(1),
    description="From an interaction log to a served retriever that knows a user as several interests",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=find_packages(include=["tfmi", "tfmi.*"]),
    package_data={
        "tfmi": [
            "py.typed",
            "models/recipes/*.yaml",
            "data/public/sets/*.yaml",
            "explorer/page/*",
            "reports/*.css",
            "*.pyi",
            "**/*.pyi",
        ]
    },
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    install_requires=INSTALL_REQUIRES,
    extras_require={"dev": DEV, "bench": BENCH, "docs": DOCS, "tune": TUNE, "spark": SPARK},
    entry_points={"console_scripts": PROGRAMS},
)
