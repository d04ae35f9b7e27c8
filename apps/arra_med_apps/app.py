"""The page: components wired to handlers, and the server that shows it.

It works offline: no analytics, no font or script from another host. Nothing the user types is kept: no run history in
the browser, no flagging, no log; pictures live in a private folder that is emptied hourly and removed at the end.
"""

import ipaddress
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from arra_med.errors import BundleError, ConfigError
from arra_med_apps import theme, words
from arra_med_apps.choices import ModelChoice, Shelf, bundle_choice, bundled_choices
from arra_med_apps.handlers import Handlers
from arra_med_apps.layout import Layout

_CACHE_SWEEP_S = 600
_CACHE_AGE_S = 3600
_MAX_WAITING = 16
_HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_AT_ONCE: dict[str, Any] = {**_HIDDEN, "queue": False}

SERVER: dict[str, Any] = {
    "quiet": True,
    "share": False,
    "footer_links": [],
    "run_history": False,  # Gradio would keep every report in the browser
    "allowed_paths": [],
    "max_file_size": "1mb",
    "enable_monitoring": False,
    "mcp_server": False,
    "ssr_mode": False,
    "pwa": False,
    "css_paths": theme.CSS_FILE,
    "head": theme.HEAD,
}
"""Settings of `gr.Blocks.launch` that every start of the page shares; the theme is added at the start."""


def build_app(choices: Sequence[ModelChoice]) -> gr.Blocks:
    """Builds the page.

    Args:
        choices: The models it offers, the preferred one of each modality first.

    Raises:
        BundleError: If there is none.
    """
    shelf = Shelf(choices)
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, delete_cache=(_CACHE_SWEEP_S, _CACHE_AGE_S)) as app:
        _wire(app, Layout(shelf), Handlers(shelf))
    app.queue(max_size=_MAX_WAITING, api_open=False)
    return app


def serve(choices: Sequence[ModelChoice], host: str, port: int, open_browser: bool) -> tuple[gr.Blocks, Path]:
    """Starts the server in a thread of its own.

    Returns:
        The running page (`local_url`, `close()`), and its private folder, to be removed after it is closed.

    Raises:
        BundleError: If a credentialed model would be shown beyond this computer.
        ConfigError: If the port is taken.
    """
    if not _is_loopback(host) and any(choice.licence_class == "credentialed" for choice in choices):
        raise BundleError(
            f"a model trained on credentialed data is served to this computer alone, but the host is {host}: "
            "use 127.0.0.1"
        )
    folder = Path(tempfile.mkdtemp(prefix="arra-med-app-"))  # mode 0700: other users of the machine cannot look in
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    _bypass_proxy(host)
    try:
        app = build_app(choices)
        app.launch(
            server_name=host,
            server_port=port or None,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            theme=theme.theme(),
            **SERVER,
        )
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise ConfigError(
            f"port {port} of {host} is taken or may not be used: choose another one with --port, or stop what uses it"
        ) from None
    return app, folder


def launch(bundle: Path | None, host: str = "127.0.0.1", port: int = 7860, open_browser: bool = True) -> None:
    """Shows the page until Ctrl-C.

    Args:
        bundle: A bundle folder; the models that ship with the package if not given.
        host: Address to listen on; 127.0.0.1 is this computer alone.
        port: TCP port; 0 takes any free one from 7860 on.
        open_browser: Whether to open the page in the user's browser.

    Raises:
        BundleError: If no bundle can be read, or it may not be served on `host`.
        ConfigError: If the port is taken.
    """
    choices = bundled_choices() if bundle is None else [bundle_choice(bundle)]
    app, folder = serve(choices, host, port, open_browser)
    print(f"{words.TITLE} is at {app.local_url} (Ctrl-C stops it). {words.BANNER}", flush=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped service cleans up like Ctrl-C
    try:
        app.block_thread()
    finally:
        signal.signal(signal.SIGTERM, before)
        app.close(verbose=False)
        shutil.rmtree(folder, ignore_errors=True)


def _wire(app: gr.Blocks, page: Layout, handlers: Handlers) -> None:
    gr.on(
        [c.change for c in (page.report, page.modality, page.view, page.laterality, page.age_group, page.model)],
        handlers.preview,
        inputs_kwargs=page.inputs,
        outputs=page.prompt,
        trigger_mode="always_last",
        **_AT_ONCE,
    )
    page.modality.input(
        handlers.switch_modality,
        [page.modality, page.report],
        [page.report, page.view, page.laterality, page.model, *page.example_rows.values()],
        **_AT_ONCE,
    )
    gr.on([app.load, page.model.change], handlers.about, [page.model, page.modality], page.about, **_AT_ONCE)
    for button, example in page.examples:
        button.click(
            lambda text=example.report: (text, words.AS_REPORTED, words.AS_REPORTED, words.AS_REPORTED),
            None,
            [page.report, page.view, page.laterality, page.age_group],
            **_AT_ONCE,
        )
    page.dice.click(handlers.roll, None, page.seed, **_AT_ONCE)
    page.scaling.change(None, page.scaling, None, js=theme.SCALING_JS)

    following = page.more.click(handlers.next_seed, [page.seed, page.num_images], page.seed, **_AT_ONCE)
    runs = []
    for pressed in (page.generate.click, following.then):
        started = pressed(
            handlers.start,
            page.num_images,
            [page.notice, page.live, page.finished, page.generate, page.stop],
            **_AT_ONCE,
        )
        run = started.then(
            handlers.generate,
            inputs_kwargs=page.inputs,
            outputs=[page.notice, page.live, page.finished, page.gallery, page.archive, page.files, page.settings],
            concurrency_limit=1,
            concurrency_id="generation",
            **_HIDDEN,
        )
        run.then(handlers.finish, None, [page.generate, page.stop], **_AT_ONCE).then(
            handlers.preview, inputs_kwargs=page.inputs, outputs=page.prompt, **_AT_ONCE
        )  # once the model is open, the prompt has its cautions
        runs.append(run)
    page.stop.click(handlers.stop, None, [page.notice, page.generate, page.stop], cancels=runs, **_AT_ONCE)


def _bypass_proxy(host: str) -> None:
    # Gradio greets its own server once at the start; a hospital's web proxy would swallow the greeting.
    for name in ("NO_PROXY", "no_proxy"):
        known = [part for part in os.environ.get(name, "").split(",") if part]
        own = [part for part in ("127.0.0.1", "localhost", "::1", host) if part not in known]
        os.environ[name] = ",".join(known + own)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
