"""Certificates made at first start, and whom we trust."""

from __future__ import annotations

import datetime
import ipaddress
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors.opcua import pki
from schemas.errors import ConfigError

URI = "urn:jidoka:test"


def make(folder, uri=URI):
    return pki.ensure_certificate(folder, application_uri=uri, common_name="Test cell")


def expired(path):
    """Write a certificate whose time is over."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old")])
    then = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(then).not_valid_after(then + datetime.timedelta(days=1))
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))


def test_first_start_makes_what_opc_ua_asks_for(tmp_path):
    certificate = pki.read_certificate(make(tmp_path).certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [URI]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.content_commitment) == (True, True)
    assert (usage.key_encipherment, usage.data_encipherment) == (True, True)
    roles = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert roles == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert certificate.public_key().key_size == 2048
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 365 * 5


def test_only_its_owner_can_read_the_key(tmp_path):
    assert stat.S_IMODE(make(tmp_path).key.stat().st_mode) == 0o600


def test_second_start_keeps_the_pair(tmp_path):
    own = make(tmp_path)
    before = own.certificate.read_bytes(), own.key.read_bytes()
    assert make(tmp_path) == own
    assert (own.certificate.read_bytes(), own.key.read_bytes()) == before


def test_key_without_certificate_is_a_crash_of_the_first_start_and_is_made_again(tmp_path):
    own = make(tmp_path)
    own.certificate.unlink()
    make(tmp_path)
    assert own.certificate.exists()


def test_no_half_written_file_is_left(tmp_path):
    make(tmp_path)
    assert sorted(p.name for p in (tmp_path / "own").iterdir()) == ["certificate.der", "key.pem"]


@pytest.mark.parametrize("damage", ["certificate", "key", "other key", "no key"])
def test_damaged_pair_is_named(tmp_path, damage):
    own = make(tmp_path / "a")
    match damage:
        case "certificate":
            own.certificate.write_bytes(b"\x30\x00")
        case "key":
            own.key.write_text("nothing")
        case "other key":
            own.key.write_bytes(make(tmp_path / "b").key.read_bytes())
        case "no key":
            own.key.unlink()
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "a")
    assert caught.value.file == str(own.certificate if damage == "certificate" else own.key)


def test_certificate_of_another_application_is_refused(tmp_path):
    make(tmp_path)
    with pytest.raises(ConfigError, match="urn:jidoka:other"):
        make(tmp_path, "urn:jidoka:other")


def test_expired_certificate_is_refused_with_its_dates(tmp_path):
    own = make(tmp_path)
    expired(own.certificate)
    with pytest.raises(ConfigError, match="2020-01-01 to 2020-01-02"):
        make(tmp_path)


def test_partner_is_trusted_only_after_a_person_said_so(tmp_path):
    make(tmp_path / "server")
    partner = make(tmp_path / "client")
    der = partner.certificate.read_bytes()
    assert not pki.is_trusted(tmp_path / "server", der)
    rejected = pki.reject(tmp_path / "server", der)
    assert rejected is not None
    placed = pki.trust(tmp_path / "server", rejected)
    assert pki.is_trusted(tmp_path / "server", der)
    assert not rejected.exists()
    assert [pki.thumbprint(c) for c in pki.load_trusted(tmp_path / "server")] == [placed.stem.split("-")[-1]]


@pytest.mark.parametrize("der", [None, b"", b"\x30\x00"])
def test_what_is_no_certificate_is_not_trusted(tmp_path, der):
    make(tmp_path)
    assert not pki.is_trusted(tmp_path, der)


def test_expired_partner_cannot_be_trusted(tmp_path):
    expired(tmp_path / "old.der")
    with pytest.raises(ConfigError, match="validity"):
        pki.trust(tmp_path, tmp_path / "old.der")


def test_expired_partner_in_the_folder_is_not_trusted(tmp_path):
    make(tmp_path)
    expired(tmp_path / "trusted" / "old.der")
    assert not pki.is_trusted(tmp_path, (tmp_path / "trusted" / "old.der").read_bytes())


def test_rejected_certificates_are_bounded(tmp_path):
    (tmp_path / "rejected").mkdir()
    for i in range(pki.REJECTED_MAX):
        (tmp_path / "rejected" / f"{i}.der").touch()
    assert pki.reject(tmp_path, make(tmp_path / "client").certificate.read_bytes()) is None
    assert len(list((tmp_path / "rejected").iterdir())) == pki.REJECTED_MAX
