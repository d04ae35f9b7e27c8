"""The page on which people judge images: one HTML file that works from a folder, with no network.

Unlike a report it runs a script, its own one alone: the content security policy names that script's hash and forbids all
requests. Answers leave the page only as a CSV file that the reader saves; `ANSWER_COLUMNS` is its header.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from arra_med.reporting.html import page_file, page_template

ANSWER_COLUMNS = ("set_id", "reader", "image", "real_or_synthetic", "quality", "shows_finding", "comment")
KINDS = ("real", "synthetic")
QUALITIES = ("1", "2", "3", "4", "5")
SHOWN = ("yes", "no", "unsure")


@dataclass(frozen=True)
class ReadingImage:
    """One image of the page.

    Attributes:
        name: Opaque; it stands in the answers.
        png: The file's bytes.
        report: What the image should show; "" where readers are not asked.
    """

    name: str
    png: bytes
    report: str = ""


def reading_page(title: str, banner: str, set_id: str, images: Sequence[ReadingImage], footer: str = "") -> str:
    """Returns the page; the same content gives the same text.

    Args:
        title: Heading and title.
        banner: What a reader must know before anything else; it stays on top of the screen.
        set_id: Names the set in the answers.
        images: In the order of reading. Readers are asked for the finding where the images have reports.
        footer: What made the page.
    """
    script = page_file("reading.js")
    told = {
        "set_id": set_id,
        "asks_finding": any(image.report for image in images),
        "columns": list(ANSWER_COLUMNS),
        "images": [
            {
                "name": image.name,
                "report": image.report,
                "source": f"data:image/png;base64,{base64.b64encode(image.png).decode('ascii')}",
            }
            for image in images
        ],
    }
    return page_template("reading.html.jinja").render(
        title=title,
        banner=banner,
        footer=footer,
        reading_set=told,
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        style=Markup(page_file("report.css") + page_file("reading.css")),
    )
