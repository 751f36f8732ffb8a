"""Connecting with security and users, and what an engineer reads when it fails."""

from __future__ import annotations

import asyncio
import itertools
import shutil

import numpy as np
import pytest

from connectors.clock import SystemClock
from connectors.opcua import pki
from connectors.opcua.checks import check_server
from connectors.opcua.faults import AccessRefused
from connectors.opcua.session import keep_session, open_session
from schemas.errors import ConnectionFault
from schemas.settings import OpcUaSettings
from tests.opcua_collecting import Collected, Stage, collecting, run, secure_settings, settings, trust_each_other
from tests.opcua_plc import APPLICATION_URI, DOUBLE, Plc, broken_tag, cell, free_port


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Both certificates, made once: keys are slow."""
    folder = tmp_path_factory.mktemp("made")
    trust_each_other(folder / "agent", folder / "plc", APPLICATION_URI)
    return folder


@pytest.fixture(scope="module")
def stage(made):
    shared = Stage(Plc(free_port(), folder=made / "plc"))
    yield shared
    shared.close()


@pytest.fixture
def folder(made, tmp_path):
    """The agent's side, free to be broken."""
    shutil.copytree(made / "agent", tmp_path / "agent")
    return tmp_path


async def fault_of(connection, user=None):
    with pytest.raises(ConnectionFault) as caught:
        async with open_session(connection, user or connection.collector):
            pass
    return caught.value


def test_the_collector_works_encrypted_as_its_own_user(stage, folder):
    async def scenario(plc):
        async with collecting(cell(), secure_settings(plc.url, folder)) as got:
            await got.until(got.alive)
            assert got.collector.fault == ""
            (session,) = plc.server.iserver.subscription_service.subscriptions.values()
            assert session is not None

    stage.play(scenario)


def test_a_wrong_password_is_named_with_the_file_to_correct_and_tried_seldom(stage, folder):
    async def scenario(plc):
        connection = secure_settings(plc.url, folder, backoff_s=0.05)
        (folder / "collector.password").write_text("wrong\n")
        fault = await fault_of(connection)
        assert isinstance(fault, AccessRefused)
        assert "refused user 'collector'" in str(fault)
        assert str(folder / "collector.password") in str(fault)
        faults = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await keep_session(
                    connection, connection.collector, None, rng=np.random.default_rng(1), on_fault=faults.append
                )
        assert len(faults) == 1

    stage.play(scenario)


def test_an_unknown_server_is_refused_and_after_being_trusted_accepted(stage, folder):
    async def scenario(plc):
        connection = secure_settings(plc.url, folder)
        for path in (folder / "agent" / "trusted").iterdir():
            path.unlink()
        fault = await fault_of(connection)
        theirs = pki.read_certificate(plc.folder / "own" / "certificate.der")
        assert pki.thumbprint(theirs) in str(fault)
        (kept,) = (folder / "agent" / "rejected").iterdir()
        assert str(kept) in str(fault)
        kept.rename(folder / "agent" / "trusted" / kept.name)
        async with open_session(connection, connection.collector) as link:
            assert link.up

    stage.play(scenario)


def test_a_server_that_does_not_trust_us_is_named_with_our_certificate(stage, folder):
    async def scenario(plc):
        (trusted,) = (plc.folder / "trusted").iterdir()
        trusted.rename(plc.folder / trusted.name)
        try:
            fault = await fault_of(secure_settings(plc.url, folder))
        finally:
            (plc.folder / trusted.name).rename(trusted)
        own = folder / "agent" / "own" / "certificate.der"
        assert str(own) in str(fault)
        assert pki.thumbprint(pki.read_certificate(own)) in str(fault)

    stage.play(scenario)


def test_a_server_without_our_policy_is_named_with_what_it_offers(folder):
    async def scenario():
        async with Plc(free_port()) as plc:
            fault = await fault_of(secure_settings(plc.url, folder))
            assert "no endpoint with Basic256Sha256/SignAndEncrypt, only None/None_" in str(fault)
            checks = await check_server(cell(), secure_settings(plc.url, folder), SystemClock())
            assert [(c.name, c.ok) for c in checks][:2] == [("own certificate", True), ("endpoint", False)]

    run(scenario)


