"""Tells the detectors which tags moved for good, in the cell's one order, so that replay sees it at the same place.

Reaches no machine.
"""

from __future__ import annotations

from agent.effects import Rebaseline
from schemas.plant import Cell
from schemas.samples import AGENT, Control


def rebaseline_control(effect: Rebaseline, cell: Cell, *, epoch: int, seq: int) -> Control:
    """Return the input that says so; without tags it is all of them.

    Args:
        effect: The wish. Tags that the cell no longer has are left out.
        cell: Whose tags they are.
        epoch: Of the service that gives the input.
        seq: Number of the input within that epoch.
    """
    ids = {tag.name: tag.id for tag in cell.tags}
    return Control(
        source=AGENT,
        epoch=epoch,
        seq=seq,
        kind="rebaseline",
        tags=tuple(ids[name] for name in effect.tags or tuple(ids) if name in ids),
        settle_s=effect.settle_s,
        text=effect.cause_id,
    )
