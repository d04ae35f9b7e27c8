"""The app below a path of a reverse proxy, used in a real browser."""

import asyncio
import dataclasses
import socket
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from arra_med_apps.app import serve
from arra_med_apps.choices import ModelChoice
from arra_med_apps.service.settings import ServiceSettings
from arra_med_apps.service.users import add_user
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.apps.test_page import PATIENCE_MS, REPORT, browser

__all__ = ["browser"]

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
pytestmark = pytest.mark.browser

PREFIX, USER, PASSWORD = "/arra", "reader1", "a long password"
_HOPS = {"connection", "transfer-encoding", "keep-alive", "host"}


def reverse_proxy(behind: str) -> Starlette:
    """Shows `behind` below the prefix and nothing elsewhere, as nginx does with `location /arra/ { proxy_pass behind/; }`."""
    client = httpx.AsyncClient(base_url=behind, timeout=60, trust_env=False, follow_redirects=False)

    async def forward(request: Request) -> Response:
        raw = request.scope["raw_path"].decode()[len(PREFIX) :]
        headers = [(name, value) for name, value in request.headers.items() if name not in _HOPS]
        headers += [
            ("host", request.headers["host"]),
            ("x-forwarded-host", request.headers["host"]),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-for", "127.0.0.1"),
        ]
        query = request.scope["query_string"].decode()
        asked = client.build_request(
            request.method, raw + (f"?{query}" if query else ""), headers=headers, content=await request.body()
        )
        answer = await client.send(asked, stream=True)

        async def body() -> AsyncIterator[bytes]:
            try:
                async for chunk in answer.aiter_raw():
                    yield chunk
            finally:
                await answer.aclose()

        passed = StreamingResponse(body(), answer.status_code)
        passed.raw_headers = [(k.lower(), v) for k, v in answer.headers.raw if k.decode().lower() not in _HOPS]
        return passed

    async def nothing(request: Request) -> Response:
        return PlainTextResponse("not of this app", 404)

    methods = ["GET", "POST", "HEAD", "DELETE", "PUT"]
    return Starlette(
        routes=[
            Route(PREFIX + "/{path:path}", forward, methods=methods),
            Route("/{path:path}", nothing, methods=methods),
        ]
    )


@pytest.fixture(scope="module")
def outside(choices: list[ModelChoice], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that the proxy shows."""
    users = tmp_path_factory.mktemp("service") / "users.txt"
    add_user(users, USER, PASSWORD)
    offered = [dataclasses.replace(choice) for choice in choices if choice.name != "slow"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GRADIO_TEMP_DIR", "")
        service = ServiceSettings(users_file=users, root_path=PREFIX)
        served = serve(offered, "127.0.0.1", 0, open_browser=False, service=service)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        behind = f"http://127.0.0.1:{served.page.server_port}"
        server = uvicorn.Server(uvicorn.Config(reverse_proxy(behind), port=port, log_level="error"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}{PREFIX}"
        server.should_exit = True
        thread.join(10)
        served.close()


def test_the_whole_way_from_log_in_to_download_works_below_a_path(browser: Any, outside: str, tmp_path: Path):
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    bad: list[tuple[int, str]] = []
    asked: list[str] = []
    page.on("response", lambda answer: bad.append((answer.status, answer.url)) if answer.status >= 400 else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(outside + "/")
    page.get_by_label("username").fill(USER)
    page.get_by_label("password").fill(PASSWORD)
    page.get_by_role("button", name="Login").click()
    page.wait_for_selector("#am-report")
    bad.clear()  # before the log-in the page's parts are refused
    page.fill("#am-report textarea", REPORT)
    page.click("#am-generate")
    pictures = page.locator("#am-gallery .gallery-item img")
    sync_api.expect(pictures).to_have_count(2)
    for picture in pictures.all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    page.wait_for_selector("#am-generate:enabled")
    with page.expect_download() as download:
        page.click("#am-zip")
    with zipfile.ZipFile(download.value.path()) as pack:
        assert len(pack.namelist()) == 5
    context.close()
    assert not [found for found in bad if "favicon" not in found[1]]
    assert not [url for url in asked if not url.startswith((outside, "data:", "blob:"))]


def test_another_s_file_is_refused_below_a_path_too(outside: str):
    entered = []
    for _ in range(2):
        client = httpx.Client(base_url=outside, trust_env=False)
        assert client.post("/login", data={"username": USER, "password": PASSWORD}).status_code == 200
        entered.append(client)
    mine, other = entered
    (path,) = mine.post("/gradio_api/upload", files={"files": ("x.txt", b"text")}).json()
    assert mine.get(f"/gradio_api/file={path}").text == "text"
    assert other.get(f"/gradio_api/file={path}").status_code == 403
    assert mine.get("/healthz").status_code == 200
