"""Makes the pages that people read: the report, the comparison and the summary of a run."""

from edgetpu_retrain.report.make import Sources, make_report

__all__ = ["Sources", "make_report"]
