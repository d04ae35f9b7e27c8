"""Commands that use a model bundle: generate, bundle info."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from arra_med.cli.batch_drawing import draw_table, quiet_transformers
from arra_med.cli.check_commands import (
    CheckEncoderOption,
    CheckOption,
    CheckReferenceOption,
    CheckTrainingOption,
    CheckTriesOption,
    open_gate,
    open_table_gate,
    tell_check,
)
from arra_med.cli.options import (
    AcknowledgeOption,
    AddressOption,
    DeviceOption,
    DtypeOption,
    EngineOption,
    OutFolder,
    SeedOption,
    VisibleMarkOption,
    WatermarkOption,
)
from arra_med.cli.report_drawing import draw_report
from arra_med.config import resolve_device
from arra_med.errors import UserError
from arra_med.records.study import AgeGroup, Laterality, Modality, View

bundle_app = typer.Typer(help="Shows and imports model bundles.")

_ONE_SOURCE = "give what to draw once: --report TEXT, --report-file FILE or --prompts FILE.csv"


def generate(
    out: OutFolder,
    report: Annotated[str | None, typer.Option("--report", metavar="TEXT", help="The report.")] = None,
    report_file: Annotated[
        Path | None,
        typer.Option("--report-file", metavar="FILE", help="A text file or a DICOM SR with the report; - reads stdin."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="A table with a column report, and optional ones as the options below."),
    ] = None,
    modality: Annotated[Modality | None, typer.Option(help="What to draw; by default what the bundle draws.")] = None,
    view: Annotated[View | None, typer.Option(help="Projection; by default what the report says.")] = None,
    laterality: Annotated[
        Laterality | None, typer.Option(help="Eye, for fundus photographs; by default what the report says.")
    ] = None,
    age_group: Annotated[AgeGroup | None, typer.Option(help="By default what the report says, else adult.")] = None,
    bundle: Annotated[
        str, typer.Option(metavar="PATH|mini", help="A bundle's folder, or the bundled model of the modality.")
    ] = "mini",
    num_images: Annotated[int, typer.Option("-n", "--num-images", metavar="N", help="How many images.")] = 1,
    seed: SeedOption = 0,
    guidance: Annotated[
        float, typer.Option(metavar="SCALE", help="How strictly to follow the report; 1 is none.")
    ] = 3.0,
    guidance_start: Annotated[
        float | None,
        typer.Option(
            metavar="SCALE", help="Of the first token, going evenly to --guidance at the last; else constant."
        ),
    ] = None,
    temperature: Annotated[float, typer.Option(metavar="T", help="0 takes the likeliest token each time.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(metavar="K", help="Draw from the k likeliest tokens only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Draw from the likeliest tokens that make up this share.")
    ] = None,
    image_format: Annotated[
        str, typer.Option("--format", metavar="png|dicom|png,dicom", help="File formats; DICOM is Secondary Capture.")
    ] = "png",
    visible_mark: VisibleMarkOption = True,
    watermark: WatermarkOption = True,
    backend: Annotated[
        str,
        typer.Option(metavar="NAME", help="Decoder: auto, transformers, cpu, cpu-int8 (smaller weights), cuda-graph."),
    ] = "auto",
    check: CheckOption = False,
    check_tries: CheckTriesOption = None,
    check_reference: CheckReferenceOption = None,
    check_encoder: CheckEncoderOption = None,
    check_training: CheckTrainingOption = None,
    include_report: Annotated[
        bool, typer.Option("--include-report", help="Keep report and prompt in the JSON files; they may be sensitive.")
    ] = False,
    acknowledge_credentialed: AcknowledgeOption = False,
    batch: Annotated[
        int, typer.Option("--batch", min=1, metavar="N", help="Images drawn together; changes none of them.")
    ] = 8,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    engine: EngineOption = "local",
    address: AddressOption = "auto",
) -> None:
    """Draws synthetic images from reports.

    Image i of a report has seed SEED + i; the same seed gives the same image. With --check, an image that is rejected is
    drawn anew with another seed, which its file is named by (a table's files keep the seed that was asked for in their
    names). A table's columns are report, id, modality, view, age_group, laterality, seed, num_images; all but report may
    be missing or empty. Start the same command again to go on after a stop; images.jsonl lists what is finished.

    \b
    Examples:
      arra-med generate --report "PA view. Pleural effusion." -n 4 --out out/
      arra-med generate --report-file report.txt --seed 7 --guidance 2 --out out/
      arra-med generate --modality fundus --report "Right eye. Glaucoma." --format png,dicom --out out/
      arra-med generate --report-file report.txt -n 50 --no-visible-mark --no-watermark --out to_be_judged/
      arra-med generate --report "Normal." -n 8 --check --out out/
      arra-med generate --prompts reports.csv --batch 16 --check --out out/
    """
    rules = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    rules |= {"guidance_scale": guidance, "guidance_start": guidance_start}
    if prompts is not None:
        if report is not None or report_file is not None:
            raise UserError(_ONE_SOURCE)
        cells = {"view": view, "laterality": laterality, "age_group": age_group, "num_images": num_images}
        draw_table(
            prompts,
            out,
            rules=rules,
            cells=cells,
            seed=seed,
            bundle=lambda named: acknowledged_folder(bundle, modality or named, acknowledge_credentialed),
            batch_size=batch,
            device=device or "auto",
            engine=engine,
            address=address,
            backend=backend,
            dtype=dtype,
            export=(image_format, include_report, visible_mark, watermark),
            check=lambda folder, info: open_table_gate(
                check,
                folder,
                info,
                resolve_device(device or "auto"),
                on_cluster=engine == "ray",
                reference=check_reference,
                encoder=check_encoder,
                training=check_training,
                tries=check_tries,
            ),
        )
        return
    if engine != "local":
        raise UserError("--engine ray is for tables: give --prompts FILE.csv, or leave --engine out")
    text = read_report(report, report_file)
    from arra_med.generate.content_credentials import configured_signer
    from arra_med.generate.export import image_formats
    from arra_med.generate.marks import Marks
    from arra_med.generate.session import ReportToImage, request_from_settings
    from arra_med.models.bundle import ModelBundle, read_bundle_info

    image_formats(image_format)  # a mistake here, or in the certificate, is told before the model is opened
    signer = configured_signer()
    folder = acknowledged_folder(bundle, modality, acknowledge_credentialed)
    where, info = resolve_device(device or "auto"), read_bundle_info(folder)
    request = request_from_settings(
        report=text,
        modality=info.modality,
        view=view,
        laterality=laterality,
        age_group=age_group,
        num_images=num_images,
        seed=seed,
        **rules,
    )
    quiet_transformers()
    gate = open_gate(
        check,
        folder,
        info,
        where,
        reference=check_reference,
        encoder=check_encoder,
        training=check_training,
        tries=check_tries,
    )
    loaded = ModelBundle.load(folder, device=where, dtype=dtype)
    session = ReportToImage(loaded, max_batch_images=batch, backend=backend)
    marks = Marks(visible=visible_mark, watermark=watermark)
    export = {"format": image_format, "include_report": include_report, "marks": marks, "signer": signer}
    result = draw_report(session, request, gate, check_tries, out, export)
    if gate is not None:
        tell_check(result)


@bundle_app.command("info")
def bundle_info(
    bundle: Annotated[str, typer.Argument(metavar="PATH|mini", help="A bundle's folder, or the bundled model.")],
    modality: Annotated[Modality | None, typer.Option(help="Which bundled model; by default cxr.")] = None,
) -> None:
    """Checks a bundle and shows what it was made from.

    \b
    Examples:
      arra-med bundle info mini
      arra-med bundle info runs/arra/bundle
    """
    from arra_med.models.bundle import ModelBundle

    quiet_transformers()
    loaded = ModelBundle.load(bundle_folder(bundle, modality))
    typer.echo(loaded.info.model_dump_json(indent=2))
    typer.echo(f"fingerprint: {loaded.fingerprint}")


def read_report(report: str | None, report_file: Path | None) -> str:
    """Returns the text of the one report that was given."""
    if (report is None) == (report_file is None):
        raise UserError(_ONE_SOURCE)
    if report_file is None:
        return report or ""
    from arra_med.sources.report_file import decoded_report, read_report_file

    if str(report_file) == "-":
        return decoded_report(sys.stdin.buffer.read(), "standard input")
    reports = read_report_file(report_file)
    if len(reports) > 1:
        raise UserError(f"{report_file}: is a table of {len(reports)} reports; draw it with --prompts {report_file}")
    return reports[0]


def bundle_folder(bundle: str, modality: Modality | None) -> Path:
    """Returns the folder of a bundle; one that is given by its path decides the modality where none was asked for."""
    from arra_med.models.bundle import read_bundle_info
    from arra_med.models.bundled import find_bundle

    if modality is None and Path(bundle).is_dir():
        return find_bundle(bundle, read_bundle_info(Path(bundle)).modality)
    return find_bundle(bundle, modality or "cxr")


def acknowledged_folder(bundle: str, modality: Modality | None, acknowledged: bool) -> Path:
    """Returns the folder of a bundle whose images may be written, as `bundle_folder` finds it.

    Raises:
        BundleError: If it cannot be found, or is credentialed and nobody has acknowledged that.
    """
    from arra_med.models.bundle import read_bundle_info
    from arra_med.models.licence import check_acknowledged

    folder = bundle_folder(bundle, modality)
    how = "say --acknowledge-credentialed if you have signed it"
    check_acknowledged(read_bundle_info(folder).licence_class, acknowledged, how)
    return folder
