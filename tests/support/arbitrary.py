"""Hypothesis strategies for facts, from their own type annotations: any value that the log could hold."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from schemas.facts import AnyFact
from tests.support.builders import START

IDS = ("a", "b", "c", "i1", "quiet|a|5", "retry|a|1700000000000001", "query|a|9|9", "")
"""So few that facts of a random sequence speak of the same things."""
NAMES = (
    "set_grip_force",
    "hold_cell",
    "gripper",
    "part_slip_mm",
    "grip_force_sp_n",
    "grip_force_n",
    "stuck",
    "EXECUTE",
)


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type; floats are finite, as JSON has no other."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, types.UnionType):
        return st.one_of([of_type(each) for each in inner])
    if origin is tuple:
        return st.lists(of_type(inner[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(of_type(inner[0]), of_type(inner[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return structs(hint)
    return {
        int: st.integers(0, 5) | st.integers(START - 5, START + 5),
        float: st.floats(-1e6, 1e6),
        str: st.sampled_from(IDS) | st.sampled_from(NAMES),
        bool: st.booleans(),
        type(None): st.none(),
    }[hint]


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Any value of a struct."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{field.name: of_type(hints[field.name]) for field in msgspec.structs.fields(kind)})


FACT_TYPES: tuple[type[msgspec.Struct], ...] = get_args(AnyFact)
"""Every type of the closed union."""


def facts_of(*kinds: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Any fact of these types."""
    return st.one_of([structs(kind) for kind in kinds])
