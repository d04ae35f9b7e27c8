"""Commands that use a model bundle: generate, app, bundle info."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arra_med.cli.batch_drawing import draw_table, quiet_transformers
from arra_med.cli.check_commands import (
    CheckEncoderOption,
    CheckOption,
    CheckReferenceOption,
    CheckTrainingOption,
    CheckTriesOption,
    open_gate,
    tell_check,
)
from arra_med.cli.options import (
    AddressOption,
    DeviceOption,
    EngineOption,
    OutFolder,
    SeedOption,
    VisibleMarkOption,
    WatermarkOption,
)
from arra_med.config import resolve_device
from arra_med.errors import ReportError, UserError
from arra_med.records.study import AgeGroup, Laterality, Modality, View

if TYPE_CHECKING:
    from arra_med.generate.checking import ImageCheck
    from arra_med.generate.session import GenerationRequest, GenerationResult, ReportToImage

bundle_app = typer.Typer(help="Shows and imports model bundles.")

_MAX_REPORT_BYTES = 1_000_000
_ONE_SOURCE = "give what to draw once: --report TEXT, --report-file FILE or --prompts FILE.csv"


def generate(
    out: OutFolder,
    report: Annotated[str | None, typer.Option("--report", metavar="TEXT", help="The report.")] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report-file", metavar="FILE", help="A text file with the report; - reads stdin.")
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
        str, typer.Option(metavar="NAME", help="Decoder: auto, transformers, cpu, or cpu-int8 (smaller weights).")
    ] = "auto",
    check: CheckOption = False,
    check_tries: CheckTriesOption = None,
    check_reference: CheckReferenceOption = None,
    check_encoder: CheckEncoderOption = None,
    check_training: CheckTrainingOption = None,
    include_report: Annotated[
        bool, typer.Option("--include-report", help="Keep report and prompt in the JSON files; they may be sensitive.")
    ] = False,
    batch: Annotated[
        int, typer.Option("--batch", min=1, metavar="N", help="Images drawn together; changes none of them.")
    ] = 8,
    device: DeviceOption = None,
    engine: EngineOption = "local",
    address: AddressOption = "auto",
) -> None:
    """Draws synthetic images from reports.

    Image i of a report has seed SEED + i; the same seed gives the same image. With --check, an image that is rejected is
    drawn anew with another seed, which its file is named by. A table's columns are report, id,
    modality, view, age_group, laterality, seed, num_images; all but report may be missing or empty. Start the same
    command again to go on after a stop; images.jsonl lists what is finished.

    \b
    Examples:
      arra-med generate --report "PA view. Pleural effusion." -n 4 --out out/
      arra-med generate --report-file report.txt --seed 7 --guidance 2 --out out/
      arra-med generate --modality fundus --report "Right eye. Glaucoma." --format png,dicom --out out/
      arra-med generate --report-file report.txt -n 50 --no-visible-mark --no-watermark --out to_be_judged/
      arra-med generate --report "Normal." -n 8 --check --out out/
      arra-med generate --prompts reports.csv --batch 16 --out out/
    """
    if prompts is not None:
        if report is not None or report_file is not None:
            raise UserError(_ONE_SOURCE)
        if check:
            raise UserError("--check is for single reports: leave it out, or draw the table's reports one by one")
        rules = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance_scale": guidance}
        cells = {"view": view, "laterality": laterality, "age_group": age_group, "num_images": num_images}
        draw_table(
            prompts,
            out,
            rules=rules,
            cells=cells,
            seed=seed,
            bundle=lambda named: _bundle_folder(bundle, modality or named),
            batch_size=batch,
            device=device or "auto",
            engine=engine,
            address=address,
            backend=backend,
            export=(image_format, include_report, visible_mark, watermark),
        )
        return
    if engine != "local":
        raise UserError("--engine ray is for tables: give --prompts FILE.csv, or leave --engine out")
    text = _read_report(report, report_file)
    from arra_med.generate.content_credentials import configured_signer
    from arra_med.generate.export import image_formats, save_images
    from arra_med.generate.marks import Marks
    from arra_med.generate.session import ReportToImage, request_from_settings
    from arra_med.models.bundle import ModelBundle, read_bundle_info

    image_formats(image_format)  # a mistake here, or in the certificate, is told before the model is opened
    signer = configured_signer()
    folder = _bundle_folder(bundle, modality)
    where, info = resolve_device(device or "auto"), read_bundle_info(folder)
    request = request_from_settings(
        report=text,
        modality=info.modality,
        view=view,
        laterality=laterality,
        age_group=age_group,
        num_images=num_images,
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        guidance_scale=guidance,
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
    session = ReportToImage(ModelBundle.load(folder, device=where), max_batch_images=batch, backend=backend)
    for notice in session.prompt(request).notices:
        typer.echo(f"note: {notice}", err=True)
    result = _draw(session, request, gate, check_tries)
    marks = Marks(visible=visible_mark, watermark=watermark)
    for path in save_images(
        result, out, format=image_format, include_report=include_report, marks=marks, signer=signer
    ):
        typer.echo(str(path))
    if gate is not None:
        tell_check(result)


def app_command(
    bundle: Annotated[
        str, typer.Option(metavar="PATH|mini", help="A bundle's folder; by default the bundled models.")
    ] = "mini",
    host: Annotated[str, typer.Option(help="Address to serve on; the default is this computer alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 7860,
    open_browser: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open a browser; by default where there is a screen.")
    ] = None,
) -> None:
    """Opens the app in a browser.

    Paste a report, watch an image appear; works offline.

    \b
    Examples:
      arra-med app
      arra-med app --bundle runs/arra/bundle --port 8000 --no-open
    """
    quiet_transformers()
    from arra_med_apps.app import launch

    folder = None if bundle == "mini" else _bundle_folder(bundle, None)
    launch(folder, host, port, _has_screen() if open_browser is None else open_browser)


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
    loaded = ModelBundle.load(_bundle_folder(bundle, modality))
    typer.echo(loaded.info.model_dump_json(indent=2))
    typer.echo(f"fingerprint: {loaded.fingerprint}")


def _draw(
    session: "ReportToImage", request: "GenerationRequest", gate: "ImageCheck | None", tries: int | None
) -> "GenerationResult":
    """Returns the finished images; a progress bar on standard error follows the tokens."""
    from tqdm import tqdm

    from arra_med.generate.checked_images import stream_checked
    from arra_med.generate.checking import DEFAULT_TRIES

    if gate is None:
        updates = session.stream(request, partial_images=False)
    else:
        updates = stream_checked(session, request, gate, DEFAULT_TRIES if tries is None else tries, False)
    with tqdm(total=100, desc="drawing", unit="%", bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}") as bar:
        for update in updates:
            bar.update(round(100 * update.progress) - bar.n)
            if update.result is not None:
                return update.result
    raise AssertionError("a stream ends with a result")


def _read_report(report: str | None, report_file: Path | None) -> str:
    if (report is None) == (report_file is None):
        raise UserError(_ONE_SOURCE)
    if report_file is None:
        return report or ""
    try:
        raw = sys.stdin.buffer.read() if str(report_file) == "-" else report_file.read_bytes()
    except OSError as error:
        raise ReportError(f"{report_file}: cannot be read ({error.strerror}); give an existing text file") from None
    if len(raw) > _MAX_REPORT_BYTES:
        raise ReportError(f"{report_file}: is larger than {_MAX_REPORT_BYTES:,} bytes; a report is a page of text")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ReportError(f"{report_file}: is not UTF-8 text; save the report as plain UTF-8 text") from None


def _bundle_folder(bundle: str, modality: Modality | None) -> Path:
    """Returns the folder of a bundle; one that is given by its path decides the modality where none was asked for."""
    from arra_med.models.bundle import read_bundle_info
    from arra_med.models.bundled import find_bundle

    if modality is None and Path(bundle).is_dir():
        return find_bundle(bundle, read_bundle_info(Path(bundle)).modality)
    return find_bundle(bundle, modality or "cxr")


def _has_screen() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
