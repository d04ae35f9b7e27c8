"""A thousand planted identifiers: none comes out of headers, paths, tables, logs or messages; and the scrubber's recall."""

import csv
import itertools
import json
import logging
import re
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydicom import Dataset

from arra_med.cli import main
from arra_med.corpus.study_set import StudySet
from arra_med.records.scrubbing import scrub_text
from tests.imaging.conftest import dicom_header
from tests.planted_identifiers import KINDS, Inventor, Planted, invent, slots_of

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")

NUM_PLANTED, NUM_IN_PATHS, NUM_IN_TABLE = 1_000, 60, 60
NUM_FILES, NUM_IMAGES = 24, 15
KEY = bytes(range(32)).hex()
PRIVATE_FILES = {"paths.jsonl", "quarantine.jsonl"}


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Planted]:
    """The identifiers, in `tmp_path / "archive"` (DICOM files, good and bad) and `tmp_path / "table"` (a manifest)."""
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(key))
    all_of_them = invent(NUM_PLANTED)
    in_paths = [one for one in all_of_them if one.kind in ("names", "full-face photographs")][:NUM_IN_PATHS]
    in_table = [one for one in all_of_them if one.kind in ("medical record numbers", "account numbers")][:NUM_IN_TABLE]
    rest = [one for one in all_of_them if one not in in_paths and one not in in_table]
    _write_archive(tmp_path / "archive", rest, in_paths[: 2 * NUM_FILES])
    _write_table(tmp_path / "table", in_table, in_paths[2 * NUM_FILES :])
    return all_of_them


