"""Who is let in, and that the table of rights gives nobody both hands."""

from __future__ import annotations

import pytest

from connectors.opcua import pki
from connectors.plant.access import ANONYMOUS, RIGHTS, Users, ensure_passwords
from connectors.plant.methods import SIMULATION_IN


@pytest.fixture
def folder(tmp_path):
    partner = pki.ensure_certificate(tmp_path / "client", application_uri="urn:a", common_name="Partner")
    pki.ensure_certificate(tmp_path / "pki", application_uri="urn:b", common_name="Server")
    pki.trust(tmp_path / "pki", partner.certificate)
    return tmp_path


def test_certificate_of_the_channel_decides_before_the_password(folder):
    users = Users({"collector": "secret"}, trusted=folder / "pki")
    trusted = (folder / "client" / "own" / "certificate.der").read_bytes()
    # What asyncua passes is the certificate with whose key the channel was opened, not the one that a client names.
    stranger = pki.ensure_certificate(folder / "other", application_uri="urn:a", common_name="Partner").certificate
    assert users.get_user(None, "collector", "secret", trusted).name == "collector"
    assert users.get_user(None, "collector", "secret", stranger.read_bytes()) is None
    assert users.get_user(None, "collector", "secret", None) is None
    assert users.get_user(None, None, None, trusted) is None


def test_without_security_who_has_no_user_only_reads_and_a_wrong_password_is_still_wrong():
    users = Users({"collector": "secret"}, trusted=None)
    assert users.get_user(None).name == ANONYMOUS
    assert users.get_user(None, "collector", "wrong") is None
    assert users.get_user(None, "collector", None) is None
    assert (RIGHTS[ANONYMOUS].calls, RIGHTS[ANONYMOUS].writes) == (frozenset(), frozenset())


def test_passwords_are_made_once_and_differ(tmp_path):
    first = ensure_passwords(tmp_path)
    assert ensure_passwords(tmp_path) == first
    assert len(set(first.values())) == len(first) == len(RIGHTS) - 1
    assert min(map(len, first.values())) >= 32


def test_no_two_users_share_a_right():
    for name, rights in RIGHTS.items():
        for other, theirs in RIGHTS.items():
            if name != other:
                assert not rights.calls & theirs.calls
                assert not rights.writes & theirs.writes


def test_everything_of_the_hidden_hand_belongs_to_the_simulation_user():
    assert RIGHTS["simulation"].calls == {f"Simulation.{name}" for name in SIMULATION_IN}
