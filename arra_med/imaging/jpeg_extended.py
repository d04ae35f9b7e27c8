"""JPEG Extended (process 4) with samples of 9 to 12 bits, decoded by GDCM.

pydicom hands such frames to pylibjpeg-libjpeg alone, whose licence (GPL) is not that of this project. GDCM's own reader
decodes them; the values are those of DCMTK.

Source: DICOM PS3.5 8.2.1 and A.4.1; ITU-T T.81 (the process).
"""

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame


def decode_jpeg_extended(header: Dataset) -> NDArray[np.uint16]:
    """Decodes the single frame of an image of one channel.

    Args:
        header: The data set; 9 to 12 bits stored in 16.

    Returns:
        uint16 (rows, columns).

    Raises:
        ValueError: If GDCM cannot decode the frame.
    """
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(get_frame(header.PixelData, 0, number_of_frames=1))
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((int(header.Columns), int(header.Rows), 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    bits_stored = int(header.BitsStored)
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, bits_stored, bits_stored - 1, int(header.PixelRepresentation)))
    # GDCM's buffer is a string whose undecodable bytes Python keeps as surrogates.
    frame = image.GetBuffer().encode("utf-8", "surrogateescape")
    num_bytes = 2 * int(header.Rows) * int(header.Columns)
    if len(frame) != num_bytes:
        raise ValueError("GDCM returned a frame of another size")
    return np.frombuffer(frame, dtype="<u2").reshape(int(header.Rows), int(header.Columns))
