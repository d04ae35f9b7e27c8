"""Open-i, the chest radiographs of Indiana University, as the National Library of Medicine publishes them.

    ecgen-radiology/1.xml          a report: sections, MeSH terms, and the ids of its images
    NLMCXR_dcm/1/1_IM-0001-3001.dcm    or NLMCXR_png/CXR1_1_IM-0001-3001.png; DICOM is taken where both are there
    indiana_projections.csv        optional, of a mirror: filename, projection (Frontal or Lateral)

A report is one study of one patient. The labels are the first words of its major MeSH terms ("Opacity" of
"Opacity/lung/base/left"); a term that says "borderline" is no label. The caption names the views of the study, not of an
image, so the view is read from the DICOM header, else from the projections: "Frontal" does not tell PA from AP.

The reports alone, as prompts, are read from the folder or from `NLMCXR_reports.tgz`, which the package `torchxrayvision`
carries. Their text is CC BY-NC-ND: it is used where it lies and never written to a result or an error.

Source: https://openi.nlm.nih.gov/faq
"""

import importlib.util
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from arra_med.errors import ManifestError
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import StudyRecord, View
from arra_med.sources.dicom_folder import header_view
from arra_med.sources.folder import visible_files
from arra_med.sources.layout import Found, SourceNote, missing, terms_of
from arra_med.sources.patient import view_of
from arra_med.sources.tables import find_table, read_table

SOURCE = "openi"
REPORTS = "ecgen-radiology"
IMAGES = ("NLMCXR_dcm", "NLMCXR_png")
PROJECTIONS = "indiana_projections.csv"
REPORTS_ARCHIVE = "NLMCXR_reports.tgz"

_MAX_REPORT_BYTES = 1 << 20
_BORDERLINE = "borderline"
_SECTIONS = ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")


