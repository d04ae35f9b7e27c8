"""C2PA content credentials: a signed statement inside a PNG of what made it, where somebody has set up a certificate.

The certificate and key are the institution's own; without them no credentials are written. The library comes with the
extra `credentials`. Nothing is fetched from a network unless a time-stamping authority is named.

Source: C2PA Technical Specification 2.2, sections 13 (trust model), 14.5 (certificate profile), 18.13 (actions).
"""

import io
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from arra_med.config import StrictModel, load_config, user_config_folder
from arra_med.errors import ConfigError, GenerationError
from arra_med.generate.session import DIGITAL_SOURCE_TYPE
from arra_med.runs import atomic_file

SETTINGS_VARIABLE = "ARRA_MED_CONTENT_CREDENTIALS"
"""Environment variable that names the settings."""

PROVENANCE_LABEL = "org.arra-med.provenance"
"""C2PA assertion that holds the provenance."""

_MIME = "image/png"


class CredentialSettings(StrictModel):
    """The settings file; paths in it count from its own folder.

    Attributes:
        certificate_chain: PEM, the signing certificate first, then its issuers.
        private_key: PEM (PKCS#8) without a passphrase, readable by its owner alone.
        algorithm: Of the key.
        timestamp_authority: RFC 3161 service that confirms the time; none by default.
    """

    certificate_chain: Path
    private_key: Path
    algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = "es256"
    timestamp_authority: str | None = None


@dataclass(frozen=True)
class ContentSigner:
    """Signs PNG files with one certificate, which has been tried.

    Attributes:
        certificate_chain: PEM.
        private_key: PEM.
        algorithm: As in the settings.
        timestamp_authority: As in the settings.
    """

    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    algorithm: str
    timestamp_authority: str | None

    def sign(self, path: Path, provenance: dict[str, Any]) -> None:
        """Puts content credentials into a PNG file.

        Args:
            path: The file; its pixels and text chunks stay.
            provenance: What made it, as `image_provenance` returns it; holds no report text.

        Raises:
            GenerationError: If the certificate has become invalid, or the time-stamping authority does not answer.
        """
        try:
            signed = self._signed(path.read_bytes(), provenance)
        except _library().C2paError as error:
            raise GenerationError(f"the image cannot get content credentials: {_reason(error)}") from None
        with atomic_file(path) as partial:
            partial.write_bytes(signed)

    def _signed(self, png: bytes, provenance: dict[str, Any]) -> bytes:
        c2pa = _library()
        info = c2pa.C2paSignerInfo(self.algorithm, self.certificate_chain, self.private_key, self.timestamp_authority)
        signed = io.BytesIO()
        with (
            c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}}) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(json.dumps(_manifest(provenance)), context) as builder,
        ):
            builder.sign(signer, _MIME, io.BytesIO(png), signed)
        return signed.getvalue()


def configured_signer() -> ContentSigner | None:
    """Returns the signer that is set up, or None where nobody has set one up.

    The settings are $ARRA_MED_CONTENT_CREDENTIALS, else content_credentials.yaml among the user's own.

    Raises:
        ConfigError: If the settings are not valid, a file in them cannot be used, or c2pa-python is not installed.
    """
    named = os.environ.get(SETTINGS_VARIABLE)
    path = Path(named) if named else user_config_folder() / "content_credentials.yaml"
    if not named and not path.exists():
        return None
    settings = load_config(path, CredentialSettings)
    chain, key = (path.parent / file for file in (settings.certificate_chain, settings.private_key))
    signer = ContentSigner(_read(chain), _read(key), settings.algorithm, settings.timestamp_authority)
    if stat.S_IMODE(key.stat().st_mode) & 0o077:
        raise ConfigError(f"{key}: the signing key can be read by others; run: chmod 600 {key}")
    pixel = io.BytesIO()
    Image.new("L", (1, 1)).save(pixel, "PNG")
    try:
        signer._signed(pixel.getvalue(), {"versions": {"arra-med": ""}, "digital_source_type": DIGITAL_SOURCE_TYPE})
    except _library().C2paError as error:
        raise ConfigError(
            f"{path}: this certificate and key make no content credentials: {_reason(error)}; use a valid certificate for "
            "signing that an authority has issued, with its own key"
        ) from None
    return signer


def read_content_credentials(path: Path) -> dict[str, Any] | None:
    """Returns the active manifest of a PNG, and under `validation_state` what the library says of it; None without one.

    `Valid` means unchanged since it was signed; whether to trust the certificate is the reader's decision.
    """
    c2pa = _library()
    with path.open("rb") as stream:
        reader = c2pa.Reader.try_create(_MIME, stream)
        if reader is None:
            return None
        with reader:
            return {**reader.get_active_manifest(), "validation_state": reader.get_validation_state()}


def _manifest(provenance: dict[str, Any]) -> dict[str, Any]:
    software = {"name": "ARRA-Med", "version": provenance["versions"]["arra-med"]}
    created = {
        "action": "c2pa.created",
        "digitalSourceType": provenance["digital_source_type"],
        "softwareAgent": software,
    }
    return {
        "claim_generator_info": [software],
        "title": "Synthetic medical image, research use only",
        "format": _MIME,
        "assertions": [
            {"label": "c2pa.actions", "data": {"actions": [created]}},
            {"label": PROVENANCE_LABEL, "data": provenance},
        ],
    }


def _library() -> Any:
    try:
        import c2pa
    except ModuleNotFoundError:
        raise ConfigError(
            "content credentials are set up, and the package c2pa-python is missing: pip install 'arra-med[credentials]'"
        ) from None
    return c2pa


def _reason(error: Exception) -> str:
    """Returns the library's words without the part in brackets, which may quote what a file holds."""
    words = str(error).partition("(")[0].strip()
    return words.removeprefix("Signature: ").rstrip(".") or type(error).__name__


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name an existing PEM file") from None
