"""The page: components wired to handlers, and the server that shows it.

It works offline: no analytics, no font or script from another host. Nothing the user types is kept: no run history in
the browser, no flagging, no log; pictures live in a private folder that is emptied hourly and removed at the end.
"""

import errno
import ipaddress
import os
import shutil
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from arra_med.errors import ConfigError
from arra_med.models.licence import check_acknowledged
from arra_med_apps import theme, words
from arra_med_apps.about_tab.tab import add_about_tab
from arra_med_apps.about_tab.words import ABOUT_TAB
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.compare_tab import tab as compare_tab
from arra_med_apps.compare_tab import words as compare_words
from arra_med_apps.data_tab.tab import CSS_FILE as DATA_CSS
from arra_med_apps.data_tab.tab import add_data_tab
from arra_med_apps.data_tab.words import DATA_TAB
from arra_med_apps.explore_tab.tab import CSS_FILE as EXPLORE_CSS
from arra_med_apps.explore_tab.tab import add_explore_tab
from arra_med_apps.explore_tab.words import TAB as EXPLORE_TAB
from arra_med_apps.generate_tab.tab import add_generate_tab
from arra_med_apps.reader_tab import tab as reader_tab
from arra_med_apps.reader_tab import words as reader_words
from arra_med_apps.service.api import add_api
from arra_med_apps.service.gate import Gate
from arra_med_apps.service.settings import ServiceSettings
from arra_med_apps.service.users import Door
from arra_med_apps.settings import NO_EXTRAS, AppSettings
from arra_med_apps.training_images import TrainingImages

if TYPE_CHECKING:
    from arra_med.generate.serving import Workers

_CACHE_SWEEP_S = 600
_CACHE_AGE_S = 3600
_MAX_EVENTS, _MAX_THREADS, _CLOSING_S = 256, 100, 10.0
_LAST_WORDS_S = 2.0  # until the pages have been told
_ALONE = ServiceSettings()

SERVER: dict[str, Any] = {
    "quiet": True,
    "share": False,
    "footer_links": [],
    "run_history": False,  # Gradio would keep every report in the browser
    "allowed_paths": [],
    "max_file_size": "64mb",
    "enable_monitoring": False,
    "mcp_server": False,
    "ssr_mode": False,
    "pwa": False,
    "css_paths": [theme.CSS_FILE, EXPLORE_CSS, compare_tab.CSS_FILE, reader_tab.CSS_FILE, DATA_CSS],
    "head": theme.HEAD + compare_tab.HEAD,
}
"""Settings of `gr.Blocks.launch` that every start of the page shares; the theme is added at the start."""


class Served(NamedTuple):
    """A running app.

    Attributes:
        page: Its `local_url`, and `close()`.
        folder: Its private folder, to be removed after it is closed.
        shelf: Its models.
    """

    page: gr.Blocks
    folder: Path
    shelf: Shelf

    def close(self) -> None:
        """Ends the runs at their next row, closes the server, removes the folder."""
        self.shelf.closing.set()
        had_runs, until = len(self.shelf.generating) > 0, time.monotonic() + _CLOSING_S
        while len(self.shelf.generating) and time.monotonic() < until:
            time.sleep(0.05)
        if had_runs:
            time.sleep(_LAST_WORDS_S)
        self.page.close(verbose=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def build_app(shelf: Shelf, settings: AppSettings = NO_EXTRAS) -> gr.Blocks:
    """Builds the page.

    Args:
        shelf: The models it offers.
        settings: What else it shows from.
    """
    training = TrainingImages(settings, shelf)
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, delete_cache=(_CACHE_SWEEP_S, _CACHE_AGE_S)) as app:
        gr.HTML(words.HEADER)
        with gr.Tabs(elem_id="am-tabs"):
            with gr.Tab(words.GENERATE_TAB, id="generate"):
                history = add_generate_tab(app, shelf)
            with gr.Tab(EXPLORE_TAB, id="explore"):
                add_explore_tab(shelf)
            with gr.Tab(compare_words.TAB, id="compare"):
                compare_tab.add_compare_tab(app, shelf, settings, training)
            with gr.Tab(reader_words.TAB, id="reader-study"):
                reader_tab.add_reader_tab(app, shelf, history)
            with gr.Tab(DATA_TAB, id="data"):
                add_data_tab(shelf, training)
            with gr.Tab(ABOUT_TAB, id="about"):
                add_about_tab(shelf)
        add_api(shelf)
    app.queue(max_size=_MAX_EVENTS, api_open=False)
    return app


