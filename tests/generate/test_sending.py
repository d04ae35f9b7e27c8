"""Sending to a real Orthanc on this computer, by C-STORE and STOW-RS, and everything that is refused."""

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml
from pydicom.uid import SecondaryCaptureImageStorage

from arra_med.cli import main
from arra_med.errors import ConfigError, SendingError
from arra_med.generate.destinations import find_destination
from arra_med.generate.export_dicom import NewSeries, secondary_capture, write_secondary_capture
from arra_med.generate.sending import dicom_files, send_files
from tests.generate.orthanc import PASSWORD, PASSWORD_VARIABLE, PROVENANCE, Orthanc, free_port, running_orthanc

pynetdicom = pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (extra: send)")
pytest.importorskip("dicomweb_client", reason="dicomweb-client is not installed (extra: send)")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A grayscale and a colour image of one series."""
    series, rng = NewSeries.fresh(), np.random.default_rng(0)
    for number, shape in enumerate([(33, 35), (33, 35, 3)], start=1):
        picture = rng.integers(0, 256, shape, dtype=np.uint8)
        write_secondary_capture(tmp_path / f"{number}.dcm", secondary_capture(picture, PROVENANCE, series, number))
    return [tmp_path / "1.dcm", tmp_path / "2.dcm"]


@pytest.mark.parametrize("way", ["node", "service"])
def test_orthanc_holds_what_was_sent_pixel_for_pixel(orthanc: Orthanc, files: list[Path], way: str, tmp_path: Path):
    assert list(send_files(dicom_files([tmp_path]), getattr(orthanc, way)())) == files
    held = orthanc.held()
    for file in files:
        sent = pydicom.dcmread(file)
        (tmp_path / "back.dcm").write_bytes(orthanc.get(f"/instances/{held[sent.SOPInstanceUID]}/file"))
        back = pydicom.dcmread(tmp_path / "back.dcm")
        np.testing.assert_array_equal(back.pixel_array, sent.pixel_array)
        assert back.to_json() == sent.to_json()


def test_a_foreign_file_among_ours_stops_everything_and_is_told_without_its_values(files: list[Path], tmp_path: Path):
    (tmp_path / "notes.txt").write_text("not sent, as it is no .dcm")
    assert dicom_files([tmp_path, files[0]]) == [*files, files[0]]
    data = pydicom.dcmread(files[1])
    data.PatientName = "Doe^Jane"
    data.save_as(tmp_path / "3.dcm")
    with pytest.raises(
        SendingError, match="3.dcm: it is no synthetic image that arra-med made.*nothing was sent"
    ) as told:
        dicom_files([tmp_path])
    assert "Doe" not in str(told.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SendingError, match="there is no .dcm file"):
        dicom_files([tmp_path / "empty"])


def test_a_refused_association_names_the_titles(orthanc: Orthanc, files: list[Path]):
    with pytest.raises(SendingError, match="refused the association.*AE titles"):
        list(send_files(files, orthanc.node(ae_title="ANOTHER")))


def test_nobody_at_the_address_is_one_sentence(files: list[Path]):
    nobody = Orthanc(free_port(), free_port())
    with pytest.raises(SendingError, match="cannot be reached as a DICOM system"):
        list(send_files(files, nobody.node()))
    with pytest.raises(SendingError, match="cannot be reached; check address.*0 of 2 files were stored"):
        list(send_files(files, nobody.service()))


def test_a_web_server_that_is_no_dicom_system_is_one_sentence(orthanc: Orthanc, files: list[Path]):
    port = int(orthanc.url.rpartition(":")[2])
    with pytest.raises(SendingError, match="cannot be reached as a DICOM system"):
        list(send_files(files, orthanc.node(port=port)))


def listening(context: str, status: int) -> Any:
    """Returns a DICOM server that takes one kind of object and answers with one status."""
    entity = pynetdicom.AE(ae_title="FULL")
    entity.add_supported_context(context)
    handlers = [(pynetdicom.evt.EVT_C_STORE, lambda event: status)]
    return entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)


def test_a_full_destination_and_one_that_takes_no_images_are_one_sentence(files: list[Path]):
    full = listening(SecondaryCaptureImageStorage, 0xA700)
    verifying = listening("1.2.840.10008.1.1", 0x0000)
    try:
        for server, sentence in (
            (full, "it answered with status 0xA700; 0 of 2 files were stored"),
            (verifying, "takes no Secondary Capture images"),
        ):
            node = Orthanc(0, server.server_address[1]).node(ae_title="FULL")
            with pytest.raises(SendingError, match=sentence):
                list(send_files(files, node))
    finally:
        full.shutdown()
        verifying.shutdown()


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A web server that points to another address."""

    def do_POST(self) -> None:
        self.send_response(307)
        self.send_header("Location", "http://127.0.0.1:9/dicom-web/studies")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_a_service_that_points_to_an_address_off_the_list_is_not_followed(files: list[Path]):
    with http.server.HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            service = Orthanc(server.server_address[1], 0).service()
            with pytest.raises(SendingError, match="it points to another address"):
                list(send_files(files, service))
        finally:
            server.shutdown()


