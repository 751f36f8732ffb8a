"""Faust commits past messages that are still in work (faust-streaming issue 606): seen in the version that is pinned.

The same is asked of a plain Faust agent and of the detection worker, on a real broker: while message 5 hangs and those
behind it are done or wait, how far is the group committed? Whatever is committed is lost when the process dies. With
`concurrency` 2 the answer of plain Faust is 20; should a version ever answer 5, this test fails, and says so.
"""

from __future__ import annotations

import time

import pytest

from connectors.kafka.codec import Message
from connectors.kafka.reading import read_range
from pipelines.stages.detect import GROUP, IN, OUT, SAVE_LOOK_S
from schemas.observations import decode_observation
from tests.support.commits import COMMIT_EVERY_S, HANGS_AT, MESSAGES_N
from tests.support.kafka_broker import admin_of, plain
from tests.support.workers import WITHIN_S, committed, configured, produce, running, ticks, two_cells, wait_until

# ---------------------------------------------------------------------- plain Faust


@pytest.mark.parametrize(("concurrency", "behind_s"), [(1, HANGS_AT), (2, MESSAGES_N)])
def test_plain_faust_commits_past_a_message_in_work_as_soon_as_concurrency_is_two(
    kafka_broker, tmp_path, concurrency, behind_s
):
    topic = f"plain-faust-{concurrency}"
    with admin_of(kafka_broker) as admin:
        admin.create_topics({topic: {"num_partitions": 1}}, wait_for_metadata=True)
    produce(kafka_broker, topic, 0, [Message(b"k", b"%d" % n, ()) for n in range(MESSAGES_N)])

    with running("plain", kafka_broker.bootstrap[0], topic, str(concurrency), str(tmp_path)) as process:
        assert process.hangs.wait(WITHIN_S)
        wait_until(lambda: committed(kafka_broker, f"plain-{topic}", topic, 0) >= behind_s, "a commit")
        time.sleep(10 * COMMIT_EVERY_S)

    # With 2: message 5 was never done, and nobody will ever read it again.
    assert committed(kafka_broker, f"plain-{topic}", topic, 0) == behind_s


# ---------------------------------------------------------------------- the detection worker


@pytest.mark.parametrize("where", ["take", "save"])
def test_worker_commits_nothing_that_is_not_saved_and_the_next_one_reads_it_again(kafka_broker, tmp_path, where):
    configuration = configured(kafka_broker, tmp_path / "config")
    usual, hanging, partition = two_cells(configuration)

    def how_far() -> int:
        return committed(kafka_broker, GROUP, IN, partition)

    produce(kafka_broker, IN, partition, ticks(usual, range(HANGS_AT)))
    with running("ours", str(tmp_path / "config"), where) as process:
        wait_until(lambda: how_far() == HANGS_AT, "the first commit")
        behind = ticks(usual, range(HANGS_AT, MESSAGES_N - 1))
        produce(kafka_broker, IN, partition, ticks(hanging, range(1)) + behind)
        assert process.hangs.wait(WITHIN_S)
        time.sleep(3 * SAVE_LOOK_S)
        assert how_far() == HANGS_AT

    with running("ours", str(tmp_path / "config"), "nowhere"):
        wait_until(lambda: how_far() == MESSAGES_N, "the commit of all")
    given = [decode_observation(each.value) for each in read_range(plain(kafka_broker), OUT, partition, 0)]
    # Of the cell without a saved state what is given again is numbered on: twice is allowed, never is not.
    expected = {(usual.path, n) for n in range(1, MESSAGES_N)} | {(hanging.path, 1)}
    assert {(each.cell, each.position) for each in given} >= expected
