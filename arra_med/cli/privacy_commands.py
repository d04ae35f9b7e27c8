"""Commands about identity: de-identified copies of DICOM files, and the key of the pseudonyms."""

from pathlib import Path
from typing import Annotated

import typer

from arra_med.cli.options import OutFolder


def deidentify(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="A DICOM file, or a folder of them.")],
    out: OutFolder,
    allow_burned_in: Annotated[
        bool,
        typer.Option(
            "--allow-burned-in", help="Copy also images whose pixels may hold text: look at every one of them first."
        ),
    ] = False,
) -> None:
    """Writes de-identified copies of DICOM files.

    Headers follow DICOM PS3.15, Basic Application Level Confidentiality Profile; dates move by the same number of days
    for all files of a patient. Pixels are copied as they are. Names, UIDs and patient ids become keyed pseudonyms.
    audit.jsonl lists what was taken out, never a value; paths.jsonl and quarantine.jsonl hold real paths and are
    readable by you alone. Start the same command again to go on after a stop.

    \b
    Example:
      arra-med deidentify dicom_folder/ --out copies/
    """
    from arra_med.corpus.deidentified_copies import write_deidentified_copies
    from arra_med.records.pseudonym import Pseudonymizer, load_or_create_key

    pseudonymizer = Pseudonymizer(load_or_create_key())
    report = write_deidentified_copies(source, out, pseudonymizer, allow_burned_in=allow_burned_in)
    typer.echo(f"{report.written} copies in {out}, {report.kept} of them kept from an earlier run")
    if report.quarantined:
        named = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items())
        typer.echo(f"{report.quarantined} files without a copy (see quarantine.jsonl): {named}")


def key(
    rotate: Annotated[bool, typer.Option("--rotate", help="Put a new key in its place; the old one is kept.")] = False,
) -> None:
    """Shows where the pseudonym key lies, and its id.

    All pseudonyms and date shifts come from this key: who has it can confirm a guessed identifier, so it never leaves
    this machine. With a new key the same patient gets another id, so that study sets made before and after cannot be
    joined. Rotate it between projects, not within one.

    \b
    Examples:
      arra-med key
      arra-med key --rotate
    """
    from arra_med.records.pseudonym import (
        KEY_FILE_VARIABLE,
        Pseudonymizer,
        key_path,
        load_or_create_key,
        rotate_key,
    )

    path = key_path()
    if not rotate and not path.exists():
        typer.echo(f"{path}: no key yet; the first command that needs one makes it")
        return
    if rotate:
        old_id, old_path = Pseudonymizer(load_or_create_key()).key_id, rotate_key()
        typer.echo(f"{old_path}: the old key, key id {old_id}")
    typer.echo(f"{path}: the key in use, key id {Pseudonymizer(load_or_create_key()).key_id}, mode 0600")
    if rotate:
        typer.echo(
            "Pseudonyms and date shifts are other ones from now on: make study sets and copies anew that belong "
            f"together, or set {KEY_FILE_VARIABLE} to the old key to go on with old ones. Delete the old key when "
            "nobody has to recognise a patient in them any more."
        )
