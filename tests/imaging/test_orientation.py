"""The projection and the orientation of a radiograph, from headers made in the test and from the real ones."""

from itertools import product
from typing import get_args

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from arra_med.imaging.orientation import Orientation, OrientationFlag, suggested_orientation, view_position
from arra_med.imaging.reasons import FLAGS


def _header(codes: list[tuple[str, str]] = (), modifiers: list[tuple[str, str]] = (), **elements: object) -> Dataset:
    def items(pairs):
        made = []
        for value, scheme in pairs:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "a view"
            made.append(item)
        return made

    header = Dataset()
    if codes:
        header.ViewCodeSequence = Sequence(items(codes))
        if modifiers:
            header.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence(items(modifiers))
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    return header


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (("272479007", "SCT"), "PA"),
        (("R-10214", "SRT"), "PA"),
        (("R-40888", "SRT"), "PA"),
        (("399348003", "SCT"), "AP"),
        (("R-10206", "SNM3"), "AP"),
        (("R-10206", "99SDM"), "AP"),
        (("399067008", "SCT"), "lateral"),
        (("399173006", "SCT"), "lateral"),
        (("R-10232", "SRT"), "lateral"),
        (("399033003", "SCT"), None),  # frontal: one of two
        (("399135007", "SCT"), None),  # left anterior oblique
        (("272479007", "99PRIVATE"), None),
    ],
)
def test_view_codes(code, expected):
    assert view_position(_header([code])) == expected


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("PA", "PA"),
        ("AP AXIAL", "AP"),
        ("LL", "lateral"),
        ("RL", "lateral"),
        ("LATERAL", "lateral"),
        ("XTABLE LATERAL", "lateral"),
        ("LLD", None),
        ("RLD", None),
        ("RLO", None),
        ("LAO", None),
        ("AP LLD", None),
        ("LAT DECUBITUS", None),
        ("SWIMMERS", None),
        ("", None),
    ],
)
def test_view_position_element(position, expected):
    assert view_position(_header(ViewPosition=position)) == expected


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("CHEST PA", "PA"),
        ("thorax p.a.", "PA"),
        ("Chest, postero-anterior", "PA"),
        ("W033 Chest_a.p.", "AP"),
        ("CHEST AP PORTABLE", "AP"),
        ("Chest LAT", "lateral"),
        ("Thorax seitlich", "lateral"),
        ("bilateral ribs", None),
        ("Chest PA and lateral", None),
        ("LL extremity", None),
        ("PAPA CHAPEL", None),
    ],
)
def test_words_of_a_description(description, expected):
    assert view_position(_header(SeriesDescription=description)) == expected


def test_codes_win_over_words_and_narrow_descriptions_over_wide_ones():
    assert view_position(_header(ViewPosition="AP", SeriesDescription="Chest PA")) == "AP"
    assert view_position(_header(SeriesDescription="Lateral", StudyDescription="Chest PA and lateral")) == "lateral"
    assert view_position(_header(SeriesDescription="Thorax", ProtocolName="Chest PA", StudyDescription="AP")) == "PA"


def test_coded_views_that_contradict_each_other_name_none():
    assert view_position(_header([("272479007", "SCT")], ViewPosition="AP")) is None
    assert view_position(_header([("272479007", "SCT")], ViewPosition="PA")) == "PA"
    assert view_position(_header([("272479007", "SCT"), ("399067008", "SCT")])) is None
    assert view_position(_header(ViewPosition="LAO", SeriesDescription="Chest PA")) is None


def test_a_modifier_completes_or_changes_the_view():
    assert view_position(_header([("399033003", "SCT")], [("399348003", "SCT")])) == "AP"  # frontal, antero-posterior
    assert view_position(_header([("399348003", "SCT")], [("399196006", "SCT")])) == "AP"  # cephalad
    assert view_position(_header([("399348003", "SCT")], [("399182000", "SCT")])) is None  # oblique


def test_patient_orientation_tells_lateral_but_never_pa_from_ap():
    assert view_position(_header(PatientOrientation=["A", "F"])) == "lateral"
    assert view_position(_header(PatientOrientation=["L", "F"])) is None
    assert view_position(_header(PatientOrientation=["P", "F"], SeriesDescription="Chest PA and lateral")) == "lateral"
    assert view_position(_header(PatientOrientation=["A", "F"], ViewPosition="PA")) is None
    assert view_position(_header(PatientOrientation=["A", "F"], ViewPosition="LLO")) is None
    assert view_position(_header(PatientOrientation=["L", "F"], ViewPosition="LL")) == "lateral"


