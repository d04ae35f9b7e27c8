import contextlib
import dataclasses
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from arra_med_apps import app as app_module
from arra_med_apps import theme, words
from arra_med_apps.app import SERVER, build_app, serve
from arra_med_apps.choices import ModelChoice, bundled_choices

from arra_med.errors import BundleError, ConfigError


@pytest.fixture(autouse=True)
def _keep_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_the_page_starts_behind_a_proxy_talks_to_itself_alone_and_keeps_its_files_private(
    choices: list[ModelChoice], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    asked = []
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: asked.append(host) or look_up(host, *a, **k))
    page, folder = serve(choices, "127.0.0.1", 0, open_browser=False)
    try:
        assert page.local_url.startswith("http://127.0.0.1:")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert page.GRADIO_CACHE == str(folder)
        assert {str(host) for host in asked} <= {"127.0.0.1", "b'127.0.0.1'", "localhost"}
    finally:
        page.close(verbose=False)
        shutil.rmtree(folder)


def test_a_taken_port_is_told_in_a_sentence(choices: list[ModelChoice]):
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is taken"):
            serve(choices, "127.0.0.1", port, open_browser=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "example.org"])
def test_a_credentialed_model_is_not_shown_beyond_this_computer(choices: list[ModelChoice], host: str):
    credentialed = [dataclasses.replace(choices[0], licence_class="credentialed")]
    with pytest.raises(BundleError, match="served to this computer alone"):
        serve(credentialed, host, 0, open_browser=False)


def test_nothing_of_a_run_is_kept_or_shared():
    assert SERVER["share"] is False
    assert SERVER["run_history"] is False
    assert SERVER["allowed_paths"] == []
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_the_page_names_no_other_host(choices: list[ModelChoice]):
    look = theme.theme()
    assert not look._stylesheets
    styles = theme.CSS_FILE.read_text() + theme.HEAD + look._get_theme_css()
    assert "//" not in styles.replace("http://www.w3.org/2000/svg", "").replace("// Ctrl", "")


def test_one_image_is_made_at_a_time_and_no_event_is_an_open_endpoint(choices: list[ModelChoice]):
    events = build_app(choices).fns.values()
    generating = [event for event in events if event.concurrency_id == "generation"]
    assert len(generating) == 2  # Generate, and Next seeds
    assert all(event.concurrency_limit == 1 for event in generating)
    assert all(event.api_visibility == "private" for event in events if event.fn is not None)


def test_an_installation_without_models_says_how_to_give_one(monkeypatch: pytest.MonkeyPatch):
    def none_ships(modality: str, variant: str) -> None:
        raise BundleError("no bundled model")

    monkeypatch.setattr("arra_med_apps.choices.bundled", none_ships)
    with pytest.raises(BundleError, match="give a bundle folder with --bundle"):
        bundled_choices()


def test_launch_says_where_the_page_is_and_leaves_no_folder(
    choices: list[ModelChoice], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folders = []
    start = serve

    def watched(*arguments: object) -> tuple[object, Path]:
        page, folder = start(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(page, "block_thread", lambda: None)
        folders.append(folder)
        return page, folder

    monkeypatch.setattr(app_module, "serve", watched)
    app_module.launch(Path(choices[0].name), port=0, open_browser=False)
    printed = capsys.readouterr().out
    assert "http://127.0.0.1:" in printed
    assert words.BANNER in printed
    assert not folders[0].exists()
