"""The README's table is that of the recorded run."""

import pandas as pd
import pytest

from core.errors import UserError
from reports import front_page


def test_the_readme_shows_the_recorded_run():
    page = front_page.README.read_text(encoding="utf-8")
    assert front_page.table(pd.read_csv(front_page.RECORDED)) in page, "run `python -m reports front_page`"


def test_a_cell_is_the_mean_with_its_interval_and_an_empty_one_what_is_not_there():
    nothing = float("nan")
    row = {"setting": "Mean", "control": "control", "fscore": 0.51, "fscore_low": 0.4, "fscore_high": 0.62}
    row |= {"fscore_published": nothing, "fscore_difference": -0.1}
    row |= {
        "fscore_difference_low": -0.2,
        "fscore_difference_high": 0.05,
        "cd": 0.1,
        "cd_low": nothing,
        "cd_high": nothing,
    }
    last = front_page.table(pd.DataFrame([row])).splitlines()[-1]
    assert last == "| *Mean* | 0.510 [0.400, 0.620] |  | -0.100 [-0.200, +0.050] | 0.100 |"


def test_only_the_table_is_replaced():
    page = "before\n\n| setting | F@0.1 ↑ | old |\n| 1 |\n\nafter\n"
    assert front_page.replaced(page, "new") == "before\n\nnew\n\nafter\n"
    with pytest.raises(UserError, match="no table"):
        front_page.replaced("nothing here", "new")
