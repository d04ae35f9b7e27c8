"""Writing images so that nobody, person or machine, can take them for real ones.

Each picture is a PNG that says in its metadata that it is synthetic and what made it, with the same in a JSON file
beside it. The mark is machine-readable in two forms: text chunks, and the IPTC digital source type
`trainedAlgorithmicMedia` in an XMP packet.

Source: EU AI Act (Regulation 2024/1689), article 50(2); IPTC Photo Metadata Standard, Digital Source Type; PNG
specification (third edition), 11.3.3; XMP specification part 3, 1.1.5 (PNG).
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from arra_med.errors import GenerationError
from arra_med.generate.session import DIGITAL_SOURCE_TYPE, SYNTHETIC_NOTICE, GenerationResult
from arra_med.runs import atomic_file, write_json

PROVENANCE_KEY = "arra-med"
"""PNG text chunk that holds the provenance as JSON."""

_TITLES = {
    "cxr": "Synthetic chest X-ray image",
    "fundus": "Synthetic fundus photograph",
    "photo": "Synthetic photograph",
}
_XMP_KEY = "XML:com.adobe.xmp"
_MARK_TEXT = "SYNTHETIC"
_MARK_SHARE = 16  # the visible mark is this part of the image's side in height


def save_images(
    result: GenerationResult,
    folder: Path,
    format: str = "png",  # noqa: A002 (the command line's word)
    *,
    include_report: bool = False,
    visible_mark: bool = False,
) -> list[Path]:
    """Writes each image and its provenance, whole or not at all.

    Files are named by modality and seed, never by the prompt. A file of the same image is written anew; beside another
    one of that name the new one gets a number.

    Args:
        result: The images.
        folder: Where to; made if missing.
        format: `png`.
        include_report: Also store report and prompt in the JSON file; a real report is sensitive.
        visible_mark: Draw the word SYNTHETIC into a corner.

    Returns:
        The PNG and JSON file of each image, in this order.

    Raises:
        GenerationError: If the format is unknown or the folder cannot be written.
    """
    if format != "png":
        raise GenerationError(f"image format {format!r} is unknown: use png")
    written: list[Path] = []
    try:
        for index in range(len(result.images)):
            picture = _marked(result.images[index]) if visible_mark else result.images[index]
            provenance = image_provenance(result, index, picture)
            path = _free_path(folder, f"arra-med_{result.request.modality}_seed{result.seed(index):04d}", provenance)
            report = {"report": result.request.report, "prompt": result.prompt.text} if include_report else {}
            with atomic_file(path) as partial:
                Image.fromarray(picture).save(partial, format="PNG", pnginfo=_text_chunks(result, provenance))
            write_json(path.with_suffix(".json"), {"file": path.name, **provenance, **report})
            written += [path, path.with_suffix(".json")]
    except OSError as error:
        reason, num_written = error.strerror or type(error).__name__, len(written) // 2
        raise GenerationError(
            f"{folder}: an image cannot be written there ({reason}); {num_written} of {len(result.images)} are "
            "complete: free some space or choose another folder"
        ) from error
    return written


def image_provenance(result: GenerationResult, index: int, picture: np.ndarray) -> dict[str, Any]:
    """Returns what made one image: the result's provenance, its own seed, the SHA-256 of its pixels (C order), its check."""
    pixels = hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()
    check = {"check": {**result.checked[index].record(), **result.check}} if result.checked else {}
    return {**result.provenance, "seed": result.seed(index), "pixels_sha256": pixels, **check}


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Returns the provenance that `save_images` wrote into a PNG, or none if the file holds none."""
    try:
        with Image.open(path) as image:
            found = json.loads(getattr(image, "text", {}).get(PROVENANCE_KEY, "null"))
    except (OSError, ValueError, SyntaxError):  # Pillow: SyntaxError for a broken PNG
        return None
    return found if isinstance(found, dict) else None


def _free_path(folder: Path, stem: str, provenance: dict[str, Any]) -> Path:
    for path in _candidates(folder, stem):
        if path.exists():
            if read_provenance(path) == provenance:
                return path
        elif not path.with_suffix(".json").exists():
            return path
    raise AssertionError("candidates never end")


def _candidates(folder: Path, stem: str) -> Iterator[Path]:
    yield folder / f"{stem}.png"
    number = 2
    while True:
        yield folder / f"{stem}_{number}.png"
        number += 1


def _text_chunks(result: GenerationResult, provenance: dict[str, Any]) -> PngImagePlugin.PngInfo:
    title, software = _TITLES[result.request.modality], f"ARRA-Med {provenance['versions']['arra-med']}"
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Title", title)
    chunks.add_text("Software", software)
    chunks.add_text("Disclaimer", SYNTHETIC_NOTICE)
    chunks.add_text("Source", f"{provenance['bundle']['name']}, sha256 {provenance['bundle']['sha256']}")
    chunks.add_text(PROVENANCE_KEY, json.dumps(provenance))
    chunks.add_itxt(_XMP_KEY, _xmp_packet(f"{title}. {SYNTHETIC_NOTICE}", software))
    return chunks


def _xmp_packet(description: str, software: str) -> str:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        '  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"\n'
        f"   xmp:CreatorTool={quoteattr(software)} Iptc4xmpExt:DigitalSourceType={quoteattr(DIGITAL_SOURCE_TYPE)}>\n"
        f'   <dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(description)}</rdf:li></rdf:Alt>'
        "</dc:description>\n"
        "  </rdf:Description>\n"
        " </rdf:RDF>\n"
        "</x:xmpmeta>\n"
        '<?xpacket end="r"?>'
    )


def _marked(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture)
    height = max(8, image.height // _MARK_SHARE)
    white, black = (255, 0) if picture.ndim == 2 else ((255, 255, 255), (0, 0, 0))
    place = (height // 4, image.height - height - height // 4)
    font = ImageFont.load_default(size=height)
    ImageDraw.Draw(image).text(place, _MARK_TEXT, fill=white, font=font, stroke_width=1, stroke_fill=black)
    return np.asarray(image)
