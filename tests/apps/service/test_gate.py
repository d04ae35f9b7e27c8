"""The gate before a running app: files, health, metrics, log, log-in, a proxy's path and a clean end."""

import json
import logging
import os
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from arra_med_apps.app import Served, serve
from arra_med_apps.choices import ModelChoice
from arra_med_apps.service.settings import ServiceSettings
from arra_med_apps.service.users import add_user
from gradio_client import Client

from arra_med.config import load_config
from arra_med.errors import ConfigError
from tests.self_signed import write_self_signed

SECRET, PASSWORD = "Zzyzx", "a long password"
REPORT = f"PA view. Pleural effusion in Mr {SECRET}."


@pytest.fixture(autouse=True)
def _keep_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def served(choices: list[ModelChoice]) -> Iterator[Served]:
    running = serve(choices, "127.0.0.1", 0, open_browser=False)
    yield running
    running.close()


def drawn_files(client: Client) -> tuple[list[str], dict[str, Any]]:
    return client.predict(REPORT, "cxr", 3, 2, api_name="/draw")


def test_a_program_gets_files_and_their_record(served: Served, tmp_path: Path):
    files, record = drawn_files(Client(served.page.local_url, download_files=str(tmp_path), verbose=False))
    assert sorted(Path(file).suffix for file in files) == [".json", ".json", ".png", ".png"]
    assert record["seed"] == 3
    assert record["synthetic"] is True
    assert SECRET not in json.dumps(record)
    with pytest.raises(Exception, match="modality must be one of cxr, fundus"):
        Client(served.page.local_url, verbose=False).predict(REPORT, "hand", 0, 1, api_name="/draw")


def test_a_file_goes_to_its_own_session_alone(served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    url = served.page.local_url.rstrip("/")
    with (
        caplog.at_level(logging.INFO, logger="arra_med_apps.requests"),
        httpx.Client() as mine,
        httpx.Client() as others,
    ):
        mine.get(url + "/")
        others.get(url + "/")
        sent = mine.post(url + "/gradio_api/upload", files={"files": ("x.txt", f"report {SECRET}".encode())})
        (path,) = sent.json()
        address = f"{url}/gradio_api/file={path}"
        assert SECRET in mine.get(address).text
        for stranger in (others, httpx.Client()):
            for way in (
                address,
                f"{url}/file={path}",
                f"{url}/gradio_api/file/{path}",
                address.replace("/tmp", "/tmp/../tmp"),
            ):
                refused = stranger.get(way)
                assert refused.status_code in (403, 404), way
                assert SECRET not in refused.text
    told = [json.loads(record.message) for record in caplog.records if record.name == "arra_med_apps.requests"]
    assert {"event", "kind", "session", "status", "ms"} == set(told[0])
    assert not any(word in caplog.text for word in (SECRET, "x.txt", path))


def test_nobody_comes_to_a_file_by_writing_its_path_or_by_giving_it_to_an_event(served: Served):
    url = served.page.local_url.rstrip("/")
    with httpx.Client() as mine, httpx.Client() as other:
        mine.get(url + "/")
        other.get(url + "/")
        (path,) = mine.post(url + "/gradio_api/upload", files={"files": ("x.txt", SECRET.encode())}).json()
        said = f'{{"path": "{path}"}}'
        config = other.get(url + "/config").json()
        events = {event["api_name"]: event for event in config["dependencies"]}
        switch = next(
            event for event in config["dependencies"] if len(event["inputs"]) == 2 and event["targets"][0][1] == "input"
        )
        asked = {"fn_index": switch["id"], "data": ["fundus", said], "session_hash": "other", "event_data": None}
        echoed = other.post(url + "/gradio_api/run/predict", json=asked)
        assert path in echoed.json()["data"][0]["value"]  # the text comes back
        assert other.get(f"{url}/gradio_api/file={path}").status_code == 403
        for body in (
            {"fn_index": events["draw"]["id"], "data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]},
            {"data": [[{"path": path}]], "fn_index": switch["id"], "session_hash": "other"},
        ):
            for way in ("/gradio_api/run/predict", "/gradio_api/queue/join", "/gradio_api/call/draw"):
                assert other.post(url + way, json=body).status_code == 403
        assert mine.get(f"{url}/gradio_api/file={path}").text == SECRET
        huge = other.post(url + "/gradio_api/run/predict", json={"data": ["x" * (17 << 20)]})
        assert huge.status_code == 413


def test_an_upload_beyond_the_limit_is_refused_and_kept_nowhere(served: Served):
    url = served.page.local_url.rstrip("/")
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    before = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with httpx.Client(timeout=60) as mine:
        mine.get(url + "/")
        refused = mine.post(url + "/gradio_api/upload", files={"files": ("x.dcm", bytes(65 << 20))})
        assert refused.status_code == 413
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) == before


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "http://127.0.0.1:9/x",
        "C:\\windows",
        "/proc/self/environ",
        "",
    ],
)
def test_no_trick_with_a_path_gets_a_file(served: Served, path: str):
    for way in ("/gradio_api/file=", "/file=", "/gradio_api/file/"):
        answer = httpx.get(served.page.local_url.rstrip("/") + way + path)
        assert answer.status_code in (400, 403, 404, 405), (way, path)
        assert "root:" not in answer.text


