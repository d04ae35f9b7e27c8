import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arra_med.errors import ManifestError
from arra_med.records.manifest import MANIFEST_SUFFIXES, read_manifest, write_manifest
from arra_med.records.study import StudyRecord

HEADER = "image_id,path,patient_id,modality,source,view,age,labels,redistributable,split,report"


@pytest.fixture
def read_csv(tmp_path):
    def read(*lines, header=HEADER):
        path = tmp_path / "studies.csv"
        path.write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
        return read_manifest(path)

    return read


def test_a_row_becomes_a_record(read_csv, tmp_path):
    (record,) = read_csv('a,images/a.png,p1,cxr,ours,PA,54,Effusion|Mass,yes,train,"PA view, erect.\nEffusion."')
    assert record == StudyRecord(
        image_id="a",
        path=str(tmp_path / "images" / "a.png"),
        patient_id="p1",
        modality="cxr",
        source="ours",
        view="PA",
        age=54,
        age_group="adult",
        labels=("Effusion", "Mass"),
        redistributable=True,
        split="train",
        report="PA view, erect.\nEffusion.",
    )


def test_empty_means_unknown(read_csv):
    (record,) = read_csv("a,a.png,,cxr,ours,,,,,,")
    assert (record.view, record.age, record.age_group, record.labels, record.split) == (None, None, None, (), None)
    assert (record.patient_id, record.patient_known, record.redistributable) == ("a", False, False)


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("Effusion|Mass", ("Effusion", "Mass")),
        ('"normal fundus, lens dust"', ("normal fundus", "lens dust")),
        ('"COVID-19, ARDS"', ("COVID-19", "ARDS")),
        ("drusen，glaucoma", ("drusen", "glaucoma")),
        ('"one, label|"', ("one, label",)),
        ("|", ()),
    ],
)
def test_labels_in_one_cell(read_csv, cell, labels):
    assert read_csv(f"a,a.png,p,cxr,ours,,,{cell},,,")[0].labels == labels


def test_every_bad_row_is_reported_at_once(read_csv):
    with pytest.raises(ManifestError) as caught:
        read_csv(
            "a,a.png,p1,cxr,ours,PA,54,,yes,train,",
            "b,b.png,p2,cxr,ours,oblique,54,,yes,train,",
            "c,c.png,p3,ct,ours,oblique,54,,yes,train,",
            "d,,p4,cxr,ours,PA,old,,perhaps,train,",
            "a,e.png,p5,cxr,ours,PA,54,,yes,train,",
            "f,f.png,p1,cxr,ours,PA,200,,yes,test,",
            "g,g.png,p7,cxr,ours,PA,54,,yes,test,secret words,more",
            "h,h.png,p8,cxr",
        )
    lines = str(caught.value).splitlines()
    assert "7 bad rows" in lines[0]
    assert set(lines[1:]) == {
        "row 2-3: column 'view': must be one of PA, AP, lateral, or empty",
        "row 3: column 'modality': must be one of cxr, fundus, photo",
        "row 4: column 'path': must not be empty",
        "row 4, 6: column 'age': must be a number of years from 0 to 130, or empty",
        "row 4: column 'redistributable': must be yes or no, or empty",
        "row 5: column 'image_id': must be unique, but an earlier row has the same",
        "row 7: has more cells than the header has columns",
        "row 8: has fewer cells than the header has columns",
        "row 8: column 'source': must not be empty",
    }


def test_values_of_open_columns_are_never_shown(read_csv):
    with pytest.raises(ManifestError) as caught:
        read_csv("Jane,a.png,Jane-Doe,cxr,ours,,57-secret,,,,secret words", "Jane,b.png,p,cxr,ours,,,,maybe-secret,,")
    assert "Jane" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_patient_in_two_splits_is_found(read_csv):
    with pytest.raises(ManifestError, match="row 2: column 'split': an earlier row puts the same patient"):
        read_csv("a,a.png,p,cxr,ours,,,,,train,", "b,b.png,p,cxr,ours,,,,,test,")


