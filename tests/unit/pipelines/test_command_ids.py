"""Command ids cut to their first characters, as people type them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from pipelines.operator_socket import full_id


@dataclass
class Waiting:
    """As much of a cell's service as an id is looked up in."""

    ids: list[str]
    state: SimpleNamespace = field(init=False)

    def __post_init__(self) -> None:
        self.state = SimpleNamespace(commands=dict.fromkeys(self.ids))


SERVICE = Waiting(["abcdef01-1", "abcdef01-2", "12345678-9"])


@pytest.mark.parametrize("start", ["12345678", "12345678-9"])
def test_eight_characters_or_more_of_one_command_name_it(start):
    assert full_id(start, SERVICE) == "12345678-9"


@pytest.mark.parametrize(
    ("start", "count"), [("abcdef01", 2), ("abcdef01-", 2), ("1234567", 0), ("", 0), ("12345678-8", 0)]
)
def test_start_that_names_none_or_more_than_one_is_refused_with_how_many(start, count):
    with pytest.raises(ValueError, match=f"names {count} commands: give at least 8 characters"):
        full_id(start, SERVICE)
