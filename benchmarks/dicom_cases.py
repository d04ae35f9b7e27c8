"""Small DICOM files of every combination that can be encoded, for `pixel_pairs.py`: choices in, bytes out."""

import copy
import io
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from dicom_choices import SYNTAXES, Case, Syntax
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

_CLASSES = {
    "CR": ("1.2.840.10008.5.1.4.1.1.1", "CR"),
    "DX": ("1.2.840.10008.5.1.4.1.1.1.1", "DX"),
    "DX for processing": ("1.2.840.10008.5.1.4.1.1.1.1.1", "DX"),
    "RF": ("1.2.840.10008.5.1.4.1.1.12.2", "RF"),
    "SC": ("1.2.840.10008.5.1.4.1.1.7", "OT"),
    "OP": ("1.2.840.10008.5.1.4.1.1.77.1.5.1", "OP"),
    "CT": ("1.2.840.10008.5.1.4.1.1.2", "CT"),
    "two frames": ("1.2.840.10008.5.1.4.1.1.7.3", "OT"),
}
_SHAPE = (36, 34)
_FRAME = (4, 5)  # rows, columns on each side


def encoded_case(case: Case, seed: int) -> tuple[bytes, Dataset, np.ndarray, tuple[slice, slice]]:
    """Makes a file.

    Returns:
        Its bytes; its data set; the stored values that a decoder must find, RGB for colour; the part inside the frame.
    """
    rng = np.random.default_rng(seed)
    syntax, bits = SYNTAXES[case["syntax"]], int(case["bits"])
    signed, colour = case["sign"] == "signed", case["interpretation"] in ("RGB", "YBR_FULL")
    low = -(2 ** (bits - 1)) if signed else 0
    high = low + 2**bits - 1
    smooth = np.add.outer(np.arange(_SHAPE[0]), np.arange(_SHAPE[1])) / sum(_SHAPE)
    stored = np.rint(low + (high - low) * (0.15 + 0.6 * smooth + rng.uniform(0, 0.2, _SHAPE))).astype(np.int64)
    inside = np.s_[:, :]
    if case["frame"] == "constant":
        inside = np.s_[_FRAME[0] : -_FRAME[0], _FRAME[1] : -_FRAME[1]]
        framed = np.full(_SHAPE, rng.choice([low, high]))
        framed[inside] = stored[inside]
        stored = framed
    if colour:
        stored = rng.integers(0, 256, (*_SHAPE, 3))
    header = _header(case, rng, bits, signed, low, high)
    cells = stored.astype(f"{'i' if signed else 'u'}{header.BitsAllocated // 8}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if case["interpretation"] == "YBR_FULL":
            stored = pydicom.pixels.convert_color_space(cells.copy(), "YBR_FULL", "RGB").astype(np.int64)
        lossy_stored = _encode(header, cells, case, rng)
        stream = io.BytesIO()
        _in_byte_order(header, case).save_as(stream, enforce_file_format=True)
        if lossy_stored is None and syntax.lossy:
            lossy_stored = pydicom.pixels.pixel_array(pydicom.dcmread(io.BytesIO(stream.getvalue())))
    return stream.getvalue(), header, stored if lossy_stored is None else lossy_stored.astype(np.int64), inside


def _header(case: Case, rng: np.random.Generator, bits: int, signed: bool, low: int, high: int) -> Dataset:
    header = Dataset()
    header.SOPClassUID, header.Modality = _CLASSES[case["kind"]]
    header.SOPInstanceUID = generate_uid()
    header.Rows, header.Columns = _SHAPE
    header.PhotometricInterpretation = case["interpretation"].replace("segmented palette", "PALETTE COLOR")
    header.SamplesPerPixel = 3 if case["interpretation"] in ("RGB", "YBR_FULL") else 1
    if header.SamplesPerPixel == 3:
        header.PlanarConfiguration = 0
    header.BitsAllocated, header.BitsStored = (8 if bits == 8 else 16), bits
    header.HighBit = header.BitsAllocated - 1 if case["high bit"] == "shifted" else bits - 1
    header.PixelRepresentation = int(signed)
    if case["kind"] == "two frames":
        header.NumberOfFrames = 2
    span = high - low
    as_words = case["syntax"] not in ("explicit", "big endian", "RLE")
    scale, offset = 1.0, 0.0
    if case["modality"].endswith("rescale"):
        scale, offset = (-0.5 if case["modality"] == "falling rescale" else 1.7), 13.0
        header.RescaleSlope, header.RescaleIntercept = str(scale), str(offset)
    elif case["modality"] == "table":
        table = np.sort(rng.integers(0, 4096, min(span + 1, 4000)))
        header.ModalityLUTSequence = [_table(table, low + 3, 12, signed=signed, as_words=as_words)]
    ends = sorted((low * scale + offset, high * scale + offset)) if case["modality"] != "table" else [0.0, 4095.0]
    if case["modality"] == "table" and case["kind"] == "RF":
        ends = [float(low), float(high)]
    if case["voi"] in ("LINEAR", "LINEAR_EXACT", "SIGMOID", "several", "table and window"):
        centre, width = round(sum(ends) / 2, 3), round((ends[1] - ends[0]) * 0.6, 3)
        several = case["voi"] == "several"
        header.WindowCenter, header.WindowWidth = ([centre, 1], [width, 2]) if several else (centre, width)
        if case["voi"] in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            header.VOILUTFunction = case["voi"]
    if case["voi"].startswith("table"):
        depth = 8 if case["voi"] == "table of 8 bits" else 12
        size = int(min(ends[1] - ends[0], 30_000)) + 1
        first = max(-32768, int(ends[0])) + 2
        entries = np.sort(rng.integers(0, 2**depth, size))
        header.VOILUTSequence = [_table(entries, first, depth, signed=ends[0] < 0, as_words=as_words)]
    if case["padding"] != "none":
        header.PixelPaddingValue = low
        if case["padding"] == "range":
            header.PixelPaddingRangeLimit = low + span // 4
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
            if keyword in header:
                header[keyword].VR = "SS" if signed else "US"
    if case["polarity"] != "unsaid":
        header.PresentationLUTShape = case["polarity"]
    if case["relationship"] != "unsaid":
        header.PixelIntensityRelationship = case["relationship"]
        header.PixelIntensityRelationshipSign = int(rng.choice([-1, 1]))
    spacing = {"ratio": "PixelAspectRatio", "spacing": "PixelSpacing", "imager spacing": "ImagerPixelSpacing"}
    if case["aspect"] in spacing:
        sides: list[Any] = [4, 3] if case["aspect"] == "ratio" else ["0.2", "0.3"]
        setattr(header, spacing[case["aspect"]], sides)
    elif case["aspect"] == "spacing of zero":
        header.PixelSpacing = ["0", "0"]
    if case["annotation"] == "burned in":
        header.BurnedInAnnotation = "YES"
    elif case["annotation"] == "overlay":
        header.add_new(0x60000010, "US", _SHAPE[0])
        header.add_new(0x60000011, "US", _SHAPE[1])
        header.add_new(0x60003000, "OW", bytes((_SHAPE[0] * _SHAPE[1] + 15) // 16 * 2))
    if header.PhotometricInterpretation == "PALETTE COLOR":
        _add_palette(header, rng, bits, case["interpretation"] == "segmented palette")
    return header


def _table(entries: np.ndarray, first: int, bits: int, *, signed: bool, as_words: bool) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "SS" if signed and len(entries) < 2**15 else "US"
    if item["LUTDescriptor"].VR == "US":
        item.LUTDescriptor = [len(entries), first % 2**16, bits]
        item["LUTDescriptor"].VR = "US"
    item.LUTData = entries.astype("<u2").tobytes() if as_words else entries.tolist()
    item["LUTData"].VR = "OW" if as_words else "US"
    return item


def _add_palette(header: Dataset, rng: np.random.Generator, bits: int, segmented: bool) -> None:
    for colour in ("Red", "Green", "Blue"):
        setattr(header, f"{colour}PaletteColorLookupTableDescriptor", [200, 5, 16])
        header[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        if segmented:
            start, end = (int(x) for x in rng.integers(0, 65536, 2))
            words, keyword = [0, 1, start, 1, 199, end], f"Segmented{colour}PaletteColorLookupTableData"
        else:
            words, keyword = rng.integers(0, 65536, 200).tolist(), f"{colour}PaletteColorLookupTableData"
        setattr(header, keyword, np.array(words, dtype="<u2").tobytes())
        header[keyword].VR = "OW"


def _encode(header: Dataset, cells: np.ndarray, case: Case, rng: np.random.Generator) -> np.ndarray | None:
    """Puts the pixels in; returns what an independent decoder finds, where the encoding changes them."""
    syntax = SYNTAXES[case["syntax"]]
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax.uid if syntax.native else ExplicitVRLittleEndian
    if case["high bit"] == "shifted":
        cells = cells << (header.BitsAllocated - header.BitsStored)
    elif case["high bit"] == "garbage above":
        unused = rng.integers(0, 2 ** (16 - header.BitsStored), cells.shape) << header.BitsStored
        cells = ((cells.astype(np.int64) & (2**header.BitsStored - 1)) | unused).astype(np.uint16)
    big = case["syntax"] == "big endian"
    data = cells.astype(cells.dtype.newbyteorder(">" if big else "<")).tobytes() * (
        2 if case["kind"] == "two frames" else 1
    )
    header.PixelData = data + b"\0" * (len(data) % 2)
    header["PixelData"].VR = "OB" if header.BitsAllocated == 8 else "OW"
    if syntax.native:
        return None
    if syntax.uid == JPEGBaseline8Bit:
        stream = io.BytesIO()
        Image.fromarray(cells).save(stream, "JPEG", quality=90)
        header.PixelData = encapsulate([stream.getvalue()])
        header.file_meta.TransferSyntaxUID = syntax.uid
        return np.asarray(Image.open(stream))
    if syntax.needs_dcmtk:
        return _encode_by_dcmtk(header, cells, syntax)
    settings: dict[str, Any] = {"JPEG 2000": {"j2k_psnr": [60]}, "JPEG-LS near-lossless": {"jls_error": 2}}.get(
        case["syntax"], {}
    )
    header.compress(syntax.uid, generate_instance_uid=False, **settings)
    return None


def _encode_by_dcmtk(header: Dataset, cells: np.ndarray, syntax: Syntax) -> np.ndarray | None:
    """Compresses the bare pixels, so that DCMTK applies and changes nothing else of the header."""
    bare = Dataset()
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelData"):
        setattr(bare, keyword, header[keyword].value)
    bare.SOPClassUID, bare.SOPInstanceUID, bare.PixelRepresentation = header.SOPClassUID, header.SOPInstanceUID, 0
    bare.PhotometricInterpretation = "MONOCHROME2"
    bare["PixelData"].VR = header["PixelData"].VR
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with tempfile.TemporaryDirectory() as folder:
        plain, packed, unpacked = (str(Path(folder) / name) for name in ("a.dcm", "b.dcm", "c.dcm"))
        bare.save_as(plain, enforce_file_format=True)
        subprocess.run(["dcmcjpeg", "-q", syntax.dcmtk_option, plain, packed], check=True)
        compressed = pydicom.dcmread(packed)
        header.BitsStored = compressed.BitsStored
        header.HighBit = header.BitsStored - 1
        header.PixelData = encapsulate([get_frame(compressed.PixelData, 0, number_of_frames=1)])
        header.file_meta.TransferSyntaxUID = syntax.uid
        if not syntax.lossy:
            return None
        subprocess.run(["dcmdjpeg", "-q", packed, unpacked], check=True)
        return pydicom.dcmread(unpacked).pixel_array


def _in_byte_order(header: Dataset, case: Case) -> Dataset:
    """The data set as it is written: words are put down as they stand, in the byte order of the file."""
    if case["syntax"] != "big endian":
        return header
    swapped = copy.deepcopy(header)
    for element in swapped:
        if element.VR == "OW" and element.keyword != "PixelData":
            element.value = np.frombuffer(element.value, "<u2").astype(">u2").tobytes()
    return swapped
