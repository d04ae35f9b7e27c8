"""Makes the files of a layout: tables as they are published, and images that decode."""

import csv
import gzip

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from arra_med.records.pseudonym import Pseudonymizer


@pytest.fixture
def pseudonymizer():
    return Pseudonymizer(bytes(32))


@pytest.fixture
def write_table(tmp_path):
    """Writes rows (mappings) as a CSV table, gzipped if the name ends with .gz."""

    def write(name, rows, columns=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with (gzip.open if name.endswith(".gz") else open)(path, "wt", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns or list(rows[0]), restval="")
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


@pytest.fixture
def write_image(tmp_path):
    """Writes an image of noise; a folder that is missing is made."""

    def write(name, size=(40, 48)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)
        Image.fromarray(pixels).save(path, "PNG" if path.suffix == ".png" else "JPEG")
        return path

    return write


@pytest.fixture
def write_dicom(tmp_path):
    """Writes a computed radiograph with the given header."""

    def write(name, **header):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        dataset.Modality = "CR"
        for keyword, value in header.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
        return path

    return write
