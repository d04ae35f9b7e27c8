"""Where synthetic DICOM files may be sent: a list that somebody has written on purpose, of research systems alone."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import pydantic

from arra_med.config import StrictModel, load_config, user_config_folder
from arra_med.errors import SendingError

LIST_VARIABLE = "ARRA_MED_DESTINATIONS"
"""Environment variable that names the list."""

_AE_TITLE = Annotated[str, pydantic.StringConstraints(pattern=r"^[ -\[\]-~]{1,16}$")]  # PS3.5 6.2: no backslash


class DicomNode(StrictModel):
    """A system that takes C-STORE.

    Attributes:
        kind: `dicom`.
        purpose: `research`; who writes it states that no patient care reads from there.
        host: Name or address.
        port: Its DICOM port.
        ae_title: Its application entity title.
        calling_ae_title: Ours, as it knows us.
        tls: Whether the connection is encrypted, TLS 1.2 or later (PS3.15 annex B).
        ca_file: Certificates of the authority that the system's one is from, PEM; by default the well-known ones.
        certificate: Ours, PEM, where the system asks for one.
        key: Its private key, PEM without a passphrase.
    """

    kind: Literal["dicom"]
    purpose: Literal["research"]
    host: str = pydantic.Field(min_length=1)
    port: int = pydantic.Field(ge=1, le=65535)
    ae_title: _AE_TITLE
    calling_ae_title: _AE_TITLE = "ARRA-MED"
    tls: bool = False
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @pydantic.model_validator(mode="after")
    def _is_whole(self) -> "DicomNode":
        if not self.tls and (self.ca_file or self.certificate or self.key):
            raise ValueError("ca_file, certificate and key are for an encrypted connection: add tls: true")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: give both or neither")
        return self

    @property
    def address(self) -> str:
        """For a person to read."""
        return f"{self.ae_title} at {self.host}:{self.port}"


class DicomWebService(StrictModel):
    """A system that takes STOW-RS.

    Attributes:
        kind: `dicomweb`.
        purpose: `research`; who writes it states that no patient care reads from there.
        url: Of the service, without `/studies`; https, or http on this computer alone.
        username: For HTTP basic authentication.
        password_variable: Environment variable that holds the password, so that no file does.
        ca_file: Certificates of the authority that the service's one is from; by default the well-known ones.
    """

    kind: Literal["dicomweb"]
    purpose: Literal["research"]
    url: str
    username: str | None = None
    password_variable: str | None = None
    ca_file: Path | None = None

    @pydantic.field_validator("url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ValueError("must be an http or https address without a user's name in it")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError("must be https: plain http is for this computer alone")
        return url.rstrip("/")

    @property
    def address(self) -> str:
        """For a person to read."""
        return self.url


Destination = DicomNode | DicomWebService


class Destinations(StrictModel):
    """The list of research destinations, by name."""

    destinations: dict[str, Annotated[Destination, pydantic.Field(discriminator="kind")]]


def list_path() -> Path:
    """Returns where the list lies: $ARRA_MED_DESTINATIONS, else destinations.yaml in the user's own settings."""
    named = os.environ.get(LIST_VARIABLE)
    return Path(named) if named else user_config_folder() / "destinations.yaml"


def destination_names(path: Path) -> list[str]:
    """Returns the names on the list; none where there is no list.

    Raises:
        ConfigError: If the list cannot be read or is not valid.
    """
    return sorted(load_config(path, Destinations).destinations) if path.exists() else []


def find_destination(name: str, path: Path) -> Destination:
    """Returns a destination from the list.

    Args:
        name: As the list calls it.
        path: The list, YAML.

    Raises:
        ConfigError: If the list cannot be read or is not valid.
        SendingError: If there is no list, or the destination is not on it.
    """
    if not path.exists():
        raise SendingError(
            f"{path}: there is no list of research destinations, so nothing is sent anywhere: write one (docs/export.md)"
        )
    known = load_config(path, Destinations).destinations
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise SendingError(f"destination {name!r} is not on the list {path}: choose one of those that are: {names}")
    return known[name]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
