"""What every request passes: a session's cookie, whose file it asks for, health, metrics, and one line of a log.

Gradio serves its cache to every user. Here a file goes to the session alone whose events or uploads gave rise to it:
the files that answers to a session name are its own, and every other one is refused, also as the input of an event. A file is
named by the key `path` of Gradio's file data; a path within a text, which a user may have written, names none.
"""

import hashlib
import json
import logging
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from arra_med_apps.service.metrics import Metrics

COOKIE = "arra_med_session"
_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_FILE = re.compile(r"/(?:gradio_api/)?file[=/](.*)", re.DOTALL)
_TALKS = ("application/json", "text/event-stream")
_MAX_SESSIONS, _MAX_FILES = 5000, 5000
_MAX_BODY_BYTES = 16 << 20
_CARRY = 4096  # a path may be cut in two between chunks
_KINDS = ("queue", "upload", "file", "login", "config", "healthz", "metrics", "assets", "static", "theme.css")
_LOG = logging.getLogger("arra_med_apps.requests")


class Gate:
    """ASGI middleware.

    Args:
        app: What is behind it.
        folder: Gradio's cache; only what lies in it is anybody's file.
        metrics: Counts.
        is_ready: Whether a model can be opened.
        is_secure: Whether the cookie goes over HTTPS alone.
        metrics_for: Whether a client's address may read the metrics.
    """

    def __init__(
        self,
        app: Callable[[_Scope, _Receive, _Send], Awaitable[None]],
        folder: Path,
        metrics: Metrics,
        is_ready: Callable[[], bool],
        is_secure: bool,
        metrics_for: Callable[[str], bool],
    ) -> None:
        self._app, self._folder, self._metrics = app, folder.resolve(), metrics
        self._is_ready, self._is_secure, self._metrics_for = is_ready, is_secure, metrics_for
        self._owned: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        self._lock = threading.Lock()
        string = rb'"(' + re.escape(json.dumps(str(folder))[1:-1]).encode() + rb'(?:[^"\\]|\\.)*)"'
        self._named = re.compile(rb'(?<!\\)"path"(?:\s*:\s*|\s*\],\s*)' + string)  # data, or an edit of it in a stream
        self._uploaded = re.compile(string)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answers, or passes the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), [0]
        session, is_new = self._session_of(scope)

        async def answer(message: _Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                if is_new:
                    secure = "; Secure" if self._is_secure else ""
                    cookie = f"{COOKIE}={session}; HttpOnly; SameSite=Lax; Path=/{secure}".encode()
                    message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie)]}
            await send(message)

        path = self._inner_path(scope)
        try:
            if path in ("/healthz", "/metrics"):
                await self._own_page(path, scope, answer)
            elif (found := _FILE.fullmatch(path)) and not self._is_own(session, unquote(found[1])):
                self._metrics.refused_files.inc()
                await _respond(answer, 403, b"this file is not of your session")
            elif scope["method"] == "POST" and _header(scope["headers"], b"content-type").startswith(
                "application/json"
            ):
                body = await _body(receive)
                if body is None:
                    await _respond(answer, 413, b"this request is too large")
                elif any(not self._is_own(session, named) for named in _strings(self._named, body)):
                    self._metrics.refused_files.inc()
                    await _respond(answer, 403, b"this file is not of your session")
                else:
                    await self._app(scope, _again(body, receive), self._listening(session, answer, self._named))
            else:
                named = self._uploaded if path.endswith("/upload") else self._named
                await self._app(scope, receive, self._listening(session, answer, named))
        finally:
            self._tell(path, session, status[0], time.monotonic() - began)

    def _session_of(self, scope: _Scope) -> tuple[str, bool]:
        header = b"; ".join(value for name, value in scope["headers"] if name == b"cookie").decode("latin-1")
        try:
            found = SimpleCookie(header).get(COOKIE)
        except Exception:  # noqa: BLE001 - a cookie of any shape may come
            found = None
        if found is not None and re.fullmatch(r"[0-9a-f]{32}", found.value):
            return found.value, False
        return secrets.token_hex(16), True

    def _inner_path(self, scope: _Scope) -> str:
        path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
        return path[len(root) :] if root and path.startswith(root + "/") else path

    def _is_own(self, session: str, path: str) -> bool:
        with self._lock:
            return path in self._owned.get(session, ())

    def _own(self, session: str, paths: list[str]) -> None:
        with self._lock:
            mine = self._owned.setdefault(session, OrderedDict())
            self._owned.move_to_end(session)
            mine.update(dict.fromkeys(paths))
            while len(mine) > _MAX_FILES:
                mine.popitem(last=False)
            while len(self._owned) > _MAX_SESSIONS:
                self._owned.popitem(last=False)

    def _listening(self, session: str, send: _Send, named: re.Pattern[bytes]) -> _Send:
        """Passes an answer on and notes which files it names."""
        talks, carry = [False], [b""]

        async def noted(message: _Message) -> None:
            if message["type"] == "http.response.start":
                talks[0] = _header(message.get("headers", []), b"content-type").startswith(_TALKS)
            elif talks[0] and message["type"] == "http.response.body":
                body = carry[0] + message.get("body", b"")
                if paths := _strings(named, body):
                    self._own(session, paths)
                carry[0] = body[-_CARRY:]
            await send(message)

        return noted

    async def _own_page(self, path: str, scope: _Scope, send: _Send) -> None:
        if path == "/healthz":
            ready = self._is_ready()
            await _respond(send, 200 if ready else 503, b"ready" if ready else b"not ready")
        elif self._metrics_for((scope.get("client") or ("",))[0]):
            await _respond(send, 200, self._metrics.text(), b"text/plain; version=0.0.4")
        else:
            await _respond(send, 403, b"metrics are for this computer alone")

    def _tell(self, path: str, session: str, status: int, seconds: float) -> None:
        kind = next((name for name in _KINDS if name in path[:40]), "page" if path == "/" else "other")
        self._metrics.requests.labels(kind, str(status)).inc()
        if kind != "queue":  # its streams last as long as a page is open
            self._metrics.seconds.observe(seconds)
        told = {
            "event": "request",
            "kind": kind,
            "session": hashlib.sha256(session.encode()).hexdigest()[:12],
            "status": status,
            "ms": round(1000 * seconds),
        }
        _LOG.info(json.dumps(told))


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), "")


def _strings(named: re.Pattern[bytes], body: bytes) -> list[str]:
    return [json.loads(b'"' + found[1] + b'"') for found in named.finditer(body)]


async def _body(receive: _Receive) -> bytes | None:
    """The whole body of a request; None where it is too large."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        if size > _MAX_BODY_BYTES:
            return None
    return b"".join(parts)


def _again(body: bytes, receive: _Receive) -> _Receive:
    """Gives a body that has been read once more, then what comes after it."""
    given = [False]

    async def again() -> _Message:
        if given[0]:
            return await receive()
        given[0] = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _respond(send: _Send, status: int, body: bytes, kind: bytes = b"text/plain; charset=utf-8") -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
