"""Keyed pseudonyms for patient ids, image ids, UIDs and paths, and the shift of a patient's dates.

The key is a local secret: whoever has it can confirm a guessed identifier. Another key gives other pseudonyms, so what
was made with different keys cannot be joined by patient; `key_id` tells keys apart without giving them away.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
import uuid
from pathlib import Path

from arra_med.config import user_config_folder
from arra_med.errors import ConfigError

KEY_FILE_VARIABLE = "ARRA_MED_KEY_FILE"

MAX_DATE_SHIFT_DAYS = 365
"""Dates move back by 1 to this many days."""

_KEY_BYTES = 32
_PSEUDONYM_HEX_DIGITS = 16


class Pseudonymizer:
    """Maps texts to pseudonyms; the same key and text always give the same pseudonym."""

    def __init__(self, key: bytes) -> None:
        """Takes the secret key (32 bytes).

        Raises:
            ConfigError: If the key has another length.
        """
        if len(key) != _KEY_BYTES:
            raise ConfigError(f"a pseudonym key must have {_KEY_BYTES} bytes, found {len(key)}: let arra-med make one")
        self._key = key

    def of(self, text: str) -> str:
        """Returns the pseudonym of a text: the first 16 hex digits of its HMAC-SHA256."""
        return self._digest(text).hex()[:_PSEUDONYM_HEX_DIGITS]

    def hash_of(self, text: str) -> str:
        """Returns all 64 hex digits of the HMAC-SHA256 of a text, for texts that are no identifiers."""
        return self._digest(f"text {text}").hex()

    def uid(self, uid: str) -> str:
        """Returns the DICOM UID that stands for another: 2.25 and a UUID of 122 bits of its HMAC-SHA256.

        Source: DICOM PS3.5 B.2 (UUID derived UID), RFC 9562.
        """
        return f"2.25.{uuid.UUID(bytes=self._digest(f'uid {uid}')[:16], version=4).int}"

    def date_shift_days(self, patient: str) -> int:
        """Returns by how many whole days all dates of a patient move: -365 to -1."""
        return -1 - int.from_bytes(self._digest(f"date shift {patient}")) % MAX_DATE_SHIFT_DAYS

    @property
    def key_id(self) -> str:
        """Names the key without giving it away; equal only for equal keys."""
        return self.of("key id")

    def _digest(self, text: str) -> bytes:
        return hmac.new(self._key, text.encode(), hashlib.sha256).digest()


def throwaway_pseudonymizer() -> Pseudonymizer:
    """Returns one with a key that nobody keeps, for results that are looked at and not written."""
    return Pseudonymizer(secrets.token_bytes(_KEY_BYTES))


def require_key_id(pseudonymizer: Pseudonymizer, recorded: str, where: Path) -> None:
    """Refuses to add pseudonyms of one key to a file that holds those of another.

    Args:
        pseudonymizer: Of the key in use.
        recorded: The `key_id` that the file's description holds.
        where: What was made with the recorded key.

    Raises:
        ConfigError: If the keys differ.
    """
    if recorded != pseudonymizer.key_id:
        raise ConfigError(
            f"{where}: was made with another pseudonym key (key id {recorded}, in use is {pseudonymizer.key_id}), so "
            f"the same patient has another id there; choose another --out, or set {KEY_FILE_VARIABLE} to the old key"
        )


def key_path() -> Path:
    """Returns where the key is kept: $ARRA_MED_KEY_FILE, else pseudonym.key among the user's own settings."""
    named = os.environ.get(KEY_FILE_VARIABLE)
    return Path(named) if named else user_config_folder() / "pseudonym.key"


def load_or_create_key() -> bytes:
    """Reads the key, or makes one that only this user can read (mode 0600).

    Raises:
        ConfigError: If the file cannot be read or made, is readable by others, or holds no key.
    """
    path = key_path()
    try:
        if not path.exists():
            _create(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"{path}: the pseudonym key can be read by others; run: chmod 600 {path}")
        text = path.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except OSError as error:
        raise _cannot_be_made(path, error) from None
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ConfigError(
            f"{path}: holds no pseudonym key ({2 * _KEY_BYTES} hex digits); move it away to have one made"
        )
    return key


def rotate_key() -> Path:
    """Puts a new key in the place of the one in use, which stays beside it as `<name>.1` (older ones as .2, .3, ...).

    There is a key at every moment, so that a command which runs meanwhile uses either the old one or the new one.

    Returns:
        Where the old key lies now.

    Raises:
        ConfigError: As `load_or_create_key`; a key that cannot be used is not rotated.
    """
    load_or_create_key()
    path = key_path()
    kept = 1
    while _numbered(path, kept).exists():
        kept += 1
    try:
        for number in range(kept, 1, -1):
            os.rename(_numbered(path, number - 1), _numbered(path, number))
        os.link(path, _numbered(path, 1))
        fresh = _write(path.parent)
        os.replace(fresh, path)
    except OSError as error:
        raise _cannot_be_made(path, error) from None
    return _numbered(path, 1)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _cannot_be_made(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{path}: the pseudonym key cannot be read or made ({error.strerror}); set {KEY_FILE_VARIABLE} to another file"
    )


def _write(folder: Path) -> Path:
    """Writes a new key under a temporary name that only this user can read."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".pseudonym.")  # mkstemp makes mode 0600
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(secrets.token_hex(_KEY_BYTES) + "\n")
    return Path(name)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = _write(path.parent)
    try:
        # A link, not a rename: of two processes that start together, the first one's key holds for both.
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()
