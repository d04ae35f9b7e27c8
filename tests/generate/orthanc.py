"""A real Orthanc (Debian's package) on this computer, and what it holds."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arra_med.generate.destinations import DicomNode, DicomWebService

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD, PASSWORD_VARIABLE = "researcher", "only for this test", "TEST_ORTHANC_PASSWORD"
PATIENCE_S = 60
PROVENANCE = {
    "modality": "cxr",
    "bundle": {"name": "tiny-cxr", "sha256": "ab" * 32},
    "versions": {"arra-med": "0.1.0"},
    "seed": 7,
    "pixels_sha256": "cd" * 32,
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """A running server: its ports, and what it holds."""

    def __init__(self, http_port: int, dicom_port: int) -> None:
        self.url, self.dicom_port = f"http://127.0.0.1:{http_port}", dicom_port

    def get(self, path: str) -> Any:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, self.url, USER, PASSWORD)
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords))
        with urllib.request.build_opener(*handlers).open(self.url + path, timeout=PATIENCE_S) as answer:
            body = answer.read()
        return json.loads(body) if answer.headers["Content-Type"].startswith("application/json") else body

    def held(self) -> dict[str, str]:
        """Returns Orthanc's name of each instance, by SOPInstanceUID."""
        return {i["MainDicomTags"]["SOPInstanceUID"]: i["ID"] for i in self.get("/instances?expand")}

    def node(self, **changed: Any) -> DicomNode:
        values = {"host": "127.0.0.1", "port": self.dicom_port, "ae_title": "ORTHANC", **changed}
        return DicomNode(kind="dicom", purpose="research", **values)

    def service(self, **changed: Any) -> DicomWebService:
        values = {"username": USER, "password_variable": PASSWORD_VARIABLE, "url": f"{self.url}/dicom-web", **changed}
        return DicomWebService(kind="dicomweb", purpose="research", **values)


@contextlib.contextmanager
def running_orthanc(folder: Path, **more: Any) -> Iterator[Orthanc]:
    """Starts a server with an empty store in a folder, with more of its settings; skips where it is not installed."""
    program = shutil.which("Orthanc")
    if program is None or not DICOMWEB_PLUGIN.exists():
        pytest.skip("Debian's orthanc and orthanc-dicomweb are not installed")
    server = Orthanc(free_port(), free_port())
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "HttpPort": int(server.url.rpartition(":")[2]),
        "DicomPort": server.dicom_port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "Plugins": [str(DICOMWEB_PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **more,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                server.get("/system")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((folder / "log").read_text(errors="replace")[-2000:])
                time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
