"""Commands that ask what a model makes of a report: edit, counterfactual, explain."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arra_med.cli.batch_drawing import quiet_transformers
from arra_med.cli.model_commands import acknowledged_folder, read_report
from arra_med.cli.options import (
    AcknowledgeOption,
    BurnedInOption,
    DeviceOption,
    ForProcessingOption,
    OutFolder,
    SeedOption,
    VisibleMarkOption,
    WatermarkOption,
)
from arra_med.config import resolve_device
from arra_med.errors import UserError
from arra_med.records.study import AgeGroup, Laterality, Modality, View

if TYPE_CHECKING:
    from arra_med.generate.session import ReportToImage

ReportOption = Annotated[str | None, typer.Option("--report", metavar="TEXT", help="The report.")]
ReportFileOption = Annotated[
    Path | None, typer.Option("--report-file", metavar="FILE", help="A text file with the report; - reads stdin.")
]
ModalityOption = Annotated[Modality | None, typer.Option(help="What to draw; by default what the bundle draws.")]
ViewOption = Annotated[View | None, typer.Option(help="Projection; by default what the report says.")]
EyeOption = Annotated[Laterality | None, typer.Option("--laterality", help="Eye; by default what the report says.")]
AgeOption = Annotated[AgeGroup | None, typer.Option(help="By default what the report says, else adult.")]
BundleOption = Annotated[
    str, typer.Option(metavar="PATH|mini", help="A bundle's folder, or the bundled model of the modality.")
]
GuidanceOption = Annotated[float, typer.Option(metavar="SCALE", help="How strictly to follow the report; 1 is none.")]
TemperatureOption = Annotated[float, typer.Option(metavar="T", help="0 takes the likeliest token each time.")]
TopKOption = Annotated[int | None, typer.Option(metavar="K", help="Draw from the k likeliest tokens only.")]
FormatOption = Annotated[
    str, typer.Option("--format", metavar="png|dicom|png,dicom", help="File formats; DICOM is Secondary Capture.")
]
IncludeReportOption = Annotated[
    bool, typer.Option("--include-report", help="Keep report and prompt in the JSON files; they may be sensitive.")
]
BackendOption = Annotated[str, typer.Option(metavar="NAME", help="Decoder: auto, transformers, cpu, or cpu-int8.")]


def edit(
    out: OutFolder,
    report: ReportOption = None,
    report_file: ReportFileOption = None,
    new_report: Annotated[
        str | None,
        typer.Option("--new-report", metavar="TEXT", help="What the region is to follow instead of the report."),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A PNG, JPEG or DICOM file to edit; else the report's own image is drawn first."
        ),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="L,T,R,B", help="Region: left, top, right and bottom in pixels of the model's picture."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Region of any shape: white where the picture is drawn anew.")
    ] = None,
    tries: Annotated[int, typer.Option("-n", "--tries", metavar="N", help="How many edits, with seeds SEED + i.")] = 4,
    seed: SeedOption = 0,
    modality: ModalityOption = None,
    view: ViewOption = None,
    laterality: EyeOption = None,
    age_group: AgeOption = None,
    bundle: BundleOption = "mini",
    guidance: GuidanceOption = 3.0,
    temperature: TemperatureOption = 1.0,
    top_k: TopKOption = None,
    keep_outside: Annotated[
        bool,
        typer.Option(
            "--keep-outside/--decode-all",
            help="Leave every pixel outside the region as it was; else all of the picture is decoded from its tokens.",
        ),
    ] = True,
    image_format: FormatOption = "png",
    visible_mark: VisibleMarkOption = True,
    watermark: WatermarkOption = True,
    include_report: IncludeReportOption = False,
    acknowledge_credentialed: AcknowledgeOption = False,
    backend: BackendOption = "auto",
    allow_for_processing: ForProcessingOption = False,
    allow_burned_in: BurnedInOption = False,
    device: DeviceOption = None,
) -> None:
    """Draws a region of an image anew.

    The image tokens that the region touches are drawn again, as a report asks; all others stay. The model cannot see
    what was kept below and to the right, so several tries are ranked by how likely it finds those parts then: the files
    come best first. An edited file may show a patient, and is written as PNG for its owner alone.

    \b
    Examples:
      arra-med edit --report "PA view. Normal." --new-report "PA view. Effusion." --box 0,64,64,128 --out out/
      arra-med edit --image chest.dcm --report "PA view. Pleural effusion." --mask region.png -n 8 --out out/
    """
    text = read_report(report, report_file)
    if (box is None) == (mask is None):
        raise UserError("give the region once: --box LEFT,TOP,RIGHT,BOTTOM or --mask FILE.png")
    from arra_med.generate.content_credentials import configured_signer
    from arra_med.generate.editing import EDITED_NOTICE, LIMIT, file_original, generated_original, stream_edits
    from arra_med.generate.export import image_formats, save_images
    from arra_med.generate.marks import Marks
    from arra_med.generate.region import box_mask, read_mask, touched_cells
    from arra_med.imaging.rules import ReadingRules

    image_formats(image_format)
    signer = configured_signer()
    session = _open(bundle, modality, acknowledge_credentialed, device, backend)
    size_px = session.bundle.spec.size_px
    region = box_mask(_box(box), size_px) if box is not None else read_mask(mask or Path(), size_px)
    cells = touched_cells(region, session.bundle.layout.grid)
    settings: dict[str, Any] = {"view": view, "laterality": laterality, "age_group": age_group, "seed": seed}
    settings |= {"temperature": temperature, "top_k": top_k, "guidance_scale": guidance}
    request = _request(session, text if new_report is None else new_report, tries, settings)
    _tell(session.prompt(request).notices)
    if image is not None:
        rules = ReadingRules(allow_for_processing=allow_for_processing, allow_burned_in=allow_burned_in)
        original = file_original(session, image, rules)
        _tell((EDITED_NOTICE,))
    else:
        original = generated_original(session.generate(_request(session, text, 1, settings)))
    _tell((LIMIT,))
    result = _finished(stream_edits(session, request, original, cells, keep_outside=keep_outside))
    for path in save_images(
        result,
        out,
        image_format,
        name="edit",
        replace=False,
        include_report=include_report,
        marks=Marks(visible=visible_mark, watermark=watermark),
        signer=signer,
    ):
        typer.echo(str(path))


def counterfactual(
    out: OutFolder,
    edited_report: Annotated[str, typer.Option("--edited-report", metavar="TEXT", help="The report's edited text.")],
    report: ReportOption = None,
    report_file: ReportFileOption = None,
    num_images: Annotated[int, typer.Option("-n", "--num-images", metavar="N", help="How many pairs.")] = 1,
    seed: SeedOption = 0,
    modality: ModalityOption = None,
    view: ViewOption = None,
    laterality: EyeOption = None,
    age_group: AgeOption = None,
    bundle: BundleOption = "mini",
    guidance: GuidanceOption = 3.0,
    temperature: TemperatureOption = 1.0,
    top_k: TopKOption = None,
    image_format: FormatOption = "png",
    visible_mark: VisibleMarkOption = True,
    watermark: WatermarkOption = True,
    include_report: IncludeReportOption = False,
    acknowledge_credentialed: AcknowledgeOption = False,
    backend: BackendOption = "auto",
    device: DeviceOption = None,
) -> None:
    """Draws a report and an edited one with the same seeds.

    Each pair is written with a board that shows both pictures and a map of their difference. The map shows pixels, no
    cause.

    \b
    Examples:
      arra-med counterfactual --report "PA view. Normal." --edited-report "PA view. Cardiomegaly." -n 4 --out out/
    """
    text = read_report(report, report_file)
    from arra_med.generate.content_credentials import configured_signer
    from arra_med.generate.counterfactual import LIMIT, save_counterfactual, stream_counterfactual
    from arra_med.generate.export import image_formats
    from arra_med.generate.marks import Marks

    image_formats(image_format)
    signer = configured_signer()
    session = _open(bundle, modality, acknowledge_credentialed, device, backend)
    settings: dict[str, Any] = {"view": view, "laterality": laterality, "age_group": age_group, "seed": seed}
    settings |= {"temperature": temperature, "top_k": top_k, "guidance_scale": guidance}
    request = _request(session, text, num_images, settings)
    _tell(session.prompt(request).notices)
    pairs = _finished(stream_counterfactual(session, request, edited_report))
    _tell((*pairs.notices, LIMIT))
    marks = Marks(visible=visible_mark, watermark=watermark)
    for path in save_counterfactual(
        pairs, out, image_format, include_report=include_report, marks=marks, signer=signer
    ):
        typer.echo(str(path))


def explain(
    out: OutFolder,
    report: ReportOption = None,
    report_file: ReportFileOption = None,
    num_images: Annotated[
        int, typer.Option("-n", "--num-images", metavar="N", help="Images to measure on; more find smaller effects.")
    ] = 8,
    seed: SeedOption = 0,
    modality: ModalityOption = None,
    view: ViewOption = None,
    laterality: EyeOption = None,
    age_group: AgeOption = None,
    bundle: BundleOption = "mini",
    guidance: GuidanceOption = 3.0,
    temperature: TemperatureOption = 1.0,
    top_k: TopKOption = None,
    image_format: FormatOption = "png",
    visible_mark: VisibleMarkOption = True,
    watermark: WatermarkOption = True,
    include_report: IncludeReportOption = False,
    acknowledge_credentialed: AcknowledgeOption = False,
    backend: BackendOption = "auto",
    device: DeviceOption = None,
) -> None:
    """Tells which phrases of a report the model ignored.

    Each phrase is left out at the same image tokens; what that does to their likelihood is set against other wordings
    of the whole report. explanation.html shows the prompt and is for its owner alone; the JSON files hold the phrases'
    words with --include-report only.

    \b
    Examples:
      arra-med explain --report "PA view. Large left pleural effusion." --out out/
      arra-med explain --modality fundus --report "Left eye. Severe glaucoma." -n 16 --out out/
    """
    text = read_report(report, report_file)
    from arra_med.evaluate.phrase_effect import LIMIT, RULE, stream_explanation
    from arra_med.evaluate.phrase_page import effect_rows, noise_in_words, save_explanation
    from arra_med.generate.content_credentials import configured_signer
    from arra_med.generate.export import image_formats
    from arra_med.generate.marks import Marks

    image_formats(image_format)
    signer = configured_signer()
    session = _open(bundle, modality, acknowledge_credentialed, device, backend)
    settings: dict[str, Any] = {"view": view, "laterality": laterality, "age_group": age_group, "seed": seed}
    settings |= {"temperature": temperature, "top_k": top_k, "guidance_scale": guidance}
    request = _request(session, text, num_images, settings)
    _tell(session.prompt(request).notices)
    explanation = _finished(stream_explanation(session, request))
    _tell((*explanation.notices, noise_in_words(explanation), RULE, LIMIT))
    for number, row in enumerate(effect_rows(explanation), start=1):
        typer.echo(f"phrase {number} ({row[5]}): {row[2]} nats an image, {row[1]}", err=True)
    marks = Marks(visible=visible_mark, watermark=watermark)
    for path in save_explanation(
        explanation, out, image_format, include_report=include_report, marks=marks, signer=signer
    ):
        typer.echo(str(path))


def _open(bundle: str, modality: Modality | None, acknowledged: bool, device: Any, backend: str) -> "ReportToImage":
    from arra_med.generate.session import ReportToImage
    from arra_med.models.bundle import ModelBundle

    folder = acknowledged_folder(bundle, modality, acknowledged)
    quiet_transformers()
    return ReportToImage(ModelBundle.load(folder, device=resolve_device(device or "auto")), backend=backend)


def _request(session: "ReportToImage", text: str, num_images: int, settings: dict[str, Any]) -> Any:
    from arra_med.generate.session import request_from_settings

    modality = session.bundle.info.modality
    return request_from_settings(report=text, modality=modality, num_images=num_images, **settings)


def _finished(updates: Iterable[Any]) -> Any:
    """Returns the result of a stream of updates; a progress bar on standard error follows it."""
    from tqdm import tqdm

    with tqdm(total=100, desc="working", unit="%", bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}") as bar:
        for update in updates:
            bar.update(round(100 * update.progress) - bar.n)
            if update.result is not None:
                return update.result
    raise AssertionError("a stream ends with a result")


def _tell(notices: Iterable[str]) -> None:
    for notice in notices:
        typer.echo(f"note: {notice}", err=True)


def _box(words: str | None) -> tuple[int, int, int, int]:
    try:
        left, top, right, bottom = (int(word) for word in (words or "").split(","))
    except ValueError:
        raise UserError(
            "--box is no region: give four whole numbers LEFT,TOP,RIGHT,BOTTOM, such as 0,64,64,128"
        ) from None
    return left, top, right, bottom
