"""A cell for a recording of a published set: each row of the file is one row of the suite.

The rows are triggered by a counter, as those of a machine that latches its tags once a cycle: their times stay the
file's own, whatever its step, and none is left out or doubled. What is believed of a tag comes from the rows that a
protocol gives for learning, so nothing in the cell knows what comes later.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from connectors.recordings.sniff import HOLD_PERIODS, believed, tag_names
from pipelines.features.packed import Floats
from pipelines.protocols.series import Series
from schemas.plant import Asset, Cell, Group, Range, Tag

COUNTER: Final = "row_number"
COUNTER_ID: Final = 1
GROUP: Final = "rows"
WARM_UP_ROWS_MIN: Final = 10
LEARNT_PART: Final = 0.5
"""A tag with fewer good rows among those for learning does not hold up the others: it learns on by itself."""


def cell_of(series: Series, fit_rows: int) -> Cell:
    """Return the cell; its tags are the columns in their order, after the counter.

    Args:
        series: Only its first `fit_rows` rows are looked at.
        fit_rows: For learning.
    """
    fit = series.values[:fit_rows]
    steps = np.diff(series.seconds[:fit_rows])
    period_s = float(np.median(steps)) if len(steps) and np.median(steps) > 0 else 1.0
    names = tag_names(list(series.columns))
    counter_name = COUNTER if COUNTER not in names.values() else f"{COUNTER}_of_file"
    counter = Tag(
        id=COUNTER_ID, name=counter_name, asset="recorded", node="/row", unit="1",
        range=Range(low=0, high=2**53), group=GROUP, role="counter", hold_s=HOLD_PERIODS * period_s,
    )  # fmt: skip
    tags = [
        Tag(
            id=number, name=names[column], title=column, asset="recorded", node=f"/{column}", unit="1",
            range=_range(fit[:, number - COUNTER_ID - 1]), group=GROUP, hold_s=HOLD_PERIODS * period_s,
        )
        for number, column in enumerate(series.columns, COUNTER_ID + 1)
    ]  # fmt: skip
    return Cell(
        id="recording",
        path="recording/file/set/line/recording",
        namespace="urn:jidoka:recording",
        lateness_s=0.0,
        assets=(Asset(id="recorded", title=series.key),),
        groups=(Group(id=GROUP, trigger=counter.name, warm_up_rows=_warm_up_rows(fit)),),
        tags=(counter, *tags),
    )


def _range(values: Floats) -> Range:
    values = values[np.isfinite(values)]
    return believed(values) if len(values) else Range(low=-1e300, high=1e300)


def _warm_up_rows(fit: Floats) -> int:
    """Return how many good rows the tags have for learning, so that all of them have learnt when it is over."""
    good = np.isfinite(fit).sum(axis=0)
    enough = good[good >= LEARNT_PART * len(fit)]
    return max(WARM_UP_ROWS_MIN, int(enough.min()) if len(enough) else len(fit))