def _letters_after(image: np.ndarray) -> tuple[str, str]:
    """The directions of an image whose four sides carry letters, read off its right and its lower side."""
    return str(image[1, 2]), str(image[2, 1])


@pytest.mark.parametrize(
    ("right", "down"),
    [pair for pair in product("LRHF", "LRHF") if ({*pair} & set("LR")) and ({*pair} & set("HF"))],
)
def test_every_frontal_orientation_is_brought_upright_with_the_left_at_the_right(right, down):
    opposite = {"L": "R", "R": "L", "H": "F", "F": "H"}
    image = np.array([["", opposite[down], ""], [opposite[right], "", right], ["", down, ""]])
    orientation = suggested_orientation(_header(PatientOrientation=[right, down]))
    assert _letters_after(orientation.corrected(image)) == ("L", "F")
    assert (orientation.flag is None) == ((right, down) == ("L", "F"))


@pytest.mark.parametrize(
    ("right", "down"),
    [pair for pair in product("APHF", "APHF") if ({*pair} & set("AP")) and ({*pair} & set("HF"))],
)
def test_lateral_images_are_turned_upright_but_never_mirrored(right, down):
    orientation = suggested_orientation(_header(PatientOrientation=[right, down]))
    opposite = {"A": "P", "P": "A", "H": "F", "F": "H"}
    image = np.array([["", opposite[down], ""], [opposite[right], "", right], ["", down, ""]])
    assert not orientation.mirror
    assert _letters_after(orientation.corrected(image))[1] == "F"


def test_flags_name_the_clockwise_turn_and_the_mirror():
    expected: dict[tuple[str, str], OrientationFlag] = {
        ("R", "F"): "orientation_suggests_mirror",
        ("F", "R"): "orientation_suggests_rotation_90",
        ("R", "H"): "orientation_suggests_rotation_180",
        ("H", "L"): "orientation_suggests_rotation_270",
        ("F", "L"): "orientation_suggests_mirror_and_rotation_90",
        ("L", "H"): "orientation_suggests_mirror_and_rotation_180",
        ("H", "R"): "orientation_suggests_mirror_and_rotation_270",
    }
    for letters, flag in expected.items():
        assert suggested_orientation(_header(PatientOrientation=list(letters))).flag == flag


def test_colour_images_keep_their_channels():
    image = np.arange(24).reshape(2, 4, 3)
    turned = Orientation("orientation_suggests_rotation_90", 1).corrected(image)
    assert turned.shape == (4, 2, 3)
    np.testing.assert_array_equal(turned[0, 1], image[0, 0])  # the upper left corner goes to the upper right
    np.testing.assert_array_equal(turned[0, 0], image[1, 0])


@pytest.mark.parametrize("value", [["L"], ["L", "R"], ["L", "A"], ["X", "F"], ["", "F"]])
def test_values_that_describe_no_radiograph_are_flagged_and_not_followed(value):
    assert suggested_orientation(_header(PatientOrientation=value)) == ("orientation_unusable", 0, False)


def test_an_absent_or_empty_tag_suggests_nothing():
    for header in (_header(), _header(PatientOrientation=""), _header(PatientOrientation=None)):
        assert suggested_orientation(header) == (None, 0, False)


def test_compound_directions_count_by_their_first_letter():
    assert suggested_orientation(_header(PatientOrientation=["RA", "FP"])).mirror
    assert suggested_orientation(_header(PatientOrientation=["LA", "F"])).flag is None


def test_letters_of_another_projection_are_flagged_and_not_followed():
    for position, letters in (("PA", ["A", "H"]), ("LL", ["R", "F"])):
        found = suggested_orientation(_header(ViewPosition=position, PatientOrientation=letters))
        assert found == ("orientation_contradicts_view", 0, False)
    assert suggested_orientation(_header(ViewPosition="LL", PatientOrientation=["L", "F"])).flag is None


def test_every_flag_stands_in_the_closed_vocabulary():
    assert set(get_args(OrientationFlag)) <= set(FLAGS)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "view", "flag"),
    [
        ("pydicom__6154.dcm", "lateral", None),  # LL, and L, F by default
        ("pydicom-data__RG1_J2KI.dcm", "PA", None),
        ("pydicom-data__RG3_J2KI.dcm", "AP", "orientation_suggests_mirror"),
        ("fo-dicom__CR-ModalitySequenceLUT.dcm", None, None),
    ],
)
def test_real_headers(real_data, name, view, flag):
    header = pydicom.dcmread(real_data / "dicom" / "xray" / name, stop_before_pixels=True)
    assert view_position(header) == view
    assert suggested_orientation(header).flag == flag
