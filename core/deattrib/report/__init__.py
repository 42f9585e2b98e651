"""One self-contained HTML page about a finished run: `write_report(run_folder)`, or `render(...)` without any files."""

from deattrib.report.folder import write_report
from deattrib.report.page import render

__all__ = ["render", "write_report"]
