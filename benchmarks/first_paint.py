"""How long the page stays white: first contentful paint of the app against that of an empty Gradio page.

    python benchmarks/first_paint.py                  # 15 pairs in Chromium (ARRA_MED_CHROMIUM names another one)

Both servers run all the time; each pair opens both pages, in turns the one or the other first, in a fresh browser context
with an empty cache. "Usable" is when the Generate button can be pressed, and for the empty page when its text stands.
Prints the medians, the median ratio with the 5% to 95% range of pairs, and one JSON object.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

import httpx
from playwright.sync_api import sync_playwright

_EMPTY = """
import gradio as gr
with gr.Blocks(analytics_enabled=False) as page:
    gr.Markdown("empty", elem_id="am-generate")
page.launch(server_port={port}, quiet=True, ssr_mode=False, enable_monitoring=False)
"""
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def free_port() -> int:
    """Returns a port that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def open_once(browser: Any, url: str) -> tuple[float, float]:
    """Returns first contentful paint and the time until the page is usable, in milliseconds."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector("#am-generate")
    usable = 1000 * (time.perf_counter() - began)
    page.wait_for_function(f"({_PAINT}) !== null")
    paint = float(page.evaluate(_PAINT))
    context.close()
    return paint, usable


def main() -> None:
    """Prints the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args()
    ports = {"empty": free_port(), "app": free_port()}
    commands = {
        "empty": ["-c", _EMPTY.format(port=ports["empty"])],
        "app": ["-m", "arra_med.cli", "app", "--no-open", "--port", str(ports["app"])],
    }
    servers = [subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL) for words in commands.values()]
    urls = {name: f"http://127.0.0.1:{port}/" for name, port in ports.items()}
    try:
        for url in urls.values():
            for _ in range(300):
                time.sleep(0.2)
                try:
                    if httpx.get(url, trust_env=False).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
        names = ("chromium", "chromium-browser", "google-chrome")
        path = os.environ.get("ARRA_MED_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
        seen: dict[str, list[tuple[float, float]]] = {"empty": [], "app": []}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, headless=True, args=["--no-sandbox"])
            for url in urls.values():
                open_once(browser, url)  # the first one warms the browser
            for pair in range(options.pairs):
                for name in ("empty", "app") if pair % 2 else ("app", "empty"):
                    seen[name].append(open_once(browser, urls[name]))
            browser.close()
    finally:
        for server in servers:
            server.terminate()
            server.wait(20)
    result: dict[str, Any] = {"pairs": options.pairs}
    for at, what in enumerate(("first_paint", "usable")):
        ratios = sorted(app[at] / empty[at] for app, empty in zip(seen["app"], seen["empty"], strict=True))
        for name in seen:
            result[f"{what}_ms_{name}"] = round(statistics.median(one[at] for one in seen[name]))
        cuts = statistics.quantiles(ratios, n=20)
        result[f"{what}_ratio"] = [round(value, 2) for value in (statistics.median(ratios), cuts[0], cuts[18])]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
