import io
import json
import os
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from arra_med.corpus.decoding import DecodingSettings
from arra_med.corpus.ingest import IngestReport, ingest
from arra_med.corpus.study_set import StudySet
from arra_med.imaging.dicom import MAX_INFLATED_BYTES
from tests.corpus.tiny_studies import SPEC
from tests.imaging.conftest import dicom_header

# The slowest of them takes about a second; a hang would end at the limit, as `worker_crashed`.
SETTINGS = DecodingSettings(spec=SPEC, time_limit_s=20, memory_limit_gib=2)
MIB = 2**20
SIDE_PX = 64
UID, PATH_LIKE = "1.2.826.0.1.1234", b"../../../planted"
FOUR_GIGAPIXELS = 65_535  # the largest Rows and Columns (PS3.5 6.2, US)

REASONS = {
    "nested.dcm": "decode_failed",
    "deflate_bomb.dcm": "too_large",
    "more_rows.dcm": "truncated",
    "more_rows_j2k.dcm": "decode_failed",
    "more_rows_rle.dcm": "decode_failed",
    "no_columns.dcm": "decode_failed",
    "four_gigapixels.dcm": "too_large",
    "bits_beyond_cell.dcm": "decode_failed",
    "bomb.png": "too_large",
    "text_bomb.png": "decode_failed",
    "four_gigapixels.png": "too_large",
    "four_gigapixels.jpg": "too_large",
    "page.dcm": "not_an_image",
}
GOOD = ("a_good.dcm", "m_good.dcm", "path_like_uid.dcm", "z_good.dcm")


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, (SIDE_PX, SIDE_PX), dtype=np.uint16)


def dicom(seed: int, compress_to: str | None = None, **elements: object) -> bytes:
    """A file whose header is told to lie after its pixels were encoded."""
    header = dicom_header(pixels(seed))
    if compress_to is not None:
        header.compress(compress_to)
    for name, value in elements.items():
        setattr(header, name, value)
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def nested(depth: int) -> bytes:
    """Sequences of undefined length within each other (PS3.5 7.5), which a reader follows before it knows the end."""
    open_ = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 2**32 - 1
    )
    close = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data, pixel_data = dicom(1), struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW")
    at = data.index(pixel_data)
    return data[:at] + open_ * depth + close * depth + data[at:]


