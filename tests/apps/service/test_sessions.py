"""What Gradio keeps of a session is freed when nobody uses it."""

import datetime

import pytest
from arra_med_apps.app import serve
from arra_med_apps.choices import ModelChoice
from arra_med_apps.service.sessions import PAGE_KEPT_S, PROGRAM_KEPT_S
from gradio_client import Client

REPORT = "PA view. Pleural effusion."


def test_sessions_of_programs_go_soon_and_those_of_pages_after_an_hour(
    choices: list[ModelChoice], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    running = serve(choices, "127.0.0.1", 0, open_browser=False)
    try:
        url = running.page.local_url.rstrip("/")
        for _ in range(2):
            Client(url, verbose=False).predict(REPORT, "cxr", 3, 1, api_name="/draw")
        holder, now = running.page.app.state_holder, datetime.datetime.now()
        holder["a-page"]  # a browser that is open
        assert len(holder.session_data) == 3
        assert running.shelf.sessions.sweep(holder, now) == 0
        soon = now + datetime.timedelta(seconds=PROGRAM_KEPT_S + 5)
        assert running.shelf.sessions.sweep(holder, soon) == 2
        assert list(holder.session_data) == ["a-page"]
        assert running.shelf.sessions.sweep(holder, now + datetime.timedelta(seconds=PAGE_KEPT_S + 5)) == 1
        assert not holder.session_data
        assert not holder.time_last_used
    finally:
        running.close()