def serve(
    choices: Sequence[ModelChoice],
    host: str,
    port: int,
    open_browser: bool,
    settings: AppSettings = NO_EXTRAS,
    service: ServiceSettings = _ALONE,
    workers: "Workers | None" = None,
) -> Served:
    """Starts the server in a thread of its own.

    Raises:
        BundleError: If there is no model, or a credentialed model would be shown beyond this computer unacknowledged.
        ConfigError: If the port is taken, a folder is not there, or the app would be open to others without a log-in or show them patients' images.
    """
    shelf = Shelf(choices, service, workers)
    settings.require_folders()
    _check_openness(choices, host, settings, service)
    _check_certificate(service)
    door = Door(service.users_file) if service.users_file else None
    folder = Path(
        tempfile.mkdtemp(prefix="arra-med-app-")
    ).resolve()  # mode 0700: other users of the machine cannot look in
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    _bypass_proxy(host)
    gate = Middleware(
        Gate, folder=folder, metrics=shelf.metrics, is_ready=shelf.is_ready, is_secure=service.certificate is not None,
        metrics_for=is_loopback,
    )  # fmt: skip
    try:
        page = build_app(shelf, settings)
        page.launch(
            server_name=host,
            server_port=port or None,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            theme=theme.theme(),
            max_threads=_MAX_THREADS,
            auth=door,
            ssl_certfile=service.certificate and str(service.certificate),
            ssl_keyfile=service.certificate_key and str(service.certificate_key),
            ssl_verify=False,  # of Gradio's greeting to itself
            root_path=service.root_path or None,
            app_kwargs={"middleware": [gate], "exception_handlers": {OSError: _upload_failed}},
            **SERVER,
        )
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise ConfigError(
            f"port {port} of {host} is taken or may not be used: choose another one with --port, or stop what uses it"
        ) from None
    shelf.sessions.sweep_until(shelf.closing, page.app.state_holder)
    return Served(page, folder, shelf)


def launch(
    choices: Sequence[ModelChoice],
    host: str = "127.0.0.1",
    port: int = 7860,
    open_browser: bool = True,
    settings: AppSettings = NO_EXTRAS,
    service: ServiceSettings = _ALONE,
    workers: "Workers | None" = None,
) -> None:
    """Shows the page until Ctrl-C or SIGTERM, which end runs at their next row.

    Args:
        choices: The models it offers, the preferred one of each modality first.
        host: Address to listen on; 127.0.0.1 is this computer alone.
        port: TCP port; 0 takes any free one from 7860 on.
        open_browser: Whether to open the page in the user's browser.
        settings: What else it shows from.
        service: How it is served.
        workers: Who draws the images, where not this process does.

    Raises:
        BundleError: As `serve`.
        ConfigError: As `serve`.
    """
    served = serve(choices, host, port, open_browser, settings, service, workers)
    print(f"{words.TITLE} is at {served.page.local_url} (Ctrl-C stops it). {words.BANNER}", flush=True)
    if not is_loopback(host) and service.certificate is None and not service.root_path:
        print(words.NO_HTTPS, file=sys.stderr, flush=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped service cleans up like Ctrl-C
    try:
        served.page.block_thread()
    finally:
        signal.signal(signal.SIGTERM, before)
        served.close()


async def _upload_failed(_: Request, error: Exception) -> Response:
    """Tells of a full disk in one sentence, which the page shows; anything else is an error as it was."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PlainTextResponse(words.unwritten(error), status_code=507)
    raise error


def _check_openness(choices: Sequence[ModelChoice], host: str, settings: AppSettings, service: ServiceSettings) -> None:
    if is_loopback(host):
        return
    if service.users_file is None:
        raise ConfigError(
            f"the app would be open to everybody who reaches {host}: give a users file in --service FILE.yaml (arra-med "
            "users add), or use 127.0.0.1"
        )
    if settings.training is not None:
        raise ConfigError(
            f"--training shows patients' images to this computer alone, but the host is {host}: use 127.0.0.1, or leave "
            "--training out"
        )
    for choice in choices:
        check_acknowledged(
            choice.licence_class,
            settings.acknowledged,
            f"use 127.0.0.1, for the host is {host}, or say --acknowledge-credentialed if all its users have signed it",
        )


def _check_certificate(service: ServiceSettings) -> None:
    """Refuses a certificate with which the server would never come up."""
    if service.certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(service.certificate, service.certificate_key)
    except (OSError, ssl.SSLError):
        raise ConfigError(
            "the HTTPS certificate or its key cannot be read: give PEM files with certificate and certificate_key"
        ) from None


def _bypass_proxy(host: str) -> None:
    # Gradio greets its own server once at the start; a hospital's web proxy would swallow the greeting.
    for name in ("NO_PROXY", "no_proxy"):
        known = [part for part in os.environ.get(name, "").split(",") if part]
        own = [part for part in ("127.0.0.1", "localhost", "::1", host) if part not in known]
        os.environ[name] = ",".join(known + own)


def is_loopback(host: str) -> bool:
    """Whether an address is this computer itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
