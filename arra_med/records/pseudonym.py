"""Keyed pseudonyms for patient ids, image ids and paths.

The key is a local secret: whoever has it can confirm a guessed identifier. A new key gives new pseudonyms, so study
sets made with different keys cannot be joined by patient. To rotate it, move the key file away and ingest again.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from pathlib import Path

from arra_med.errors import ConfigError

KEY_FILE_VARIABLE = "ARRA_MED_KEY_FILE"
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
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:_PSEUDONYM_HEX_DIGITS]


def key_path() -> Path:
    """Returns where the key is kept: $ARRA_MED_KEY_FILE, else ~/.config/arra-med/pseudonym.key."""
    named = os.environ.get(KEY_FILE_VARIABLE)
    return Path(named) if named else Path.home() / ".config" / "arra-med" / "pseudonym.key"


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
        raise ConfigError(
            f"{path}: the pseudonym key cannot be read or made ({error.strerror}); "
            f"set {KEY_FILE_VARIABLE} to another file"
        ) from None
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ConfigError(
            f"{path}: holds no pseudonym key ({2 * _KEY_BYTES} hex digits); move it away to have one made"
        )
    return key


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".pseudonym.")  # mkstemp makes mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(_KEY_BYTES) + "\n")
        # A link, not a rename: of two processes that start together, the first one's key holds for both.
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()
