"""The command is ended in the middle of a picture: it ends well, and leaves no folder."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from arra_med_apps import words
from gradio_client import Client

from tests.apps.conftest import write_tiny_bundle

REPORT = "PA view. Pleural effusion."
PATIENCE_S = 240


def address_of(app: "subprocess.Popen[str]") -> str:
    """Where the app says that it is."""
    assert app.stdout is not None
    line = app.stdout.readline()
    assert "http://127.0.0.1:" in line, app.communicate(timeout=PATIENCE_S)[1]
    return line.split(" is at ")[1].split(" ")[0]


def free_port() -> int:
    """One that no other app of these tests looks for."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for_a_run(address: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with urllib.request.urlopen(f"{address.rstrip('/')}/metrics", timeout=PATIENCE_S) as answer:
            if "arra_med_in_line 1.0" in answer.read().decode():
                return
        time.sleep(0.05)
    raise AssertionError("no run began")


def test_sigterm_in_the_middle_of_a_picture_ends_it_with_a_sentence_and_leaves_no_folder(tmp_path: Path):
    bundle = write_tiny_bundle(tmp_path / "bundle", "cxr", grid=32, num_layers=12)
    (tmp_path / "private").mkdir()
    app = subprocess.Popen(
        [sys.executable, "-m", "arra_med.cli", "app", "--bundle", str(bundle), "--port", str(free_port()), "--no-open"],
        env={**os.environ, "TMPDIR": str(tmp_path / "private"), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = address_of(app)
        (folder,) = (tmp_path / "private").glob("arra-med-app-*")
        client = Client(address, verbose=False)
        client.predict(REPORT, "cxr", 0, 1, api_name="/draw")  # opens the model; from now on a row takes no time
        job = client.submit(REPORT, "cxr", 0, 8, api_name="/draw")
        wait_for_a_run(address)
        app.send_signal(signal.SIGTERM)
        _, complaints = app.communicate(timeout=PATIENCE_S)
    finally:
        app.kill()
    assert app.returncode == 0, complaints
    assert not folder.exists()
    assert not list((tmp_path / "private").glob("arra-med-*"))
    told = str(job.exception(PATIENCE_S))  # a program that has not opened its stream yet finds nobody there
    assert told == words.CLOSING or "Connection refused" in told
    assert "Traceback" not in complaints
