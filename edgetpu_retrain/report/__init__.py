"""Predictions, figures and photos go in.

Out come pages for a person: the report, the comparison, and the summary a run ends with.
"""

from edgetpu_retrain.report.make import Sources, make_report

__all__ = ["Sources", "make_report"]