def _write_archive(folder: Path, planted: list[Planted], in_paths: list[Planted]) -> None:
    headers = [_header(number) for number in range(NUM_FILES)]
    free = {kind: [(header, slot) for slot in slots_of(kind) for header in headers] for kind in KINDS}
    taken: set[tuple[int, str]] = set()
    for one in planted:
        header, slot = next(place for place in free[one.kind] if (id(place[0]), place[1].__name__) not in taken)
        taken.add((id(header), slot.__name__))
        slot(header, one.text)
    for number, (header, ward, stem) in enumerate(zip(headers, in_paths[::2], in_paths[1::2], strict=True)):
        path = folder / ward.text.replace("^", "_") / f"{stem.text}.dcm"
        path.parent.mkdir(parents=True)
        header.save_as(path, enforce_file_format=True)
        if number % 8 == 0:
            path.write_bytes(path.read_bytes()[:-900])
        if number % 8 == 1:
            path.write_bytes(path.read_bytes().replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00LO"))


def _header(number: int) -> Dataset:
    header = dicom_header(np.random.default_rng(number).integers(0, 4096, (40, 40), dtype=np.uint16), PatientAge="067Y")
    header.preamble = bytes(128)
    header.PatientID = header.PatientName = f"patient {number}"
    if number % 8 == 2:
        header.Modality = "CT"
    if number % 8 == 3:
        header.BurnedInAnnotation = "YES"
    return header


def _write_table(folder: Path, planted: list[Planted], in_paths: list[Planted]) -> None:
    folder.mkdir()
    rows = []
    ids = itertools.cycle(planted)
    for number in range(max(NUM_IMAGES, len(planted) // 2)):
        name = f"{number}_{in_paths[number % len(in_paths)].text}.png".replace("^", "_")
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        if number % 5 == 0:
            (folder / name).write_bytes((folder / name).read_bytes()[:60])
        values = {"image_id": next(ids).text, "patient_id": next(ids).text, "path": name}
        rows.append({**values, "modality": "cxr", "source": "local_images", "view": "PA"})
    _write_csv(folder / "studies.csv", rows)
    shifted = {"view": rows[0]["patient_id"], "modality": rows[0]["image_id"]}
    _write_csv(folder / "shifted.csv", [{**rows[0], **shifted}, rows[1]])
    _write_csv(folder / "twice.csv", [rows[1], rows[1]])
    in_two_splits = [{**row, "patient_id": rows[1]["patient_id"], "split": part} for row, part in zip(rows[1:3], ("train", "test"), strict=True)]  # fmt: skip
    _write_csv(folder / "splits.csv", in_two_splits)
    (folder / "broken.csv").write_text(f'image_id,path\n"{rows[0]["image_id"]}')


def _write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def found_in(content: bytes, planted: list[Planted]) -> list[str]:
    """Names the kinds of the identifiers that bytes hold, in any case, in UTF-8 or UTF-16."""
    lower = content.lower()
    return [
        one.kind
        for one in planted
        for trace in one.traces
        if trace.lower().encode() in lower or trace.lower().encode("utf-16-le") in lower
    ]


def assert_no_trace(folder: Path, planted: list[Planted]) -> None:
    """Looks into every file of a result that others may read, and at its name."""
    for path in sorted(folder.rglob("*")):
        assert found_in(path.name.encode(), planted) == [], "a file name"
        if not path.is_file():
            continue
        if path.name in PRIVATE_FILES:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
            continue
        assert found_in(path.read_bytes(), planted) == [], path.name
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            values = repr(table.drop_columns(["view_png"]).to_pylist() if "view_png" in table.schema.names else table)
            assert found_in(f"{values} {table.schema.metadata}".encode(), planted) == [], path.name


def test_the_thousand_are_there_to_be_found(tmp_path: Path, planted: list[Planted]) -> None:
    assert len(planted) == NUM_PLANTED
    assert set(Counter(one.kind for one in planted)) == set(KINDS)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    content = b"".join(str(path).encode() + path.read_bytes() for path in files)
    missing = [one.kind for one in planted if not found_in(content, [one])]
    assert missing == []


def test_none_comes_out_of_a_study_set_of_dicom_files(
    tmp_path: Path, planted: list[Planted], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert run("ingest", tmp_path / "archive", "--out", tmp_path / "set", "--size", 32, "--workers", 1) == 0
    told = capfd.readouterr()
    assert found_in((told.out + told.err + caplog.text).encode(), planted) == []
    assert_no_trace(tmp_path / "set", planted)
    study_set = StudySet.open(tmp_path / "set")
    records = json.dumps([record.model_dump() for record in study_set.records()])
    assert found_in(records.encode(), planted) == []
    assert len(study_set) >= NUM_FILES // 2
    assert (tmp_path / "set" / "quarantine.jsonl").read_text().count("\n") >= NUM_FILES // 8


def test_none_comes_out_of_a_study_set_of_a_table(
    tmp_path: Path, planted: list[Planted], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    table = tmp_path / "table"
    assert run("ingest", table / "studies.csv", "--out", tmp_path / "set", "--size", 32, "--workers", 1) == 0
    told = capfd.readouterr()
    assert found_in((told.out + told.err + caplog.text).encode(), planted) == []
    assert_no_trace(tmp_path / "set", planted)
    assert len(StudySet.open(tmp_path / "set")) > 0


@pytest.mark.parametrize("name", ["shifted", "twice", "splits", "broken"])
def test_no_message_about_a_wrong_table_quotes_one(
    tmp_path: Path,
    planted: list[Planted],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    assert run("ingest", tmp_path / "table" / f"{name}.csv", "--out", tmp_path / "set", "--workers", 1) == 2
    told = capfd.readouterr()
    assert told.err.startswith("arra-med: ")
    assert found_in((told.out + told.err + caplog.text).encode(), planted) == []
    assert not (tmp_path / "set" / "study_set.json").exists()


def test_none_comes_out_of_deidentified_copies(
    tmp_path: Path, planted: list[Planted], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "copies"
    assert run("deidentify", tmp_path / "archive", "--out", out) == 0
    assert run("deidentify", tmp_path / "archive", "--out", out, "--allow-burned-in") == 0
    assert run("deidentify", tmp_path / "table", "--out", tmp_path / "none") == 2
    told = capfd.readouterr()
    assert found_in((told.out + told.err + caplog.text).encode(), planted) == []
    for folder in (out, tmp_path / "none"):
        assert_no_trace(folder, planted)
    assert len(list(out.glob("*.dcm"))) >= NUM_FILES // 2
    private = {path.name for path in out.iterdir() if stat.S_IMODE(path.stat().st_mode) == 0o600}
    assert private == PRIVATE_FILES


# Free text

SENTENCES: dict[str, tuple[str, ...]] = {
    "names": (
        "Findings were discussed with Dr. {}.",
        "Patient {} has no effusion.",
        "{} was seen in clinic.",
        "As compared with the film of {}, unchanged.",
        "The lungs of {} are clear.",
    ),
    "places": ("The patient lives at {}.", "Transferred from {}.", "Born in {}, the patient smokes."),
    "dates": ("Comparison is made with the study of {}.", "Unchanged since {}.", "Pneumonia {}."),
    "telephone numbers": ("Called to {}.", "Tel. {}.", "Family can be reached under {}."),
    "fax numbers": ("Fax {}.", "The report went to {}.", "Copies: {}."),
    "e-mail addresses": ("Sent to {}.", "Contact: {}.", "Questions to {} please."),
    "social security numbers": ("SSN {}.", "Social security number: {}.", "Insured under {}."),
    "medical record numbers": ("MRN: {}.", "Patient {} has a clear chest.", "{} has a clear chest."),
    "health plan numbers": ("Health plan {}.", "Member ID {}.", "Covered under {}."),
    "account numbers": ("Account {}.", "Billed to {}.", "Accession number {}."),
    "certificate and licence numbers": ("License {}.", "Licence no. {}.", "Certified {}."),
    "vehicle identifiers": ("Driver of the vehicle {}.", "Licence plate {}.", "Motor vehicle accident, {}."),
    "device identifiers": ("Pacemaker, serial number {}.", "Device {} projects over the left chest.", "Port {}."),
    "web addresses": ("See {}.", "Images at {}.", "Compare {} for the series."),
    "IP addresses": ("Sent from {}.", "PACS node {}.", "Workstation {} was used."),
    "biometric identifiers": ("Fingerprint {}.", "Iris scan {} on file.", "Voice print {}."),
    "full-face photographs": ("Photograph {} is on file.", "See {}.", "Face photograph: {}."),
    "other unique numbers": ("Study UID {}.", "Trial subject {}.", "Case {}."),
}
REPETITIONS = 8
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def free_text() -> list[tuple[str, tuple[str, ...], str]]:
    """Returns (kind, traces, report): every sentence with every form of invented identifiers."""
    draw = Inventor(7)
    reports = []
    for kind, sentences in SENTENCES.items():
        for sentence in sentences * REPETITIONS:
            for spoken in _spoken_forms(draw(kind)):
                traces = tuple(spoken.replace(",", "").split()) if kind == "names" else (spoken,)
                reports.append((kind, traces, f"Heart size is normal. {sentence.format(spoken)} No pneumothorax."))
    return reports


def _spoken_forms(one: Planted) -> tuple[str, ...]:
    """Writes an identifier in the ways people do, the plain ones and those that are hard to recognise."""
    letters = one.text.rstrip("0123456789")
    digits = one.text.removeprefix(letters)
    if one.kind == "names":
        family, given = one.traces
        return f"{given} {family}", f"{family}, {given}", f"{given} {family}".upper(), family, family.lower()
    if one.kind == "dates":
        year, month, day = int(one.text[:4]), int(one.text[4:6]), int(one.text[6:])
        name = _MONTHS[month - 1]
        return f"{month:02}/{day:02}/{year}", f"{year}-{month:02}-{day:02}", f"{name} {day}, {year}", f"{month}/{day}", f"{day}. {name}"  # fmt: skip
    if one.kind == "places":
        street, town = one.text.split(", ")
        return one.text, street, town
    if one.kind.endswith(("phone numbers", "fax numbers")):
        return one.text, re.sub(r"\D+", ".", one.text).strip("."), f"ext. {one.text[-4:]}"
    if letters.isalpha():
        return one.text, digits, f"{digits[:3]}-{digits[3:6]}-{digits[6:]}", f"{letters[0]}{digits[:4]}"
    return (one.text,)


def recall_by_kind() -> dict[str, float]:
    """Returns the share of identifiers of which `scrub_text` leaves nothing."""
    gone: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for kind, traces, report in free_text():
        scrubbed = scrub_text(report).lower()
        gone[kind].append(not any(trace.lower() in scrubbed for trace in traces))
    return {kind: sum(each) / len(each) for kind, each in gone.items()}


def test_the_documentation_claims_no_more_recall_in_free_text_than_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = recall_by_kind()
    measured["all kinds"] = sum(measured.values()) / len(measured)
    with capsys.disabled():
        print("\nrecall of scrub_text:", *(f"{kind} {share:.0%}" for kind, share in measured.items()), sep="\n  ")
    document = (Path(__file__).parent.parent / "docs" / "privacy.md").read_text(encoding="utf-8")
    claimed = {kind: int(share) for kind, share in re.findall(r"^\| ([\w ,-]+?) \| (\d+)% \|", document, re.MULTILINE)}
    assert set(claimed) == set(measured)
    assert {kind: share for kind, share in claimed.items() if share / 100 > measured[kind] + 0.005} == {}
    assert claimed["all kinds"] >= 99 or "this is scrubbing, not de-identification" in document.lower()


def test_written_reports_reach_the_study_set_scrubbed(tmp_path: Path) -> None:
    dicom_header(np.arange(1600, dtype=np.uint16).reshape(40, 40)).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    (tmp_path / "a.txt").write_text("FINDINGS: No effusion. Discussed with Dr. Erika Muster on 03/01/2020.")
    assert run("ingest", tmp_path, "--out", tmp_path.with_name("set"), "--size", 32, "--workers", 1) == 0
    (record,) = StudySet.open(tmp_path.with_name("set")).records()
    assert record.report == "FINDINGS: No effusion."
