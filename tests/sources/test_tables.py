import gzip

import pytest

from arra_med.errors import ManifestError
from arra_med.records.study import StudyRecord
from arra_med.records.wording import canonical_labels, wording_bank
from arra_med.sources.layout import Places
from arra_med.sources.tables import find_table, read_table
from tests.sources.published import OBSERVATIONS


def test_rows_are_read_one_by_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufeffa, b \n1, x\n,y\n", encoding="utf-8")
    assert [(row.number, dict(row.cells)) for row in read_table(path, "a", "b")] == [
        (1, {"a": "1", "b": "x"}),
        (2, {"a": "", "b": "y"}),
    ]


@pytest.mark.parametrize("line", ["1", "1,2,3", '"1'])
def test_a_broken_row_is_refused_without_its_cells(line, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"a,b\n7,7\n{line}\n")
    with pytest.raises(ManifestError, match="row 2: must have as many cells as the header|cannot be read as a CSV"):
        list(read_table(path, "a", "b"))


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b"a,b\n1,2\n" * 99)[:-9], gzip.compress(b"a\n\xff\n")])
def test_a_damaged_gzip_table_is_refused(content, tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match="cannot be read as a CSV table"):
        list(read_table(path, "a"))


def test_the_gzipped_table_is_taken_first(tmp_path):
    assert find_table(tmp_path, "a.csv") is None
    (tmp_path / "a.csv").write_text("")
    assert find_table(tmp_path, "a.csv") == tmp_path / "a.csv"
    (tmp_path / "a.csv.gz").write_bytes(b"")
    assert find_table(tmp_path, "a.csv") == tmp_path / "a.csv.gz"


def test_places_inside_and_outside(tmp_path, tmp_path_factory):
    folder, outside = tmp_path / "studies", tmp_path_factory.mktemp("outside")
    (folder / "a").mkdir(parents=True)
    (tmp_path / "studies-2").mkdir()
    (outside / "b.png").write_bytes(b"")
    (folder / "out").symlink_to(outside)
    (folder / "beside").symlink_to(tmp_path / "studies-2")
    (folder / "b.png").symlink_to(outside / "b.png")
    (folder / "within").symlink_to(folder / "a")
    places = Places(folder)
    for place in ("a/b.png", "not/there.png", "within/b.png", "a..b/c..png"):
        assert places.inside(place) == folder / place
    for place in (
        "",
        "/etc/x",
        "../x",
        "a/../../x",
        "a/..",
        "out/b.png",
        "beside/x",
        "b.png",
        "a\\..\\x",
        "a\0b",
        "C:/x",
    ):
        assert places.inside(place) is None, place


def test_each_observation_of_chexpert_has_its_place_among_the_wordings():
    def canonical(name):
        record = StudyRecord(image_id="a", patient_id="a", modality="cxr", source="chexpert", labels=(name,))
        return canonical_labels(record)

    bank = {*wording_bank("cxr").findings, "normal"}
    in_bank = {name for name in OBSERVATIONS if canonical(name) and set(canonical(name)) <= bank}
    left_out = {name for name in OBSERVATIONS if not canonical(name)}
    assert left_out == {"Pleural Other", "Support Devices"}
    # Named as they are, in lower case: "There is lung opacity."
    assert set(OBSERVATIONS) - in_bank - left_out == {
        "Enlarged Cardiomediastinum",
        "Fracture",
        "Lung Lesion",
        "Lung Opacity",
    }
