"""Content credentials by a leaf certificate under an authority made for the test."""

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from arra_med.errors import ConfigError, GenerationError
from arra_med.generate.content_credentials import ContentSigner, configured_signer, read_content_credentials
from arra_med.generate.export import read_provenance, save_images
from arra_med.generate.session import DIGITAL_SOURCE_TYPE, GenerationRequest, GenerationResult, ReportToImage
from arra_med.models.bundle import ModelBundle

pytest.importorskip("c2pa", reason="c2pa-python is not installed (extra: credentials)")
x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed (extra: test)")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

DAY = datetime.timedelta(days=1)
AUTHORITY_KEY, LEAF_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def certificate(subject: str, key: Any, is_authority: bool, until: datetime.timedelta = 30 * DAY) -> bytes:
    """Returns a certificate signed by the authority's key, PEM."""
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name)]) for name in (subject, "Authority")]
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder(*reversed(names), key.public_key(), x509.random_serial_number())
        .not_valid_before(now + until - 60 * DAY)
        .not_valid_after(now + until)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority, **usage
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(AUTHORITY_KEY.public_key()), critical=False)
    )
    if not is_authority:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
    return bytes(builder.sign(AUTHORITY_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


AUTHORITY = certificate("Authority", AUTHORITY_KEY, is_authority=True)
LEAF = certificate("Leaf", LEAF_KEY, is_authority=False)


@pytest.fixture
def set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Returns a function that writes the settings and their two files."""

    def write(chain: bytes = LEAF + AUTHORITY, key: Any = LEAF_KEY, **changed: Any) -> Path:
        folder = tmp_path / "credentials"
        folder.mkdir()
        (folder / "chain.pem").write_bytes(chain)
        pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / "key.pem").write_bytes(key.private_bytes(*pem))
        (folder / "key.pem").chmod(0o600)
        settings = {"certificate_chain": "chain.pem", "private_key": "key.pem", **changed}
        (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
        monkeypatch.setenv("ARRA_MED_CONTENT_CREDENTIALS", str(folder / "settings.yaml"))
        return folder

    return write


@pytest.fixture(scope="module")
def result(bundle: ModelBundle) -> GenerationResult:
    return ReportToImage(bundle).generate(GenerationRequest(report="Distinctive effusion.", modality="cxr", seed=7))


def test_a_signed_image_says_what_made_it_and_keeps_its_pixels_and_text(
    result: GenerationResult, set_up: Any, tmp_path: Path
):
    set_up()
    plain = save_images(result, tmp_path / "plain")[0]
    signed = save_images(result, tmp_path / "signed", signer=configured_signer())[0]
    np.testing.assert_array_equal(np.asarray(Image.open(signed)), np.asarray(Image.open(plain)))
    assert read_provenance(signed) == read_provenance(plain)
    assert b"Distinctive" not in signed.read_bytes()
    assert read_content_credentials(plain) is None

    told = read_content_credentials(signed)
    assert told is not None
    assert told["validation_state"] == "Valid"
    assert told["signature_info"]["issuer"] == "Leaf"
    said = {assertion["label"]: assertion["data"] for assertion in told["assertions"]}
    (created,) = next(data for label, data in said.items() if label.startswith("c2pa.actions"))["actions"]
    assert (created["action"], created["digitalSourceType"]) == ("c2pa.created", DIGITAL_SOURCE_TYPE)
    assert said["org.arra-med.provenance"] == read_provenance(plain)


def test_a_changed_image_is_no_longer_valid(result: GenerationResult, set_up: Any, tmp_path: Path):
    set_up()
    signed = save_images(result, tmp_path / "signed", signer=configured_signer())[0]
    data = bytearray(signed.read_bytes())
    data[data.rindex(b"IEND") - 10] ^= 1  # in the pixels
    signed.write_bytes(data)
    assert (read_content_credentials(signed) or {})["validation_state"] == "Invalid"


def test_without_settings_nothing_is_signed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ARRA_MED_CONTENT_CREDENTIALS", raising=False)
    assert configured_signer() is None


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"chain": certificate("Leaf", LEAF_KEY, False, until=-DAY) + AUTHORITY}, "not valid at time of signing"),
        ({"chain": AUTHORITY, "key": AUTHORITY_KEY}, "the certificate was self-signed"),
        ({"key": AUTHORITY_KEY}, "the signature does not match"),
        ({"chain": b"hello"}, "make no content credentials"),
    ],
    ids=["expired", "self-signed", "another key", "no certificate"],
)
def test_an_unsuitable_certificate_is_refused_before_anything_is_drawn(
    set_up: Any, changed: dict[str, Any], sentence: str
):
    set_up(**changed)
    with pytest.raises(ConfigError, match=f"{sentence}.*use a valid certificate") as told:
        configured_signer()
    assert "\n" not in str(told.value)


def test_an_open_key_a_missing_file_and_wrong_settings_are_refused(set_up: Any):
    folder = set_up()
    (folder / "key.pem").chmod(0o644)
    with pytest.raises(ConfigError, match=r"signing key can be read by others; run: chmod 600"):
        configured_signer()
    (folder / "chain.pem").unlink()
    with pytest.raises(ConfigError, match="chain.pem: cannot be read"):
        configured_signer()
    (folder / "settings.yaml").write_text(json.dumps({"certificate": "chain.pem"}))
    with pytest.raises(ConfigError, match="did you mean 'certificate_chain'"):
        configured_signer()


def test_a_certificate_that_expires_meanwhile_is_one_sentence(result: GenerationResult, tmp_path: Path):
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    expired = certificate("Leaf", LEAF_KEY, False, until=-DAY) + AUTHORITY
    signer = ContentSigner(expired, LEAF_KEY.private_bytes(*pem), "es256", None)
    with pytest.raises(GenerationError, match="cannot get content credentials: .*not valid at time of signing"):
        save_images(result, tmp_path, signer=signer)
    assert not list(tmp_path.iterdir())
    assert "PRIVATE" not in repr(signer)
