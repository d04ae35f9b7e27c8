"""C-STORE over TLS to a real Orthanc that asks for our certificate, and to whom it must not go."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import pytest

from arra_med.errors import ConfigError, SendingError
from arra_med.generate.destinations import find_destination
from arra_med.generate.export_dicom import NewSeries, secondary_capture, write_secondary_capture
from arra_med.generate.sending import send_files
from tests.generate.orthanc import PROVENANCE, Orthanc, running_orthanc
from tests.self_signed import write_self_signed

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (extra: send)")


class Encrypted(NamedTuple):
    """An Orthanc that takes encrypted connections alone, and the files that it and we trust."""

    server: Orthanc
    ca_file: Path
    certificate: Path
    key: Path
    other: Path
    other_key: Path


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("tls")
    theirs, ours = write_self_signed(folder, "theirs"), write_self_signed(folder, "ours", "client")
    other = write_self_signed(folder, "other", "other")
    with running_orthanc(
        folder,
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(theirs[0]),
        DicomTlsPrivateKey=str(theirs[1]),
        DicomTlsTrustedCertificates=str(ours[0]),
    ) as server:
        yield Encrypted(server, theirs[0], *ours, *other)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    picture = np.random.default_rng(0).integers(0, 256, (33, 35), dtype=np.uint8)
    write_secondary_capture(tmp_path / "1.dcm", secondary_capture(picture, PROVENANCE, NewSeries.fresh(), 1))
    return tmp_path / "1.dcm"


def test_an_encrypted_destination_that_knows_us_stores_the_file(encrypted: Encrypted, file: Path):
    node = encrypted.server.node(
        tls=True, ca_file=encrypted.ca_file, certificate=encrypted.certificate, key=encrypted.key
    )
    assert list(send_files([file], node)) == [file]
    assert str(pydicom.dcmread(file).SOPInstanceUID) in encrypted.server.held()


def test_nothing_is_sent_where_one_side_does_not_trust_the_other(encrypted: Encrypted, file: Path):
    known = {"certificate": encrypted.certificate, "key": encrypted.key}
    unknown = {"certificate": encrypted.other, "key": encrypted.other_key}
    for settings, sentence in (
        ({"tls": True, **known}, "its certificate is not trusted .*; name its authority as ca_file"),
        ({"tls": True, "ca_file": encrypted.ca_file, **unknown}, "does not trust our certificate"),
        ({"tls": True, "ca_file": encrypted.ca_file}, "asks for a certificate of ours"),
        ({}, "check host, port and firewall, and whether it asks for tls"),
    ):
        before = encrypted.server.held()
        with pytest.raises(SendingError, match=sentence):
            list(send_files([file], encrypted.server.node(**settings)))
        assert encrypted.server.held() == before


def test_a_destination_without_tls_or_with_another_name_is_told_from_one_that_cannot_be_reached(
    encrypted: Encrypted, file: Path
):
    plain = int(encrypted.server.url.rpartition(":")[2])
    for settings, sentence in (
        ({"port": plain}, "it speaks no TLS"),
        ({"port": 9}, "cannot be reached as a DICOM system: check host, port and firewall$"),
    ):
        with pytest.raises(SendingError, match=sentence):
            list(send_files([file], encrypted.server.node(tls=True, ca_file=encrypted.ca_file, **settings)))
    with pytest.raises(SendingError, match="its certificate is not trusted .*mismatch"):
        node = encrypted.server.node(tls=True, ca_file=encrypted.ca_file, host="127.0.0.2")
        list(send_files([file], node))


def test_files_that_hold_no_certificate_or_key_are_named(encrypted: Encrypted, file: Path):
    node = encrypted.server.node
    for settings, sentence in (
        ({"ca_file": file}, "1.dcm: holds no certificates"),
        ({"ca_file": file.with_name("none.pem")}, "none.pem: holds no certificates"),
        ({"certificate": encrypted.certificate, "key": encrypted.other_key}, "do not belong together"),
    ):
        with pytest.raises(SendingError, match=sentence):
            list(send_files([file], node(tls=True, **settings)))


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ({"ca_file": "a.pem"}, "add tls: true"),
        ({"tls": "true", "certificate": "a.pem"}, "certificate and key go together"),
    ],
)
def test_a_half_written_entry_is_refused(tmp_path: Path, lines: dict[str, Any], sentence: str):
    entry = {"kind": "dicom", "purpose": "research", "host": "h", "port": "104", "ae_title": "A", **lines}
    text = "destinations:\n  lab:\n" + "".join(f"    {key}: {value}\n" for key, value in entry.items())
    (tmp_path / "list.yaml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        find_destination("lab", tmp_path / "list.yaml")
