import sys
import tarfile

import pytest

from arra_med.errors import ManifestError
from arra_med.records.cards import load_card
from arra_med.records.wording import canonical_labels
from arra_med.sources import read_layout
from arra_med.sources.openi import find_openi_reports, read_openi_reports
from tests.sources.published import facts

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
   <uId id="CXR{number}"/>
   <MedlineCitation><Article><Abstract>
      <AbstractText Label="COMPARISON"/>
      <AbstractText Label="INDICATION">Cough.</AbstractText>
      <AbstractText Label="FINDINGS">{findings}</AbstractText>
      <AbstractText Label="IMPRESSION">{impression}</AbstractText>
   </Abstract></Article></MedlineCitation>
   <MeSH>{terms}<automatic>sternotomy</automatic></MeSH>
   {images}
</eCitation>"""


@pytest.fixture
def write_report(tmp_path):
    def write(number, *image_ids, findings="", impression="", terms=()):
        path = tmp_path / "ecgen-radiology" / f"{number}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            REPORT.format(
                number=number,
                findings=findings,
                impression=impression,
                terms="".join(f"<major>{term}</major>" for term in terms),
                images="".join(
                    f'<parentImage id="{image}"><caption>Xray Chest PA and Lateral</caption></parentImage>'
                    for image in image_ids
                ),
            )
        )
        return path

    return write


@pytest.fixture
def reports(write_report):
    write_report(
        1,
        "CXR1_1_IM-0001-3001",
        "CXR1_1_IM-0001-4001",
        findings="The heart\n is big.",
        impression="Cardiomegaly.",
        terms=("Cardiomegaly/borderline", "Opacity/lung/base/left", "Opacity/lung/hilum/right", "Lung/hypoinflation"),
    )
    write_report(2, "CXR2_IM-0652-1001", terms=["normal"])
    return write_report(10, impression="Normal.")


def test_every_field_of_the_png_layout(reports, write_image, tmp_path):
    for name in ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR2_IM-0652-1001", "CXR9_IM-0001-1001"):
        write_image(f"NLMCXR_png/{name}.png")
    reading = read_layout(tmp_path)
    assert reading.layout == "openi"
    first, second, other = reading.records
    card = load_card("openi")
    assert first.model_dump() == {
        "image_id": "openi/CXR1_1_IM-0001-3001",
        "patient_id": "openi:1",
        "modality": "cxr",
        "view": None,
        "laterality": None,
        "sex": None,
        "age": None,
        "age_group": None,
        "path": str(tmp_path / "NLMCXR_png/CXR1_1_IM-0001-3001.png"),
        "report": "INDICATION: Cough.\nFINDINGS: The heart is big.\nIMPRESSION: Cardiomegaly.",
        "report_kind": "written",
        "labels": ("Opacity", "Lung"),
        "source": "openi",
        "licence": card.licence,
        "redistributable": False,
        "patient_known": True,
        "attribution": card.attribution,
        "split": None,
    }
    assert canonical_labels(first) == ("opacity",)
    assert facts(second, "patient_id", "report") == ("openi:1", first.report)
    assert facts(other, "patient_id", "report", "report_kind", "labels") == ("openi:2", "", None, ("normal",))
    assert [(note.kind, note.path) for note in reading.notes] == [
        ("report_without_image", str(reports)),
        ("image_without_report", str(tmp_path / "NLMCXR_png/CXR9_IM-0001-1001.png")),
    ]


def test_dicom_images_are_found_by_their_own_names_and_tell_their_view(reports, write_dicom, tmp_path):
    write_dicom("NLMCXR_dcm/1/1_IM-0001-3001.dcm", ViewPosition="PA")
    write_dicom("NLMCXR_dcm/1/1_IM-0001-4001.dcm", ViewPosition="LL")
    write_dicom("NLMCXR_dcm/2/2_IM-0652-1001.dcm", ViewPosition="")
    records = read_layout(tmp_path).records
    assert [record.view for record in records] == ["PA", "lateral", None]
    assert records[2].path == str(tmp_path / "NLMCXR_dcm/2/2_IM-0652-1001.dcm")


def test_a_mirrors_projections_tell_the_laterals(reports, write_image, write_table, tmp_path):
    write_image("NLMCXR_png/CXR1_1_IM-0001-4001.png")
    rows = [("1_IM-0001-3001.dcm.png", "Frontal"), ("1_IM-0001-4001.dcm.png", "Lateral")]
    columns = ("uid", "filename", "projection")
    write_table("indiana_projections.csv", [dict(zip(columns, ("1", *row), strict=True)) for row in rows])
    assert [record.view for record in read_layout(tmp_path).records] == [None, "lateral", None]


def test_half_of_the_folder_is_named(write_image, tmp_path, write_report):
    write_image("NLMCXR_png/CXR1_IM-0001-4001.png")
    with pytest.raises(ManifestError, match=r"layout openi must hold the reports \(ecgen-radiology/\)"):
        read_layout(tmp_path)


def test_reports_alone_are_no_study(write_report, tmp_path):
    write_report(1)
    with pytest.raises(ManifestError, match=r"must hold the images \(NLMCXR_dcm/ or NLMCXR_png/\)"):
        read_layout(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<eCitation>jane", "a report cannot be read as XML"),
        ('<eCitation><parentImage id="../../jane"/></eCitation>', "names an image by no plain name"),
        ("<e>" + "jane " * 250_000 + "</e>", "is larger than 1,048,576 bytes"),
    ],
)
def test_a_bad_report_is_refused_without_its_text(content, message, write_report, write_image, tmp_path):
    write_image("NLMCXR_png/CXR1_IM-0001-4001.png")
    write_report(1).write_text(content)
    with pytest.raises(ManifestError, match=message) as error:
        read_layout(tmp_path)
    assert "jane" not in str(error.value)


# Reports alone


@pytest.fixture
def archive(write_report, tmp_path):
    """An archive as `torchxrayvision` carries it: two reports that say something, one that does not."""
    write_report(10, impression="Normal.", terms=["normal"])
    write_report(2, findings="Fluid.", terms=["Pleural Effusion/right", "Cardiomegaly/borderline"])
    write_report(3)
    path = tmp_path / "NLMCXR_reports.tgz"
    with tarfile.open(path, "w:gz") as stream:
        stream.add(tmp_path / "ecgen-radiology", "ecgen-radiology")
    return path


def test_reports_are_read_alike_from_archive_and_folder(archive, tmp_path):
    records = read_openi_reports(archive)
    assert records == read_openi_reports(tmp_path)
    assert [facts(record, "image_id", "report", "labels", "path") for record in records] == [
        ("openi/2", "INDICATION: Cough.\nFINDINGS: Fluid.", ("Pleural Effusion",), ""),
        ("openi/10", "INDICATION: Cough.\nIMPRESSION: Normal.", ("normal",), ""),
    ]
    assert canonical_labels(records[0]) == ("effusion",)


def test_a_damaged_or_empty_archive_is_refused_without_its_text(archive, tmp_path, write_report):
    whole = archive.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        archive.write_bytes(content)
        with pytest.raises(ManifestError, match="is missing or no archive that can be read"):
            read_openi_reports(archive)
    with pytest.raises(ManifestError, match="is missing or no archive that can be read"):
        read_openi_reports(tmp_path / "absent.tgz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="holds no Open-i report"):
        read_openi_reports(tmp_path / "empty")
    for content, message in (("<e>jane", "cannot be read as XML"), ("<e>" + "jane " * 250_000, "is larger than")):
        write_report(4).write_text(content)
        with tarfile.open(archive, "w:gz") as stream:
            stream.add(tmp_path / "ecgen-radiology", "ecgen-radiology")
        with pytest.raises(ManifestError, match=message) as error:
            read_openi_reports(archive)
        assert "jane" not in str(error.value)


def test_an_installed_package_is_found_and_not_imported(archive, tmp_path, monkeypatch):
    folder = tmp_path / "site" / "torchxrayvision"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('too heavy')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert find_openi_reports() is None
    archive.rename(folder / "data" / archive.name)
    assert find_openi_reports() == folder / "data" / archive.name
    assert "torchxrayvision" not in sys.modules
