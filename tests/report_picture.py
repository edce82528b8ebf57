"""The picture of the report in the documentation.

    python -m tests.report_picture results/sample/sample/optimum/report.html docs/report.png

takes it of the page that `make demo` made.
"""

import sys
from pathlib import Path

from tests.browser import open_browser, save_picture, set_window


def take_picture(page: Path, picture: Path) -> None:
    """Takes a picture of the top of a report, down to the first row of labels to check."""
    with open_browser() as browser:
        set_window(browser, 1000)
        browser.get(page.absolute().as_uri())
        row = "return document.querySelector('.card').getBoundingClientRect().bottom"
        set_window(browser, 1000, height=int(browser.execute_script(row)) + 16)
        save_picture(browser, picture)


if __name__ == "__main__":
    take_picture(*map(Path, sys.argv[1:]))
