"""A cell's sequence as a value: for what must go on behind the last message in another process."""

from __future__ import annotations

import msgspec

from connectors.kafka.codec import Message, decode_message, encode_message
from pipelines.stages.sequence import Sequence, SourceOrder, Waiting


class Order(msgspec.Struct, frozen=True):
    """How far one source was taken."""

    source: str
    epoch: int
    next_seq: int
    complete_until: int
    waiting: list[Message]


class SequenceMemory(msgspec.Struct, frozen=True):
    """A sequence."""

    position: int
    at_us: int
    orders: list[Order]


def remember(sequence: Sequence, cell: str, tags_sha256: str) -> SequenceMemory:
    """Return all that `recall` needs."""
    orders = [
        Order(
            source,
            order.epoch,
            order.next_seq,
            order.complete_until,
            [encode_message(cell, w.at_us, w.input, tags_sha256) for w in order.waiting.values()],
        )
        for source, order in sequence.sources.items()
    ]
    return SequenceMemory(sequence.position, sequence.at_us, orders)


def recall(memory: SequenceMemory) -> Sequence:
    """Return the sequence that was remembered.

    Raises:
        CodecError: a message that waited cannot be read.
    """
    sequence = Sequence(memory.position)
    sequence.at_us = memory.at_us
    for order in memory.orders:
        arrived = [decode_message(*msgspec.structs.astuple(message)) for message in order.waiting]
        waiting = {each.input.seq: Waiting(each.at, each.input) for each in arrived}
        sequence.sources[order.source] = SourceOrder(order.epoch, order.next_seq, order.complete_until, waiting)
    return sequence