def test_a_wrong_password_a_missing_one_and_a_wrong_path_are_one_sentence(
    orthanc: Orthanc, files: list[Path], monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(SendingError, match="HTTP status 404; 0 of 2"):
        list(send_files(files, orthanc.service(url=f"{orthanc.url}/elsewhere")))
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    with pytest.raises(SendingError, match="HTTP status 40[13]; check username and password_variable"):
        list(send_files(files, orthanc.service()))
    monkeypatch.delenv(PASSWORD_VARIABLE)
    with pytest.raises(SendingError, match="no password is at hand"):
        list(send_files(files, orthanc.service()))


def write_list(path: Path, **destinations: Any) -> Path:
    path.write_text(yaml.safe_dump({"destinations": destinations}))
    return path


NODE = {"kind": "dicom", "purpose": "research", "host": "127.0.0.1", "port": 104, "ae_title": "A"}


def test_only_what_stands_on_the_list_is_a_destination(tmp_path: Path):
    with pytest.raises(SendingError, match="there is no list of research destinations"):
        find_destination("lab", tmp_path / "list.yaml")
    listed = write_list(tmp_path / "list.yaml", lab=NODE)
    assert find_destination("lab", listed).address == "A at 127.0.0.1:104"
    with pytest.raises(
        SendingError, match="destination 'clinic' is not on the list .*: choose one of those that are: lab"
    ):
        find_destination("clinic", listed)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({**NODE, "purpose": "clinical"}, "Input should be 'research'"),
        ({key: value for key, value in NODE.items() if key != "purpose"}, "Field required"),
        ({**NODE, "ae_title": "far too long for a title"}, "ae_title"),
        ({**NODE, "kind": "email"}, "does not match any of the expected tags"),
        ({"kind": "dicomweb", "purpose": "research", "url": "http://pacs.example/dicom-web"}, "must be https"),
        ({"kind": "dicomweb", "purpose": "research", "url": "https://me:secret@pacs.example"}, "without a user's name"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, wrong: dict[str, Any], sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        find_destination("lab", write_list(tmp_path / "list.yaml", lab=wrong))


def test_the_command_asks_first_and_sends_with_yes(
    orthanc: Orthanc,
    files: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("ARRA_MED_DESTINATIONS", str(tmp_path / "list.yaml"))
    write_list(tmp_path / "list.yaml", lab=orthanc.node().model_dump())
    words = ["send", *map(str, files), "--to", "lab"]
    assert run(words) == 2
    told = capsys.readouterr().err
    assert f"Send 2 synthetic images to ORTHANC at 127.0.0.1:{orthanc.dicom_port}?" in told
    assert "nothing was sent: say --yes" in told
    sent = {str(pydicom.dcmread(file).SOPInstanceUID) for file in files}
    assert not sent & orthanc.held().keys()
    assert run([*words, "--yes"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(file) for file in files]
    assert sent <= orthanc.held().keys()


def run(words: list[str]) -> int:
    with open(os.devnull) as nothing, pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr("sys.stdin", nothing)
        main(words)
    return int(stop.value.code or 0)