def test_nothing_listening_an_unknown_host_and_a_silent_one_are_told_apart(folder):
    async def scenario():
        connection = settings(f"opc.tcp://127.0.0.1:{free_port()}/")
        assert "nothing listens there" in str(await fault_of(connection))
        assert "unknown host name" in str(await fault_of(settings("opc.tcp://no-such-host.invalid:4840/")))
        open_writers = []

        async def say_nothing(_, writer):
            open_writers.append(writer)

        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        silent = settings(f"opc.tcp://127.0.0.1:{port}/", connect_timeout_s=0.3)
        assert "no answer within 0.3 s" in str(await fault_of(silent))
        for writer in open_writers:
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(scenario)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"ACKF\x08\x00\x00\x00", b"\x00" * 64])
def test_a_partner_that_speaks_something_else_is_a_fault_and_no_crash(answer):
    async def scenario():
        async def answer_wrongly(_, writer):
            writer.write(answer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer_wrongly, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        assert f"127.0.0.1:{port}" in str(
            await fault_of(settings(f"opc.tcp://127.0.0.1:{port}/", connect_timeout_s=1.0))
        )
        server.close()
        await server.wait_closed()

    run(scenario)


def test_a_password_is_never_sent_in_clear_even_by_settings_that_were_not_checked(stage, folder):
    async def scenario(plc):
        checked = secure_settings(plc.url, folder)
        unchecked = OpcUaSettings.model_construct(**checked.model_dump() | {"security": "None"})
        assert "would send the password of 'collector' in clear" in str(await fault_of(unchecked, checked.collector))

    stage.play(scenario)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.chmod(0o644), "others can read this password"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_text("\n"), "empty"),
    ],
)
def test_a_password_file_that_is_open_missing_or_empty_is_named(stage, folder, spoil, said):
    async def scenario(plc):
        connection = secure_settings(plc.url, folder)
        spoil(folder / "collector.password")
        fault = str(await fault_of(connection))
        assert said in fault
        assert str(folder / "collector.password") in fault

    stage.play(scenario)


def test_the_waits_between_attempts_double_to_their_bound_and_are_jittered():
    async def scenario():
        connection = settings(f"opc.tcp://127.0.0.1:{free_port()}/", backoff_s=0.02, backoff_s_max=0.08)
        times = []
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await keep_session(
                    connection, None, None, rng=np.random.default_rng(1), on_fault=lambda _: times.append(loop.time())
                )
        waits = [after - before for before, after in itertools.pairwise(times)]
        assert 8 <= len(waits) <= 40
        assert min(waits[:1]) >= 0.01
        assert min(waits[3:]) >= 0.04

    run(scenario)


def test_the_doctor_finds_a_well_configured_cell_well(stage, folder):
    async def scenario(plc):
        checks = {
            check.name: check for check in await check_server(cell(), secure_settings(plc.url, folder), SystemClock())
        }
        assert [check for check in checks.values() if not check.ok] == []
        assert set(checks) >= {"own certificate", "endpoint", "server certificate", "session", "clock", "rights"}
        assert set(checks) >= {"tag force_n", "robot r", "actuator session", "agent heartbeat"}

    stage.play(scenario)


def test_the_doctor_names_what_is_wrong_and_what_to_do(stage, folder):
    async def scenario(plc):
        await plc.add("Setpoint", 5.0, DOUBLE, unit="N", limits=(0.0, 100.0), writable=True)
        ill = cell(
            tags=[*cell().model_dump()["tags"], broken_tag(9), broken_tag(8, node="/Cell1/Setpoint")],
            robots=[{"id": "r", "asset": "a", "kind": "opcua_methods", "node": "/Cell1/State"}],
            permissives=[{"tag": "packml_state", "value": 11}],
        )
        checks = {c.name: c for c in await check_server(ill, secure_settings(plc.url, folder), _Late())}
        wrong = {name for name, check in checks.items() if not check.ok}
        assert wrong == {"clock", "tag broken_9", "rights", "robot r", "permissive packml_state"}
        assert all(checks[name].remedy for name in wrong)
        assert float(checks["clock"].detail.split()[3]) == pytest.approx(3600, abs=5)
        assert "broken_8" in checks["rights"].detail
        assert checks["permissive packml_state"].detail == "is 6, must be 11"

    stage.play(scenario)


class _Late(SystemClock):
    def now_us(self) -> int:
        return super().now_us() - 3_600_000_000


def test_stopping_in_the_middle_of_an_attempt_stops():
    """A cancellation in the very turn in which a connection is refused was lost, and the loop went on for ever."""

    async def scenario():
        connection = settings(f"opc.tcp://127.0.0.1:{free_port()}/", backoff_s=1e-6, backoff_s_max=1e-6)
        rng = np.random.default_rng(1)
        for turns in range(60):
            task = asyncio.create_task(keep_session(connection, None, None, rng=rng, on_fault=lambda _: None))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=2.0)
            assert task.cancelled(), turns

    run(scenario)


def test_stopping_while_a_session_opens_or_closes_stops():
    async def scenario(plc):
        for n in range(8):
            got = Collected(cell(), settings(plc.url))
            task = asyncio.create_task(got.collector.run(got.sink))
            await asyncio.sleep(0.03 * n)
            task.cancel()
            await asyncio.wait([task], timeout=5.0)
            assert task.cancelled(), n

    in_clear = Stage(Plc(free_port()))
    in_clear.play(scenario)
    in_clear.close()
