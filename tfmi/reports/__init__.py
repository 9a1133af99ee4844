"""One page for each run, and one for several runs side by side: what was trained on what, how good it is, and how to serve it.

``gathering/`` collects values while data and model are in memory and stores them in the run folder; ``figures/`` draws values as SVG;
``sections/`` are the parts of a page. A page is written from files alone, so that it can be written again at any time.
"""

from tfmi.reports.writing import write_comparison, write_report

__all__ = ["write_comparison", "write_report"]
