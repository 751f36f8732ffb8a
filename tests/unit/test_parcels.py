"""What a poll brought goes to the worker in one piece a partition."""

from __future__ import annotations

from dataclasses import dataclass

from faust.types import TP

from pipelines.stages.parcels import Parcels


@dataclass
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int = 7
    timestamp_type: int = 1


def test_records_of_a_partition_come_as_one_in_their_order_and_count_as_the_last():
    first, second = ([Record("t", number, offset) for offset in (4, 5, 6)] for number in (0, 1))
    given = list(Parcels().iterate({TP("t", 0): first, TP("t", 1): second}))
    assert [(tp.partition, parcel.offset, parcel.timestamp) for tp, parcel in given] == [(0, 6, 7), (1, 6, 7)]
    assert [parcel.value for _, parcel in given] == [first, second]


def test_a_partition_without_records_gives_nothing():
    assert list(Parcels().iterate({TP("t", 0): []})) == []