def read_openi(folder: Path, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    """Reads Open-i.

    Args:
        folder: The folder that holds the reports and the images.
        pseudonymizer: Not used: the set is public, and its ids stay as they are.

    Yields:
        A record for each image that a report names, by report; a note for each report that names no image, and for each
        image that no report names. An image that is named but not there has a record, for quarantine.

    Raises:
        ManifestError: If the reports or the images are missing, or a report is not XML.
    """
    if not (folder / REPORTS).is_dir():
        raise missing(folder, SOURCE, f"the reports ({REPORTS}/)")
    image_folder = next((folder / name for name in IMAGES if (folder / name).is_dir()), None)
    if image_folder is None:
        raise missing(folder, SOURCE, f"the images ({' or '.join(f'{name}/' for name in IMAGES)})")
    terms, projections = terms_of(SOURCE), _read_projections(folder)
    images = {_key(path.name): path for path in visible_files(image_folder) if path.suffix in (".png", ".dcm")}
    named: set[str] = set()
    reports = [path for path in visible_files(folder / REPORTS) if path.suffix == ".xml"]
    for path in sorted(reports, key=lambda report: (len(report.stem), report.stem)):
        report = _parse_file(path)
        image_ids = [image.get("id") or "" for image in report.iter("parentImage")]
        if not all(re.fullmatch(r"[\w.-]+", image_id) for image_id in image_ids):
            raise ManifestError(
                f"{folder / REPORTS}: a report names an image by no plain name; unpack the reports again"
            )
        if not image_ids:
            yield SourceNote("report_without_image", str(path))
        text, labels = _text(report), _labels(report)
        for image_id in image_ids:
            named.add(_key(image_id))
            image = images.get(_key(image_id), image_folder / f"{image_id}.png")
            yield StudyRecord(
                image_id=f"{SOURCE}/{image_id}",
                patient_id=f"{SOURCE}:{path.stem}",
                patient_known=True,
                modality="cxr",
                view=(header_view(image) if image.suffix == ".dcm" else None) or projections.get(_key(image_id)),
                path=str(image),
                report=text,
                report_kind="written" if text else None,
                labels=labels,
                **terms,
            )
    for key in images.keys() - named:
        yield SourceNote("image_without_report", str(images[key]))


def find_openi_reports() -> Path | None:
    """Returns the archive of reports inside an installed `torchxrayvision`, which is not imported; none if there is none."""
    spec = importlib.util.find_spec("torchxrayvision")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    archives = (Path(folder) / "data" / REPORTS_ARCHIVE for folder in folders)
    return next((archive for archive in archives if archive.is_file()), None)


def read_openi_reports(path: Path) -> list[StudyRecord]:
    """Reads the reports that say something of the image, without images: prompts whose findings are known.

    Args:
        path: `NLMCXR_reports.tgz`, or a folder that holds `ecgen-radiology/`.

    Returns:
        One record for each report, by its number; view, sex and age are unknown.

    Raises:
        ManifestError: If there is no report, the archive is damaged, or a report is not XML.
    """
    if path.is_dir():
        found = [(file.stem, _parse_file(file)) for file in visible_files(path / REPORTS) if file.suffix == ".xml"]
    else:
        found = list(_parse_archive(path))
    terms = terms_of(SOURCE)
    records = [
        StudyRecord(
            image_id=f"{SOURCE}/{number}",
            patient_id=f"{SOURCE}:{number}",
            patient_known=True,
            modality="cxr",
            report=text,
            report_kind="written",
            labels=_labels(report),
            **terms,
        )
        for number, report in sorted(found, key=lambda pair: (len(pair[0]), pair[0]))
        if (text := _text(report))
    ]
    if not records:
        raise ManifestError(f"{path}: holds no Open-i report ({REPORTS}/*.xml): give {REPORTS_ARCHIVE} or its folder")
    return records


def _key(name: str) -> str:
    """Returns what the names of one image share: CXR1_1_IM-0001-3001(.png), 1_IM-0001-3001.dcm(.png)."""
    stem = re.sub(r"(\.dcm)?(\.png)?$", "", name)
    return re.sub(r"^CXR(\d+)_(?:\1_)?", r"\1_", stem)


def _parse_file(path: Path) -> ElementTree.Element:
    try:
        return _parse(path.read_bytes() if path.stat().st_size <= _MAX_REPORT_BYTES else None, path.parent)
    except OSError:
        raise ManifestError(f"{path.parent}: a report cannot be read: unpack the reports again") from None


def _parse_archive(path: Path) -> Iterator[tuple[str, ElementTree.Element]]:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name)
                if member.isfile() and name.suffix == ".xml" and name.parent.name == REPORTS:
                    stream = archive.extractfile(member) if member.size <= _MAX_REPORT_BYTES else None
                    yield name.stem, _parse(stream.read() if stream else None, path)
    except (OSError, EOFError, tarfile.TarError, zlib.error):
        raise ManifestError(f"{path}: is missing or no archive that can be read: give {REPORTS_ARCHIVE}") from None


def _parse(content: bytes | None, where: Path) -> ElementTree.Element:
    """Parses a report; `None` stands for one that is too large to be one."""
    if content is None:
        raise ManifestError(f"{where}: a report is larger than {_MAX_REPORT_BYTES:,} bytes; unpack them again")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError:
        raise ManifestError(f"{where}: a report cannot be read as XML; unpack the reports again") from None


def _text(report: ElementTree.Element) -> str:
    sections = {
        part.get("Label", ""): " ".join("".join(part.itertext()).split()) for part in report.iter("AbstractText")
    }
    if not sections.get("FINDINGS") and not sections.get("IMPRESSION"):
        return ""
    return "\n".join(f"{name}: {sections[name]}" for name in _SECTIONS if sections.get(name))


def _labels(report: ElementTree.Element) -> tuple[str, ...]:
    terms = ((term.text or "").strip().split("/") for term in report.iter("major"))
    return tuple(dict.fromkeys(term[0].strip() for term in terms if term[0].strip() and _BORDERLINE not in term[1:]))


def _read_projections(folder: Path) -> dict[str, View | None]:
    table = find_table(folder, PROJECTIONS)
    rows = read_table(table, "filename", "projection") if table else ()
    return {_key(row["filename"]): view_of(row["projection"]) for row in rows}
