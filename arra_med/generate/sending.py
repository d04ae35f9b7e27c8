"""Sending synthetic DICOM files to a research system, by C-STORE or STOW-RS, and nothing else to nowhere else.

Every file is checked before the first one goes out. The libraries come with the extra `send`.

Source: DICOM PS3.4 annex B (Storage), PS3.7 9.1.1 and annex C (C-STORE and its status), PS3.18 10.5 (Store transaction).
"""

import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from arra_med.errors import SendingError
from arra_med.generate.destinations import Destination, DicomNode, DicomWebService
from arra_med.generate.export_dicom import foreign_because

_CONNECT_TIMEOUT_S, _ANSWER_TIMEOUT_S, _TLS_VERDICT_S = 10, 60, 2
_MAX_POST_BYTES = 1 << 30  # below it, a request is sent in one piece: not every server takes chunks
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_STORED = (0x0000, 0xB000, 0xB006, 0xB007)  # success, and warnings that say it is stored (PS3.4 table B.2-1)


def dicom_files(paths: Sequence[Path]) -> list[Path]:
    """Returns the files to send: those named, and the .dcm files in the folders named.

    Raises:
        SendingError: If there are none, or one of them is no synthetic image that arra-med made.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.dcm")) if path.is_dir() else [path])]
    if not files:
        raise SendingError("there is no .dcm file in what was named: make some with arra-med generate --format dicom")
    for file in files:
        if reason := foreign_because(file):
            raise SendingError(f"{file}: {reason}, and only such files are sent; nothing was sent: leave it out")
    return files


def send_files(files: Sequence[Path], destination: Destination) -> Iterator[Path]:
    """Sends files, one after the other, and yields each that the destination says it has stored.

    Args:
        files: As `dicom_files` returns them.
        destination: As `find_destination` returns it.

    Raises:
        SendingError: If the destination cannot be reached, refuses us, or does not store a file.
    """
    if isinstance(destination, DicomNode):
        yield from _sent_by_c_store(files, destination)
    else:
        yield from _sent_by_stow(files, destination)


def _sent_by_c_store(files: Sequence[Path], node: DicomNode) -> Iterator[Path]:
    from pynetdicom import AE

    entity = AE(ae_title=node.calling_ae_title)
    entity.add_requested_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
    entity.connection_timeout = _CONNECT_TIMEOUT_S
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _ANSWER_TIMEOUT_S
    context = _tls_context(node) if node.tls else None
    association = entity.associate(
        node.host, node.port, ae_title=node.ae_title, tls_args=(context, node.host) if context else None
    )
    if not association.is_established:
        if association.is_rejected:
            why = association.acceptor.primitive.reason_str if association.acceptor.primitive else "no reason given"
            raise SendingError(
                f"{node.address}: refused the association ({why}): have both AE titles entered there and in the list"
            )
        if association.rejected_contexts:
            raise SendingError(f"{node.address}: takes no Secondary Capture images: have them allowed there")
        why = _tls_fault(node, context) if context else None
        why = why or "cannot be reached as a DICOM system: check host, port and firewall"
        raise SendingError(f"{node.address}: {why}{'' if context else ', and whether it asks for tls'}")
    try:
        for number, file in enumerate(files):
            status = association.send_c_store(file)
            code = status.get("Status")
            if code is None:
                raise SendingError(_stopped(node, number, len(files), "the connection broke"))
            if code not in _STORED:
                raise SendingError(_stopped(node, number, len(files), f"it answered with status 0x{code:04X}"))
            yield file
    finally:
        if association.is_established:
            association.release()


def _tls_context(node: DicomNode) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=node.ca_file)
    except (OSError, ssl.SSLError):
        raise SendingError(f"{node.ca_file}: holds no certificates that can be read; ca_file takes PEM") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if node.certificate is not None:
        try:
            context.load_cert_chain(node.certificate, node.key, password="")  # no prompt for a passphrase
        except (OSError, ssl.SSLError):
            raise SendingError(
                f"{node.certificate}: certificate and key cannot be read or do not belong together; both are PEM, the "
                "key without a passphrase"
            ) from None
    return context


def _tls_fault(node: DicomNode, context: ssl.SSLContext) -> str | None:
    """Returns what is wrong with an encrypted connection, if that is why there is no association."""
    try:
        with (
            socket.create_connection((node.host, node.port), timeout=_CONNECT_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=node.host) as encrypted,
        ):
            encrypted.settimeout(_TLS_VERDICT_S)
            encrypted.recv(1)  # in TLS 1.3 it looks at our certificate after the handshake
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not trusted ({error.verify_message}); name its authority as ca_file in the list"
    except (ssl.SSLError, ConnectionResetError):
        if node.certificate is None:
            return "there is no encrypted connection: it speaks no TLS, or asks for a certificate of ours"
        return "there is no encrypted connection: it speaks no TLS, or does not trust our certificate"
    except OSError:
        return None
    return None


def _sent_by_stow(files: Sequence[Path], service: DicomWebService) -> Iterator[Path]:
    import requests
    from dicomweb_client.api import DICOMwebClient

    session = requests.Session()
    session.max_redirects = 0  # to another address, which may not be on the list
    if service.username is not None:
        session.auth = (service.username, _password(service))
    if service.ca_file is not None:
        session.verify = str(service.ca_file)
    client = DICOMwebClient(
        service.url,
        session=session,
        chunk_size=_MAX_POST_BYTES,
        timeout=(_CONNECT_TIMEOUT_S, _ANSWER_TIMEOUT_S),
    )
    for number, file in enumerate(files):
        try:
            answer = client.store_instances([pydicom.dcmread(file)])
        except requests.exceptions.SSLError:
            why = "its certificate is not one that this computer trusts; name its authority as ca_file in the list"
        except requests.exceptions.TooManyRedirects:
            why = "it points to another address; enter that one in the list if it is a research system"
        except requests.exceptions.HTTPError as error:
            code = error.response.status_code
            why = f"it answered with HTTP status {code}"
            if code in (_UNAUTHORIZED, _FORBIDDEN):
                why += "; check username and password_variable in the list"
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
            why = "it cannot be reached; check address, port and firewall"
        except (requests.exceptions.RequestException, ValueError, KeyError):
            why = "its answer is not one of STOW-RS; check the address"
        else:
            failed = answer.get("FailedSOPSequence")
            if not failed:
                yield file
                continue
            why = f"it did not store a file, failure reason 0x{failed[0].get('FailureReason', 0):04X}"
        raise SendingError(_stopped(service, number, len(files), why))


def _stopped(destination: Destination, sent: int, total: int, why: str) -> str:
    return f"{destination.address}: {why}; {sent} of {total} files were stored"


def _password(service: DicomWebService) -> str:
    password = os.environ.get(service.password_variable or "")
    if password is None:
        raise SendingError(
            f"{service.address}: a username stands in the list and no password is at hand: name an environment variable "
            "as password_variable, and set it"
        )
    return password