def test_wrong_columns_are_named_with_the_nearest_right_one(read_csv):
    with pytest.raises(
        ManifestError, match=r"column 'source' is missing; column 'lables' is unknown; did you mean 'labels'"
    ):
        read_csv("a,a.png,p,cxr,x", header="image_id,path,patient_id,modality,lables")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("studies.csv", b"", "holds no rows"),
        ("studies.csv", HEADER.encode() + b"\n", "holds no rows"),
        ("studies.csv", HEADER.encode() + b"\n\xff\xfe", "is not UTF-8 text"),
        ("studies.csv", HEADER.encode() + b'\na,"open quote', r"is not a valid \.csv table"),
        ("studies.jsonl", b'{"image_id": "a"\n', "row 1: is not a JSON object on one line"),
        ("studies.jsonl", b"[1, 2]\n", "row 1: is not a JSON object on one line"),
        ("studies.parquet", b"PAR1 secret", r"is not a valid \.parquet table|cannot be read"),
        ("studies.xlsx", b"", r"must end with \.csv, \.jsonl, \.parquet"),
    ],
)
def test_a_file_that_is_no_table(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(path)
    assert "secret" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(ManifestError, match="there is no such file"):
        read_manifest(tmp_path / "none.csv")


def test_typed_cells_of_json_and_parquet(tmp_path):
    row = {"image_id": 7, "path": "a.png", "patient_id": 12, "modality": "cxr", "source": "ours"}
    typed = row | {"labels": ["a, b", "c"], "age": 8.5, "redistributable": True, "view": None}
    (tmp_path / "s.jsonl").write_text(json.dumps(typed) + "\n\n")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([typed]), tmp_path / "s.parquet")
    for suffix in ("jsonl", "parquet"):
        (record,) = read_manifest(tmp_path / f"s.{suffix}")
        assert (record.image_id, record.patient_id, record.age, record.age_group) == ("7", "12", 8.5, "child")
        assert record.labels == ("a, b", "c")
        assert record.redistributable


names = st.text(st.characters(codec="utf-8", exclude_characters="|,，\x00\r\n"), min_size=1, max_size=8).map(str.strip)
records = st.builds(
    StudyRecord,
    image_id=st.uuids().map(str),
    patient_id=st.uuids().map(str),
    modality=st.sampled_from(["cxr", "fundus"]),
    view=st.sampled_from([None, "PA", "AP", "lateral"]),
    laterality=st.sampled_from([None, "L", "R"]),
    sex=st.sampled_from([None, "M", "F"]),
    age=st.none() | st.floats(min_value=0, max_value=130),
    age_group=st.sampled_from(["adult", "child"]),
    path=st.sampled_from(["inside/a.png", "/elsewhere/b.dcm"]),
    report=st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=30),
    report_kind=st.sampled_from([None, "written", "from_labels", "keywords"]),
    labels=st.lists(names.filter(bool), max_size=3).map(tuple) | st.just(("one, label",)),
    source=st.just("ours"),
    licence=names,
    redistributable=st.booleans(),
    patient_known=st.booleans(),
    attribution=names,
    split=st.sampled_from([None, "train", "validation", "test"]),
)


@pytest.mark.parametrize("suffix", MANIFEST_SUFFIXES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(records, min_size=1, max_size=4))
def test_what_is_written_is_read_back(tmp_path, suffix, studies):
    path = tmp_path / f"studies{suffix}"
    placed = [
        study if study.path.startswith("/") else study.model_copy(update={"path": str(tmp_path / study.path)})
        for study in studies
    ]
    write_manifest(placed, path)
    assert read_manifest(path) == placed
    assert str(tmp_path) not in path.read_text(encoding="utf-8", errors="ignore")


def test_a_label_with_the_separator_cannot_be_written(tmp_path):
    record = StudyRecord(image_id="a", patient_id="p", modality="cxr", source="ours", path="/a", labels=("a|b",))
    with pytest.raises(ManifestError, match="a label holds '|'"):
        write_manifest([record], tmp_path / "s.csv")


@pytest.mark.real_data
@pytest.mark.parametrize(("modality", "count"), [("cxr", 6165), ("fundus", 4897)])
def test_the_shared_tables_are_read_whole(real_data, modality, count):
    studies = read_manifest(real_data / modality / "studies.csv")
    assert len(studies) == count
    assert {study.modality for study in studies} == {modality}
    assert all(study.split for study in studies)