def test_health_and_metrics_say_how_it_is_doing(served: Served):
    url = served.page.local_url.rstrip("/")
    assert httpx.get(url + "/healthz").status_code == 200
    drawn_files(Client(served.page.local_url, verbose=False))
    text = httpx.get(url + "/metrics").text
    assert 'arra_med_requests_total{kind="healthz",status="200"} 1.0' in text
    assert SECRET not in text
    served.shelf.closing.set()
    assert httpx.get(url + "/healthz").status_code == 503


def test_beyond_the_log_in_there_is_nothing(choices: list[ModelChoice], tmp_path: Path):
    add_user(tmp_path / "users.txt", "reader1", PASSWORD)
    service = ServiceSettings(users_file=tmp_path / "users.txt")
    running = serve(choices, "127.0.0.1", 0, open_browser=False, service=service)
    try:
        url = running.page.local_url.rstrip("/")
        assert "tiny-cxr" not in httpx.get(url + "/").text
        assert httpx.get(url + "/config").status_code == 401
        with httpx.Client() as browser:
            assert browser.post(url + "/login", data={"username": "reader1", "password": "wrong"}).status_code == 400
            assert browser.post(url + "/login", data={"username": "reader1", "password": PASSWORD}).status_code == 200
            assert "tiny-cxr" in browser.get(url + "/config").text
        files, _ = drawn_files(Client(url, auth=("reader1", PASSWORD), download_files=str(tmp_path), verbose=False))
        assert len(files) == 4
        with pytest.raises(Exception, match="(?i)credential|log|401|authentic"):
            Client(url, auth=("reader1", "wrong"), verbose=False)
    finally:
        running.close()


def test_https_is_served_with_the_certificate(choices: list[ModelChoice], tmp_path: Path):
    certificate, key = write_self_signed(tmp_path)
    running = serve(
        choices, "127.0.0.1", 0, False, service=ServiceSettings(certificate=certificate, certificate_key=key)
    )
    try:
        assert running.page.local_url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(certificate))
        answer = httpx.get(running.page.local_url, verify=trusting)
        assert answer.status_code == 200
        assert "Secure" in answer.headers["set-cookie"]
        with pytest.raises(httpx.ConnectError):
            httpx.get(running.page.local_url)
    finally:
        running.close()
    with pytest.raises(ConfigError, match="certificate or its key cannot be read"):
        serve(
            choices,
            "127.0.0.1",
            0,
            False,
            service=ServiceSettings(certificate=key, certificate_key=tmp_path / "no.pem"),
        )


def test_a_run_that_is_under_way_ends_when_the_app_closes(choices: list[ModelChoice]):
    running = serve(choices, "127.0.0.1", 0, open_browser=False)
    seen: list[str] = []
    from arra_med_apps.generate_tab.handlers import Handlers

    values = {
        "report": REPORT, "modality": "cxr", "view": "report", "laterality": "report", "age_group": "report",
        "num_images": 1, "seed": 0, "guidance_scale": 3.0, "temperature": 1.0, "top_k": 0,
    }  # fmt: skip

    def run() -> None:
        seen.extend(update[0] for update in Handlers(running.shelf).generate("slow", **values))

    thread = threading.Thread(target=run)
    thread.start()
    while not len(running.shelf.generating):
        time.sleep(0.05)
    running.close()
    thread.join(20)
    assert not thread.is_alive()
    assert "The app is being closed" in seen[-1]
    assert not running.folder.exists()


def test_settings_are_strict(tmp_path: Path):
    (tmp_path / "service.yaml").write_text("runs_per_minute: 5\nroot_path: /arra\n")
    assert load_config(tmp_path / "service.yaml", ServiceSettings).root_path == "/arra"
    for wrong in (
        "certificate: a.pem\n",
        "root_path: arra\n",
        "root_path: /a b\n",
        "runs_per_minute: 0\n",
        "user_file: x\n",
    ):
        (tmp_path / "service.yaml").write_text(wrong)
        with pytest.raises(ConfigError):
            load_config(tmp_path / "service.yaml", ServiceSettings)


def test_urls_are_quoted_as_browsers_do(served: Served):
    url = served.page.local_url.rstrip("/")
    with httpx.Client() as mine:
        mine.get(url + "/")
        (path,) = mine.post(url + "/gradio_api/upload", files={"files": ("a b.txt", b"text")}).json()
        assert mine.get(f"{url}/gradio_api/file={urllib.parse.quote(path)}").text == "text"
