"""Which PackML state was in force when: by the time of the event at its source, whatever the order of arrival."""

from __future__ import annotations

from bisect import bisect_right

from schemas.line import PackMLState, state_name

STATES_MAX = 256
"""Changes that are remembered; older ones than these concern rows that closed long ago."""


class LineStates:
    """The latest states of one cell."""

    def __init__(self, *, required: bool) -> None:
        """Begin with an unknown state.

        Args:
            required: Whether the cell has a state at all. Without one it counts as executing for ever.
        """
        self._required = required
        self._at: list[int] = []
        self._number: list[int] = []

    @property
    def current(self) -> int | None:
        """The latest state's number, None before the first event."""
        return self._number[-1] if self._number else None

    def take(self, at: int, number: int) -> None:
        """Insert a change. Of two with the same time the later arrival stands."""
        where = bisect_right(self._at, at)
        self._at.insert(where, at)
        self._number.insert(where, number)
        del self._at[:-STATES_MAX], self._number[:-STATES_MAX]

    def executing(self, start_at: int, end_at: int) -> bool:
        """Tell whether the state was EXECUTE from `start_at` to `end_at` without a break. Unknown is not."""
        if not self._required:
            return True
        first, last = bisect_right(self._at, start_at) - 1, bisect_right(self._at, end_at)
        return first >= 0 and all(n == PackMLState.EXECUTE for n in self._number[first:last])

    def stopped_until(self, at: int) -> int | None:
        """Return when EXECUTE that is in force at `at` began, if something else was seen before it; else None."""
        where = bisect_right(self._at, at) - 1
        if where < 0 or self._number[where] != PackMLState.EXECUTE:
            return None
        while where > 0 and self._number[where - 1] == PackMLState.EXECUTE:
            where -= 1
        return self._at[where] if where > 0 else None

    def name_at(self, at: int) -> str:
        """Return the state's name at a time; empty for a cell without a state."""
        if not self._required:
            return ""
        where = bisect_right(self._at, at)
        return state_name(self._number[where - 1]) if where else PackMLState.UNDEFINED.name

    def state(self) -> dict[str, list[int]]:
        """Return what `load` takes."""
        return {"at": list(self._at), "number": list(self._number)}

    def load(self, state: dict[str, list[int]]) -> None:
        """Go back to `state`."""
        self._at, self._number = list(state["at"]), list(state["number"])