def deflate_bomb() -> bytes:
    """A file of less than 1 MiB, whose deflated body grows past the limit (PS3.5 A.5)."""
    header = dicom_header(pixels(2))
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    data = stream.getvalue()
    body = 128 + 4 + 12 + int.from_bytes(data[140:144], "little")
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    repeated = deflater.compress(bytes(MIB)) + deflater.flush(zlib.Z_FULL_FLUSH)
    element = struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, MAX_INFLATED_BYTES + 8 * MIB)
    start = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    first = start.compress(element) + start.flush(zlib.Z_FULL_FLUSH)
    bomb = data[:body] + first + repeated * (MAX_INFLATED_BYTES // MIB + 8) + deflater.flush()
    assert len(bomb) < MIB
    return bomb


def png(width: int, height: int, idat: bytes, *before: tuple[bytes, bytes]) -> bytes:
    """A PNG file of 8-bit grayscale."""
    shape = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", shape), *before, (b"IDAT", idat), (b"IEND", b""))
    written = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def jpeg(width: int, height: int) -> bytes:
    """A small JPEG file whose start of frame (SOF0) claims another size."""
    stream = io.BytesIO()
    Image.fromarray((pixels(3) >> 4).astype(np.uint8)).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def hostile_files() -> dict[str, bytes]:
    row = zlib.compress(bytes(SIDE_PX * (SIDE_PX + 1)))
    text_bomb = b"Comment\0\0" + zlib.compress(bytes(100 * MIB), 1)
    side = 12_000
    return {
        "nested.dcm": nested(2000),
        "deflate_bomb.dcm": deflate_bomb(),
        "more_rows.dcm": dicom(4, Rows=2 * SIDE_PX),
        "more_rows_j2k.dcm": dicom(5, JPEG2000Lossless, Rows=2 * SIDE_PX),
        "more_rows_rle.dcm": dicom(6, RLELossless, Rows=2 * SIDE_PX),
        "no_columns.dcm": dicom(7, Columns=0),
        "four_gigapixels.dcm": dicom(8, Rows=FOUR_GIGAPIXELS, Columns=FOUR_GIGAPIXELS),
        "bits_beyond_cell.dcm": dicom(9, BitsStored=65_535),
        "bomb.png": png(side, side, zlib.compress(bytes(side * (side + 1)), 1)),
        "text_bomb.png": png(SIDE_PX, SIDE_PX, row, (b"zTXt", text_bomb)),
        "four_gigapixels.png": png(FOUR_GIGAPIXELS, FOUR_GIGAPIXELS, row),
        "four_gigapixels.jpg": jpeg(FOUR_GIGAPIXELS, FOUR_GIGAPIXELS),
        "page.dcm": b"<!DOCTYPE html><title>Sign in</title>" * 20,
        "a_good.dcm": dicom(10),
        "m_good.dcm": dicom(11),
        "path_like_uid.dcm": dicom(12, SOPInstanceUID=UID, StudyInstanceUID=UID).replace(UID.encode(), PATH_LIKE),
        "z_good.dcm": dicom(13),
    }


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, IngestReport, float]]:
    """The folder of `source` and `out`, the report, and the most MiB that the program itself held meanwhile."""
    folder = tmp_path_factory.mktemp("hostile") / "a" / "b"
    (folder / "source").mkdir(parents=True)
    for name, data in hostile_files().items():
        (folder / "source" / name).write_bytes(data)
    (folder / "secret.txt").write_text("root:x:0:0")
    (folder / "source" / "link.dcm").symlink_to("/etc/passwd")
    (folder / "source" / "absent.dcm").symlink_to("nowhere")
    (folder / "source" / "loop").symlink_to(".", target_is_directory=True)
    (folder / "source" / "outside").symlink_to("../..", target_is_directory=True)
    (folder / "source" / "a_good.txt").symlink_to("../secret.txt")
    os.mkfifo(folder / "source" / "pipe.dcm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARRA_MED_KEY_FILE", str(folder / "key"))
        tracemalloc.start()
        report = ingest(folder / "source", folder / "out", SETTINGS, workers=1, progress=False)
        peak_mib = tracemalloc.get_traced_memory()[1] / MIB
        tracemalloc.stop()
        yield folder, report, peak_mib


@pytest.mark.slow
def test_every_hostile_file_has_its_reason_and_all_others_are_done(ingested: tuple[Path, IngestReport, float]) -> None:
    folder, report, _ = ingested
    rows = [json.loads(line) for line in (folder / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert {Path(row["path"]).name: row["reason"] for row in rows} == REASONS
    assert (report.written, report.quarantined, report.skipped) == (len(GOOD), len(REASONS), 0)
    assert len(StudySet.open(folder / "out").image_ids) == len(GOOD)


@pytest.mark.slow
def test_nothing_is_written_outside_the_output(ingested: tuple[Path, IngestReport, float]) -> None:
    folder, _, _ = ingested
    assert {path.name for path in folder.iterdir()} == {"source", "out", "secret.txt", "key"}
    assert {path.name for path in (folder / "source").iterdir()} == (
        {*REASONS, *GOOD} | {"link.dcm", "absent.dcm", "loop", "outside", "a_good.txt", "pipe.dcm"}
    )
    assert [path.name for path in folder.parent.iterdir()] == ["b"]
    assert [path.name for path in folder.parent.parent.iterdir()] == ["a"]
    assert not [path for path in (folder / "out").rglob("*") if "planted" in path.name or path.is_symlink()]


@pytest.mark.slow
def test_a_report_is_not_read_through_a_link(ingested: tuple[Path, IngestReport, float]) -> None:
    assert {record.report for record in StudySet.open(ingested[0] / "out").records()} == {""}


@pytest.mark.slow
def test_no_hostile_file_is_inflated_in_the_program_itself(ingested: tuple[Path, IngestReport, float]) -> None:
    assert ingested[2] < 64
