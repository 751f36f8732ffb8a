"""Any sequence of right and wrong calls leaves each store as a plain dictionary says."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from connectors.eventlog.memory import MemoryStore
from connectors.eventlog.postgres import PostgresStore
from connectors.eventlog.postgres_verify import verify_postgres
from connectors.eventlog.sqlite import SqliteStore
from connectors.eventlog.verify import verify
from schemas.errors import Fenced
from tests.eventlog_support import clock, collect, state_fact
from tests.support.postgres import PostgresServer, backends_ended

CELLS = st.sampled_from(["a", "b", "zelle/é漢"])
OFF_BY = st.sampled_from([0, 0, 0, -1, 1])


class StoreAgainstModel(RuleBasedStateMachine):
    """The model: facts in order, and per cell its version, epoch and input position."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.facts: list[tuple[str, int, int]] = []
        self.cells: dict[str, list[int]] = {}
        self.store: Any = None
        self.run(self.open())

    async def open(self) -> None:
        raise NotImplementedError

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    @rule(cell=CELLS)
    def take(self, cell: str) -> None:
        known = self.cells.setdefault(cell, [0, 0, 0])
        known[1] += 1
        taken = self.run(self.store.take(cell))
        assert [taken.version, taken.epoch, taken.positions.get("in", 0)] == known

    @rule(cell=CELLS, facts_n=st.integers(0, 3), version_off=OFF_BY, epoch_off=OFF_BY, input_off=OFF_BY)
    def append(self, cell: str, facts_n: int, version_off: int, epoch_off: int, input_off: int) -> None:
        version, epoch, said = self.cells.get(cell, [0, 0, 0])
        numbers = [len(self.facts) + k for k in range(facts_n)]
        start = max(0, said + input_off)
        right = (version_off, epoch_off, start - said) == (0, 0, 0) and epoch > 0
        call = self.store.append(
            cell, [state_fact(n) for n in numbers],
            expected=version + version_off, advance={"in": (start, start + 2)}, epoch=epoch + epoch_off,
        )  # fmt: skip
        if not right:
            with pytest.raises(Fenced):
                self.run(call)
            return
        assert self.run(call).version == version + facts_n
        self.facts += [(cell, version + 1 + k, n) for k, n in enumerate(numbers)]
        self.cells[cell] = [version + facts_n, epoch, said + 2]

    @precondition(lambda self: any(known[1] for known in self.cells.values()))
    @rule(data=st.data())
    def several_callers_at_once(self, data: st.DataObject) -> None:
        taken = sorted(cell for cell, known in self.cells.items() if known[1])
        wrong = {cell: data.draw(st.booleans()) for cell in taken}

        async def together() -> list[Any]:
            calls = [
                self.store.append(
                    cell, [state_fact(k)], expected=self.cells[cell][0] + wrong[cell], advance={},
                    epoch=self.cells[cell][1],
                )
                for k, cell in enumerate(taken)
            ]  # fmt: skip
            return await asyncio.gather(*calls, return_exceptions=True)

        for k, (cell, result) in enumerate(zip(taken, self.run(together()), strict=True)):
            if wrong[cell]:
                assert isinstance(result, Fenced)
                continue
            self.cells[cell][0] += 1
            assert (result.version, result.position) == (self.cells[cell][0], len(self.facts) + 1)
            self.facts.append((cell, self.cells[cell][0], k))

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if getattr(self, "store", None) is None:
            return
        records = self.run(collect(self.store.read_all()))
        assert [r.position for r in records] == list(range(1, len(self.facts) + 1))
        assert [(r.cell, r.version, r.fact.number) for r in records] == self.facts
        for cell in self.cells:
            of_cell = self.run(collect(self.store.read_cell(cell)))
            assert [r.fact.number for r in of_cell] == [n for c, _, n in self.facts if c == cell]

    def teardown(self) -> None:
        if getattr(self, "store", None) is not None:
            self.run(self.store.close())
            self.runner.close()
            shutil.rmtree(self.folder)


class MemoryAgainstModel(StoreAgainstModel):
    async def open(self) -> None:
        self.store = MemoryStore(clock=clock())


class SqliteAgainstModel(StoreAgainstModel):
    async def open(self) -> None:
        self.store = SqliteStore.open(self.folder, clock=clock())

    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.run(self.open())
        assert self.store.notes == ()

    @rule()
    def crash_and_go_on_from_the_files(self) -> None:
        crashed = Path(tempfile.mkdtemp()) / "log"
        shutil.copytree(self.folder, crashed)
        self.run(self.store.close())
        shutil.rmtree(self.folder)
        self.folder = crashed
        self.run(self.open())

    @rule()
    def verifies(self) -> None:
        result = verify(self.folder)
        assert (result.kind, result.checked_n) == (None, len(self.facts))


class PostgresAgainstModel(StoreAgainstModel):
    """Two nodes; any rule may be carried out by either."""

    server: PostgresServer

    async def open(self) -> None:
        if not hasattr(self, "database"):
            self.database = self.server.database()
            self.settings = self.database.__enter__()
        self.nodes = [
            await PostgresStore.open(self.settings, self.folder / f"node{n}", clock=clock()) for n in range(2)
        ]
        assert [node.notes for node in self.nodes] == [(), ()]
        self.store = self.nodes[0]

    @rule(node=st.integers(0, 1))
    def go_on_at(self, node: int) -> None:
        self.store = self.nodes[node]

    @rule()
    def reopen(self) -> None:
        self.end()
        self.run(self.open())

    @rule()
    def backends_are_ended(self) -> None:
        backends_ended(self.server, self.settings.database)

    @rule()
    def verifies(self) -> None:
        result = verify_postgres(self.settings, self.folder / "node0")
        assert (result.kind, result.checked_n) == (None, len(self.facts))

    def end(self) -> None:
        for node in self.nodes:
            self.run(node.close())

    def teardown(self) -> None:
        if getattr(self, "store", None) is not None:
            self.end()
        super().teardown()
        if hasattr(self, "database"):
            self.database.__exit__(None, None, None)


def test_two_nodes_of_a_shared_log_agree_with_the_model(postgres_server: PostgresServer) -> None:
    PostgresAgainstModel.server = postgres_server
    bounds = settings(max_examples=8, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(PostgresAgainstModel, settings=bounds)


@pytest.mark.parametrize(("machine", "examples_n"), [(MemoryAgainstModel, 40), (SqliteAgainstModel, 25)])
def test_a_store_agrees_with_the_model(machine: type[StoreAgainstModel], examples_n: int) -> None:
    bounds = settings(max_examples=examples_n, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(machine, settings=bounds)
