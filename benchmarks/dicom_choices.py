"""The choices whose pairs `pixel_pairs.py` covers, and which of their combinations can be encoded."""

from typing import NamedTuple

from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

Case = dict[str, str]


class Syntax(NamedTuple):
    """A transfer syntax and what it can hold."""

    uid: UID
    native: bool = False
    lossy: bool = False
    needs_dcmtk: bool = False
    dcmtk_option: str = ""
    bits: tuple[int, ...] = (8, 10, 12, 14, 15, 16)


SYNTAXES = {
    "implicit": Syntax(ImplicitVRLittleEndian, native=True),
    "explicit": Syntax(ExplicitVRLittleEndian, native=True),
    "big endian": Syntax(ExplicitVRBigEndian, native=True),
    "deflated": Syntax(DeflatedExplicitVRLittleEndian, native=True),
    "RLE": Syntax(RLELossless),
    "JPEG baseline": Syntax(JPEGBaseline8Bit, lossy=True, bits=(8,)),
    "JPEG extended": Syntax(JPEGExtended12Bit, lossy=True, needs_dcmtk=True, dcmtk_option="+ee", bits=(10, 12)),
    "JPEG lossless": Syntax(JPEGLossless, needs_dcmtk=True, dcmtk_option="+el"),
    "JPEG lossless SV1": Syntax(JPEGLosslessSV1, needs_dcmtk=True, dcmtk_option="+e1"),
    "JPEG-LS": Syntax(JPEGLSLossless),
    "JPEG-LS near-lossless": Syntax(JPEGLSNearLossless, lossy=True),
    "JPEG 2000 lossless": Syntax(JPEG2000Lossless),
    "JPEG 2000": Syntax(JPEG2000, lossy=True),
}
FACTORS: dict[str, tuple[str, ...]] = {
    "kind": ("CR", "DX", "DX for processing", "RF", "SC", "OP", "CT", "two frames"),
    "interpretation": ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "PALETTE COLOR", "segmented palette"),
    "bits": ("8", "10", "12", "14", "15", "16"),
    "sign": ("unsigned", "signed"),
    "high bit": ("lowest", "shifted", "garbage above"),
    "modality": ("none", "rescale", "falling rescale", "table"),
    "voi": ("none", "LINEAR", "LINEAR_EXACT", "SIGMOID", "several", "table", "table of 8 bits", "table and window"),
    "padding": ("none", "value", "range"),
    "polarity": ("unsaid", "IDENTITY", "INVERSE"),
    "relationship": ("unsaid", "LIN", "LOG"),
    "syntax": tuple(SYNTAXES),
    "aspect": ("square", "ratio", "spacing", "imager spacing", "spacing of zero"),
    "frame": ("none", "constant"),
    "annotation": ("none", "overlay", "burned in"),
    "rules": ("none", "all allowed"),
}


def is_possible(case: Case) -> bool:
    """Whether a combination can be encoded and means something."""
    syntax, bits = SYNTAXES[case["syntax"]], int(case["bits"])
    gray = case["interpretation"].startswith("MONOCHROME")
    palette = case["interpretation"] in ("PALETTE COLOR", "segmented palette")
    colour = not gray and not palette
    return all(
        (
            bits in syntax.bits,
            not (colour and (bits != 8 or syntax.needs_dcmtk or syntax.lossy or case["sign"] == "signed")),
            not (case["interpretation"] == "YBR_FULL" and not (syntax.native or case["syntax"] == "RLE")),
            not (palette and (syntax.lossy or bits not in (8, 16) or case["sign"] == "signed")),
            gray or case["kind"] in ("OP", "SC", "CT", "two frames"),
            not gray or case["kind"] != "OP",
            gray or (case["modality"], case["voi"], case["padding"], case["polarity"]) == ("none", "none", "none", "unsaid"),
            gray or (case["relationship"] == "unsaid" and case["frame"] == "none"),
            case["high bit"] == "lowest" or (gray and bits in (10, 12, 14, 15) and syntax.native),
            not (case["sign"] == "signed" and syntax.lossy),
            not (case["kind"] == "two frames" and not syntax.native),
            not (case["frame"] == "constant" and syntax.lossy),
        )
    )  # fmt: skip


def expected_refusal(case: Case) -> str | None:
    """The reason why a file must be refused, or None."""
    if case["kind"] in ("CT", "two frames"):
        return {"CT": "not_a_projection_xray", "two frames": "multi_frame"}[case["kind"]]
    if case["rules"] == "none" and case["kind"] == "DX for processing":
        return "for_processing"
    return "burned_in_text" if case["rules"] == "none" and case["annotation"] == "burned in" else None
