"""Compares the DICOM pipeline with a slow reference on thousands of made files, and on every real file at hand.

    python benchmarks/pixel_pairs.py                              # 3,000 made files
    python benchmarks/pixel_pairs.py --real DATA/dicom            # a Markdown table of the real ones

The made files cover every possible pair of two choices (storage class, bits, sign, modality LUT, VOI, padding,
polarity, transfer syntax, proportions, frame, ...) in each of several seeded sets. Without DCMTK's `dcmcjpeg`, JPEG
lossless and extended files are left out, and the output says so.
"""

import argparse
import csv
import io
import itertools
import random
import shutil
import subprocess
import tempfile
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pydicom
from dicom_cases import encoded_case
from dicom_choices import FACTORS, SYNTAXES, Case, expected_refusal, is_possible
from pixel_reference import reference_pixels

from arra_med.errors import ImageError
from arra_med.imaging.border import inside_border
from arra_med.imaging.dicom import decode_dicom_bytes
from arra_med.imaging.rules import ReadingRules

_CANDIDATES = 12
_ALL_ALLOWED = ReadingRules(allow_for_processing=True, allow_burned_in=True)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_EQUAL = "equal to the reference"
_RADIOGRAPHS = ("CR", "DX", "RG", "RF", "OT", "SC", "")


