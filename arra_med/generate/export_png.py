"""PNG files that carry their provenance: text chunks, and the IPTC digital source type in an XMP packet.

Source: EU AI Act (Regulation 2024/1689), article 50(2); IPTC Photo Metadata Standard, Digital Source Type; PNG
specification (third edition), 11.3.3; XMP specification part 3, 1.1.5 (PNG).
"""

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image, PngImagePlugin

from arra_med.generate.marks import image_title

PROVENANCE_KEY = "arra-med"
"""PNG text chunk that holds the provenance as JSON."""

_XMP_KEY = "XML:com.adobe.xmp"


def write_png(path: Path, picture: np.ndarray, provenance: dict[str, Any]) -> None:
    """Writes one image.

    Args:
        path: The file.
        picture: uint8 (H, W) or (H, W, 3).
        provenance: What made it; holds no report text.
    """
    Image.fromarray(picture).save(path, format="PNG", pnginfo=_text_chunks(provenance))


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Returns the provenance that `write_png` wrote, or none if the file holds none."""
    try:
        with Image.open(path) as image:
            found = json.loads(getattr(image, "text", {}).get(PROVENANCE_KEY, "null"))
    except (OSError, ValueError, SyntaxError):  # Pillow: SyntaxError for a broken PNG
        return None
    return found if isinstance(found, dict) else None


def has_marks(path: Path) -> bool:
    """Tells whether a file is an image of ours that was exported with marks in its pixels."""
    marks = (read_provenance(path) or {}).get("marks")
    return isinstance(marks, dict) and any(marks.values())


def _text_chunks(provenance: dict[str, Any]) -> PngImagePlugin.PngInfo:
    title, software = image_title(provenance), f"ARRA-Med {provenance['versions']['arra-med']}"
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Title", title)
    chunks.add_text("Software", software)
    chunks.add_text("Disclaimer", provenance["notice"])
    chunks.add_text("Source", f"{provenance['bundle']['name']}, sha256 {provenance['bundle']['sha256']}")
    chunks.add_text(PROVENANCE_KEY, json.dumps(provenance))
    described = f"{title}. {provenance['notice']}"
    chunks.add_itxt(_XMP_KEY, _xmp_packet(described, software, provenance["digital_source_type"]))
    return chunks


def _xmp_packet(description: str, software: str, source_type: str) -> str:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        '  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"\n'
        f"   xmp:CreatorTool={quoteattr(software)} Iptc4xmpExt:DigitalSourceType={quoteattr(source_type)}>\n"
        f'   <dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(description)}</rdf:li></rdf:Alt>'
        "</dc:description>\n"
        "  </rdf:Description>\n"
        " </rdf:RDF>\n"
        "</x:xmpmeta>\n"
        '<?xpacket end="r"?>'
    )
