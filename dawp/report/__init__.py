"""Reports: pictures of every repetition, and one HTML page of a run to look at and listen to."""

from dawp.report.page import REPORT, is_stale, write_report
from dawp.report.pictures import draw_nothing, draw_repetition

__all__ = ["REPORT", "draw_nothing", "draw_repetition", "is_stale", "write_report"]
