"""The users file: one line for each user, a name and the scrypt hash of a password. Nothing else is kept of anybody.

    name:scrypt:n:r:p:salt:hash        salt and hash in hex

Source: scrypt, RFC 7914; the costs are those that OWASP's Password Storage Cheat Sheet names.
"""

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from arra_med.errors import ConfigError
from arra_med.runs import atomic_file

MIN_PASSWORD_CHARS = 12

_COSTS = (2**15, 8, 1)
_MAX_MEMORY = 128 * 2**20
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_MAX_FAILURES, _WINDOW_S = 5, 300.0


def add_user(file: Path, name: str, password: str) -> None:
    """Adds a user, or gives one another password. The file has mode 0600.

    Raises:
        ConfigError: If the name or password is not allowed, or the file is damaged.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError("a user's name holds at most 64 letters, digits and . _ @ -: choose another one")
    if len(password) < MIN_PASSWORD_CHARS:
        raise ConfigError(f"the password has fewer than {MIN_PASSWORD_CHARS} characters: choose a longer one")
    users = read_users(file) if file.exists() else {}
    salt = secrets.token_bytes(16)
    users[name] = ":".join(["scrypt", *map(str, _COSTS), salt.hex(), _hash(password, salt, _COSTS).hex()])
    _write(file, users)


def remove_user(file: Path, name: str) -> None:
    """Takes a user out.

    Raises:
        ConfigError: If there is no such user, or the file cannot be read.
    """
    users = read_users(file)
    if users.pop(name, None) is None:
        raise ConfigError(f"{file}: has no user of that name; the names are those it was written with")
    _write(file, users)


def read_users(file: Path) -> dict[str, str]:
    """Returns the stored line of each user by name.

    Raises:
        ConfigError: If the file is missing or a line is damaged.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(
            f"{file}: is no readable users file; make one with arra-med users add NAME --file {file}"
        ) from None
    users = {}
    for number, line in enumerate(lines, start=1):
        name, _, stored = line.partition(":")
        if line.strip() and not (_NAME.fullmatch(name) and _parts(stored)):
            raise ConfigError(f"{file}: line {number} is damaged; add that user again with arra-med users add")
        if line.strip():
            users[name] = stored
    return users


class Door:
    """Checks passwords, and lets nobody guess: after five failures a name has to wait.

    Args:
        file: The users file, read anew at every log-in so that a removed user is out.
        clock: Seconds.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        read_users(file)
        self._file, self._clock = file, clock
        self._failures: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str, password: str) -> bool:
        """Whether the password is the user's; a wrong name takes as long as a wrong password."""
        now = self._clock()
        with self._lock:
            failures = self._failures.setdefault(name[:64], deque(maxlen=_MAX_FAILURES))
            if len(failures) == _MAX_FAILURES and now - failures[0] < _WINDOW_S:
                return False
        try:
            stored = read_users(self._file).get(name, "")
        except ConfigError:
            return False
        costs, salt, expected = _parts(stored) or (_COSTS, b"\0" * 16, b"")
        is_right = hmac.compare_digest(_hash(password, salt, costs), expected)
        with self._lock:
            if is_right:
                self._failures.pop(name[:64], None)
            else:
                failures.append(now)
                if len(self._failures) > 10_000:
                    self._failures.clear()
        return is_right


def _parts(stored: str) -> tuple[tuple[int, int, int], bytes, bytes] | None:
    kind, *rest = stored.split(":")
    if kind != "scrypt" or len(rest) != 5:
        return None
    try:
        n, r, p = (int(value) for value in rest[:3])
        return (n, r, p), bytes.fromhex(rest[3]), bytes.fromhex(rest[4])
    except ValueError:
        return None


def _hash(password: str, salt: bytes, costs: tuple[int, int, int]) -> bytes:
    n, r, p = costs
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=32)


def _write(file: Path, users: dict[str, str]) -> None:
    with atomic_file(file, 0o600) as partial:
        partial.write_text("".join(f"{name}:{stored}\n" for name, stored in users.items()), encoding="utf-8")