def covering_set(factors: dict[str, tuple[str, ...]], seed: int) -> list[Case]:
    """Returns cases in which every possible pair of choices of two factors occurs, made greedily."""
    rng = random.Random(seed)
    names = list(factors)
    open_pairs = {((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in factors[a] for y in factors[b]}
    cases = []
    while open_pairs:
        pair = min(open_pairs)
        drawn = ({name: rng.choice(factors[name]) for name in names} | dict(pair) for _ in range(400))
        candidates = list(itertools.islice(filter(is_possible, drawn), _CANDIDATES))
        if not candidates:
            open_pairs.remove(pair)
            continue
        best = max(candidates, key=lambda case: len(_pairs(case, names) & open_pairs))
        open_pairs -= _pairs(best, names)
        cases.append(best)
    return cases


def _pairs(case: Case, names: list[str]) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    return {((a, case[a]), (b, case[b])) for a, b in itertools.combinations(names, 2)}


def compare_made_files(least: int) -> None:
    """Makes at least so many files, decodes them, and prints what was found."""
    has_dcmtk = shutil.which("dcmcjpeg") is not None
    syntaxes = tuple(name for name in FACTORS["syntax"] if has_dcmtk or not SYNTAXES[name].needs_dcmtk)
    factors = FACTORS | {"syntax": syntaxes}
    outcomes: Counter[str] = Counter()
    by_syntax: defaultdict[str, list[float]] = defaultdict(list)
    failures, seed, num_sets = [], 0, 0
    while outcomes.total() < least:
        num_sets += 1
        for case in covering_set(factors, num_sets):
            seed += 1
            data, header, stored, inside = encoded_case(case, seed)
            expected = expected_refusal(case)
            rules = _ALL_ALLOWED if case["rules"] == "all allowed" else ReadingRules()
            modality = "fundus" if case["kind"] == "OP" else "cxr"
            try:
                pixels = decode_dicom_bytes(data, modality, rules).pixels
            except ImageError as error:
                outcomes[f"refused: {error.reason}"] += 1
                if error.reason != expected:
                    failures.append((seed, case, f"{error.reason} instead of {expected}: {error}"))
                continue
            deviation = _deviation(pixels, reference_pixels(header, stored, inside, luma=modality == "cxr"))
            outcomes["compared"] += 1
            by_syntax[case["syntax"]].append(deviation)
            if expected is not None or deviation > 1:
                failures.append((seed, case, f"{deviation:.3f} grey levels; expected {expected or 'pixels'}"))
    print(f"{outcomes.total()} files in {num_sets} covering sets{'' if has_dcmtk else ' (no DCMTK: no JPEG lossless)'}")
    for outcome, count in sorted(outcomes.items()):
        print(f"  {outcome}: {count}")
    print("largest deviation in grey levels of 255, by transfer syntax:")
    for syntax, deviations in sorted(by_syntax.items()):
        print(f"  {syntax}: {max(deviations):.5f} over {len(deviations)} files")
    print(f"{len(failures)} failures")
    for failure in failures[:20]:
        print(" ", *failure)


def compare_real_files(folder: Path) -> None:
    """Prints a Markdown table of the files that `files.csv` lists, by class and outcome.

    The files of other kinds in `codec_matrix` are read once as they are, which must refuse them, and once more with
    their storage class changed to secondary capture, so that their codecs are compared too.
    """
    rows: defaultdict[tuple[str, str, str], list[float | None]] = defaultdict(list)
    for entry in csv.DictReader((folder / "files.csv").open(encoding="utf-8", newline="")):
        data = (folder / entry["path"]).read_bytes()
        outcome, deviation = _real_outcome(data)
        rows[entry["group"], entry["transfer_syntax"], f"{outcome} ({_is_right(outcome, entry)})"].append(deviation)
        if outcome == "not_a_projection_xray":
            relabelled = _relabelled(data)
            if relabelled is None:
                continue
            outcome, deviation = _real_outcome(relabelled)
            group = f"{entry['group']}, relabelled as secondary capture"
            rows[group, entry["transfer_syntax"], f"{outcome} ({_is_right(outcome, entry, relabelled=True)})"].append(
                deviation
            )
    print("| group | transfer syntax | outcome | files | largest deviation (grey levels of 255) |")
    print("| --- | --- | --- | --- | --- |")
    for (group, syntax, outcome), deviations in sorted(rows.items()):
        measured = [deviation for deviation in deviations if deviation is not None]
        largest = f"{max(measured):.4f}" if measured else ""
        print(f"| {group} | {syntax} | {outcome} | {len(deviations)} | {largest} |")


def _real_outcome(data: bytes) -> tuple[str, float | None]:
    try:
        decoded = decode_dicom_bytes(data, "cxr")
    except ImageError as error:
        return error.reason or "unknown", None
    header = decoded.header
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stored = pydicom.pixels.pixel_array(header)
        except (RuntimeError, ValueError):
            stored = _stored_by_dcmtk(data)
        inside = inside_border(stored) if stored.ndim == 2 else np.s_[:, :]
        reference = reference_pixels(header, stored, inside, luma=True)
    deviation = _deviation(decoded.pixels, reference)
    return _EQUAL if deviation <= 1 else "differs from the reference", deviation


def _stored_by_dcmtk(data: bytes) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        packed, unpacked = Path(folder) / "a.dcm", Path(folder) / "b.dcm"
        packed.write_bytes(data)
        subprocess.run(["dcmdjpeg", "-q", str(packed), str(unpacked)], check=True)
        return np.asarray(pydicom.pixels.pixel_array(unpacked))


def _is_right(outcome: str, entry: dict[str, str], *, relabelled: bool = False) -> str:
    """Whether an outcome fits what `files.csv` knows of a file."""
    another_kind = not relabelled and entry["modality"] not in _RADIOGRAPHS
    if entry["pydicom_decodes"] == "no PixelData":
        expected = {"no_pixels", "truncated"}
    elif another_kind:
        expected = {"not_a_projection_xray"}
    elif entry["frames"] not in ("", "0", "1"):
        expected = {"multi_frame", "not_a_projection_xray"}
    elif entry["bits"].split("/")[0] not in ("8", "16") and "RGB" not in entry["photometric"]:
        expected = {"decode_failed"}
    else:
        expected = {_EQUAL} | (set() if relabelled else {"not_a_projection_xray"})
    if entry["pydicom_decodes"].startswith("FAIL"):  # damaged, or decoded by a codec that its list was made without
        expected |= {_EQUAL, "decode_failed", "truncated", "unsupported_transfer_syntax"}
    return "as expected" if outcome in expected else f"UNEXPECTED, not {' or '.join(sorted(expected))}"


def _relabelled(data: bytes) -> bytes | None:
    """The same file as a secondary capture of modality OT, unless pydicom cannot write it again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(io.BytesIO(data), force=True)
        header.SOPClassUID, header.Modality = _SECONDARY_CAPTURE, "OT"
        stream = io.BytesIO()
        try:
            header.save_as(stream)
        except (ValueError, AttributeError, TypeError):
            return None
    return stream.getvalue()


def _deviation(pixels: np.ndarray, reference: np.ndarray) -> float:
    if pixels.shape != reference.shape:
        return float("inf")
    return float(np.abs(pixels.astype(np.float64) - reference).max() * 255)


def main() -> None:
    """Runs the comparison that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-files", type=int, default=3000, help="least number of made files")
    parser.add_argument("--real", type=Path, help="folder with files.csv: compare its files instead")
    arguments = parser.parse_args()
    if arguments.real:
        compare_real_files(arguments.real)
    else:
        compare_made_files(arguments.num_files)


if __name__ == "__main__":
    main()
