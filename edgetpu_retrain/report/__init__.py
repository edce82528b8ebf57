"""The page that says how good a model is and what to do with the photos."""

from edgetpu_retrain.report.make import Sources, make_report

__all__ = ["Sources", "make_report"]
