"""Which projection a radiograph is, and whether its header says that it is turned or mirrored.

Headers of radiographs are filled in by people and by defaults, so the sources are ranked, and where two of the same
rank disagree the answer is "not known". Nothing here changes an image unasked: PatientOrientation is unreliable in CR,
and a silent mirror makes or hides dextrocardia.

Source: DICOM PS3.3 C.8.11.5 (DX positioning: View Code Sequence), C.8.1.2 (CR series: View Position), C.7.6.1.1.1
(Patient Orientation); PS3.16 CID 4010 (DX View), CID 4011 (DX View Modifier).
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pydicom
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

ViewPosition = Literal["PA", "AP", "lateral"]
OrientationFlag = Literal[
    "orientation_suggests_mirror",
    "orientation_suggests_rotation_90",
    "orientation_suggests_rotation_180",
    "orientation_suggests_rotation_270",
    "orientation_suggests_mirror_and_rotation_90",
    "orientation_suggests_mirror_and_rotation_180",
    "orientation_suggests_mirror_and_rotation_270",
    "orientation_contradicts_view",
    "orientation_unusable",
]

_Named = Literal["PA", "AP", "lateral", "other"]

_DX_VIEW = codes.cid4010
_VIEWS_OF_CODES: tuple[tuple[Code, ViewPosition], ...] = (
    (_DX_VIEW.PosteroAnterior, "PA"),
    (Code("R-10214", "SRT", "postero-anterior"), "PA"),  # as in older editions; pydicom maps only the newer R-40888
    (_DX_VIEW.AnteroPosterior, "AP"),
    (_DX_VIEW.LateralProjection, "lateral"),
    (_DX_VIEW.LeftLateral, "lateral"),
    (_DX_VIEW.RightLateral, "lateral"),
    (_DX_VIEW.Sagittal, "lateral"),
)
_SILENT_CODES: tuple[Code, ...] = (_DX_VIEW.Frontal, *(getattr(codes.cid4011, name) for name in codes.cid4011.dir()))
"""Codes that are true of a PA and an AP image alike, and modifiers that leave the projection what it is."""

_SNOMED_RT = frozenset({"SRT", "SNM3", "99SDM"})  # PS3.16 8.1: names under which the same identifiers were written
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "StudyDescription")  # from the narrowest to the widest
_WORDS: tuple[tuple[_Named, re.Pattern[str]], ...] = (
    ("other", re.compile(r"(?:LATERAL |LAT )?(?:DECUB\w*|LLD|RLD)|OBL\w*|[LR]LO|[LR][AP]O|LORDOTIC|SWIMMERS?")),
    ("PA", re.compile(r"PA|POSTERO ?ANTERIOR\w*")),
    ("AP", re.compile(r"AP|ANTERO ?POSTERIOR\w*")),
    ("lateral", re.compile(r"LAT|[LR]LAT|LATERAL\w*|SEITLICH|PROFIL|PERFIL")),
)
_VIEW_POSITION_ONLY = re.compile(r"\b[LR]L\b")  # in a description, LL is as often a lower limb or a lower lobe

_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
_FRONTAL, _SAGITTAL, _UPRIGHT = frozenset("LR"), frozenset("AP"), frozenset("HF")


class Orientation(NamedTuple):
    """What PatientOrientation suggests should be done to the image: first turned, then mirrored.

    Attributes:
        flag: What to tell, of a closed vocabulary; None when the tag is absent or suggests nothing.
        quarter_turns: Clockwise, 0 to 3.
        mirror: Whether left and right change places after the turn.
    """

    flag: OrientationFlag | None
    quarter_turns: int = 0
    mirror: bool = False

    def corrected(self, pixels: np.ndarray) -> np.ndarray:
        """Turns and mirrors an image (H, W) or (H, W, C) so that the patient stands upright in it.

        The patient's left then is at the right of a frontal image; a lateral one is only turned, never mirrored.
        """
        turned = np.rot90(pixels, k=-self.quarter_turns, axes=(0, 1))
        return np.ascontiguousarray(turned[:, ::-1] if self.mirror else turned)


def view_position(header: pydicom.Dataset) -> ViewPosition | None:
    """Finds the projection.

    In order of preference: (1) the coded views, which are View Code Sequence (0054,0220) with View Modifier Code
    Sequence (0054,0222), and View Position (0018,5101); (2) the words of Series Description, else Protocol Name, else
    Study Description. Patient Orientation (0020,0020) never tells PA from AP; anterior or posterior along an edge of
    the image means lateral, while left and right are what devices write by default and mean nothing.

    Returns:
        None if nothing says so; if the coded views name more than one projection; if the words do (unless Patient
        Orientation says that it is the lateral of them); if Patient Orientation is that of a lateral image and the
        view is not; and for every other projection (oblique, decubitus, lordotic, axial).
    """
    named = _named_view(header)
    if not _is_sagittal(header) or named in ("lateral", "other"):
        return named if named in ("PA", "AP", "lateral") else None
    views = _coded_views(header) or _described_views(header)
    return "lateral" if not views or ("lateral" in views and not _coded_views(header)) else None


def suggested_orientation(header: pydicom.Dataset) -> Orientation:
    r"""Finds what Patient Orientation (0020,0020) suggests: the image upright, the patient's left at its right.

    The tag's two values are the patient's directions along the rows (to the right) and along the columns (downwards);
    the first letter of a compound value is its main direction (PS3.3 C.7.6.1.1.1). An upright frontal image has L\F.
    Field of View Rotation and Horizontal Flip (PS3.3 C.8.11.4) tell what a detector has done to the pixels already,
    and ask for nothing.

    Returns:
        With flag `orientation_unusable` where the values describe no frontal or lateral image, and
        `orientation_contradicts_view` where they describe the other of the two (except L\F, the default of many
        devices, on a lateral image); neither is followed.
    """
    letters = _orientation_letters(header)
    if letters is None:
        return Orientation("orientation_unusable" if header.get("PatientOrientation") else None)
    right, down = letters
    sagittal, view = not _SAGITTAL.isdisjoint(letters), _named_view(header)
    if (view in ("PA", "AP") and sagittal) or (view == "lateral" and not sagittal and letters != ("L", "F")):
        return Orientation("orientation_contradicts_view")
    quarter_turns = 0
    while down != "F":  # a clockwise quarter turn sends what pointed right down, and what pointed down to the left
        right, down = _OPPOSITE[down], right
        quarter_turns += 1
    return _orientation(quarter_turns, mirror=right == "R")


def _orientation(quarter_turns: int, *, mirror: bool) -> Orientation:
    flags: dict[tuple[int, bool], OrientationFlag] = {
        (1, False): "orientation_suggests_rotation_90",
        (2, False): "orientation_suggests_rotation_180",
        (3, False): "orientation_suggests_rotation_270",
        (0, True): "orientation_suggests_mirror",
        (1, True): "orientation_suggests_mirror_and_rotation_90",
        (2, True): "orientation_suggests_mirror_and_rotation_180",
        (3, True): "orientation_suggests_mirror_and_rotation_270",
    }
    return Orientation(flags.get((quarter_turns, mirror)), quarter_turns, mirror)


def _orientation_letters(header: pydicom.Dataset) -> tuple[str, str] | None:
    """The main directions along rows and columns, if they are those of a frontal or a lateral image."""
    value = header.get("PatientOrientation")
    if not isinstance(value, MultiValue | list | tuple) or len(value) != 2:
        return None
    right, down = (str(direction).strip().upper()[:1] for direction in value)
    upright, across = {right, down} & _UPRIGHT, {right, down} & (_FRONTAL | _SAGITTAL)
    return (right, down) if upright and across else None


def _is_sagittal(header: pydicom.Dataset) -> bool:
    letters = _orientation_letters(header)
    return letters is not None and not _SAGITTAL.isdisjoint(letters)


def _named_view(header: pydicom.Dataset) -> _Named | None:
    """The one view which the coded views, else the words, name."""
    views = _coded_views(header) or _described_views(header)
    return next(iter(views)) if len(views) == 1 else None


def _coded_views(header: pydicom.Dataset) -> frozenset[_Named]:
    """The views that View Code Sequence, its modifiers and View Position name."""
    position = _text(header, "ViewPosition")
    views = set(_views_in(position))
    if _VIEW_POSITION_ONLY.search(position):
        views.add("lateral")
    for code in _view_codes(header):
        if code not in _SILENT_CODES:
            views.add(next((view for known, view in _VIEWS_OF_CODES if code == known), "other"))
    return frozenset(views)


def _view_codes(header: pydicom.Dataset) -> Iterator[Code]:
    """The codes of the view and its modifiers; `Code` compares SNOMED RT and SNOMED CT identifiers as equal."""
    for item in header.get("ViewCodeSequence") or []:
        for coded in (item, *(item.get("ViewModifierCodeSequence") or [])):
            value, scheme = str(coded.get("CodeValue") or ""), str(coded.get("CodingSchemeDesignator") or "")
            if value:
                yield Code(value, "SRT" if scheme in _SNOMED_RT else scheme, "")


def _described_views(header: pydicom.Dataset) -> frozenset[_Named]:
    """The views that the narrowest description names which names any."""
    found = (_views_in(_text(header, keyword)) for keyword in _DESCRIPTIONS)
    return next((views for views in found if views), frozenset())


def _text(header: pydicom.Dataset, keyword: str) -> str:
    """A value in capital letters; dots and hyphens within a word are dropped (p.a.), other signs separate words."""
    value = header.get(keyword)
    words = " ".join(map(str, value)) if isinstance(value, MultiValue | list | tuple) else str(value or "")
    return re.sub(r"[^A-Z0-9]+", " ", re.sub(r"(?<=[A-Z])[.-](?=[A-Z])", "", words.upper())).strip()


def _views_in(text: str) -> frozenset[_Named]:
    """The views a text names; what is taken for one view is no longer there for the next (lateral decubitus)."""
    found: set[_Named] = set()
    for view, pattern in _WORDS:
        text, num_found = re.subn(rf"\b(?:{pattern.pattern})\b", " ", text)
        if num_found:
            found.add(view)
    return frozenset(found)
