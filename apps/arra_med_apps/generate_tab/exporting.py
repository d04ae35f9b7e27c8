"""The files that a run of the page gives: as the user wants them, packed, and sent."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from arra_med.errors import GenerationError, SendingError
from arra_med.generate.content_credentials import configured_signer
from arra_med.generate.destinations import find_destination, list_path
from arra_med.generate.export import save_images
from arra_med.generate.marks import Marks
from arra_med.generate.sending import dicom_files, send_files
from arra_med.generate.session import GenerationResult
from arra_med.models.licence import check_acknowledged
from arra_med_apps import words
from arra_med_apps.generate_tab import presenting
from arra_med_apps.generate_tab import words as own_words


@dataclass(frozen=True)
class ExportForm:
    """What the user wants of the files.

    Attributes:
        formats: `png`, `dicom` or both.
        visible_mark: Whether SYNTHETIC stands in the corner.
        keep_report: Whether the record holds the report's text.
        acknowledged: Whether the user has agreed to what a credentialed bundle asks for.
    """

    formats: Sequence[str] = ("png",)
    visible_mark: bool = True
    keep_report: bool = False
    acknowledged: bool = False


@dataclass(frozen=True)
class ExportedFiles:
    """Files that live as long as the context in which they were made.

    Attributes:
        shown: The pictures for the gallery, one for each image.
        files: All that were asked for, with their records.
        archive: All of them in one ZIP file.
    """

    shown: list[Path]
    files: list[Path]
    archive: Path


@contextmanager
def exported(result: GenerationResult, licence_class: str, form: ExportForm) -> Iterator[ExportedFiles]:
    """Writes the files into a private folder that is gone after the context.

    Raises:
        BundleError: If the model is credentialed and the user has not agreed.
        GenerationError: If no format is chosen, the disk is full, or the certificate fails.
    """
    check_acknowledged(licence_class, form.acknowledged, "tick the acknowledgement under 'Files to take away'")
    if not form.formats:
        raise GenerationError(own_words.NOTHING_TO_EXPORT)
    with tempfile.TemporaryDirectory(prefix="arra-med-") as folder:
        files = save_images(
            result,
            Path(folder) / "files",
            format=",".join(form.formats),
            include_report=form.keep_report,
            marks=Marks(visible=form.visible_mark),
            signer=configured_signer(),
        )
        request = result.request
        archive = Path(folder) / f"arra-med_{request.modality}_seed{request.seed}_{len(result.images)}.zip"
        presenting.write_archive(files, archive, words.BANNER)
        shown = [file for file in files if file.suffix == ".png"]
        if not shown:
            shown = [file for file in save_images(result, Path(folder) / "shown") if file.suffix == ".png"]
        yield ExportedFiles(shown, files, archive)


def send(files: Sequence[str], destination: str, confirmed: bool) -> str:
    """Sends the DICOM files of a run to a destination of the list.

    Returns:
        What was done, in a sentence.

    Raises:
        SendingError: If nobody confirmed, there is no DICOM file, or the destination does not take one.
    """
    if not confirmed:
        raise SendingError(own_words.SEND_UNCONFIRMED)
    dicom = [Path(file) for file in files or () if file.endswith(".dcm")]
    if not dicom:
        raise SendingError(own_words.SEND_NO_DICOM)
    found = find_destination(destination, list_path())
    sent = list(send_files(dicom_files(dicom), found))
    return own_words.SENT.format(count=len(sent), address=found.address)
