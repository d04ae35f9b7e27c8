"""Commands of reader studies, the twin of the app's tab: reading study create, answers, summary, forget, sample-size."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from arra_med.errors import UserError
from arra_med.records.study import Modality, Split

if TYPE_CHECKING:
    from arra_med.evaluate.reader_arms import PreparedArm
    from arra_med.evaluate.reader_store import ReaderStudy

study_app = typer.Typer(help="Reader studies in one file, read in the app by several people.", no_args_is_help=True)

StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="The study's file, or its code where the app keeps it.")
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to write; must not be there yet.")]


@study_app.command("create")
def create_command(
    design: Annotated[
        Literal["real_or_synthetic", "preference", "likert"], typer.Option(help="What readers are asked.")
    ],
    arm: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Images or a study set of one arm; may be repeated."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(metavar="CSV", help="Draw images from these reports.")] = None,
    bundle: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=BUNDLE", help="Draws the prompts as this arm; may be repeated."),
    ] = None,
    reconstruct_with: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="Send half of the real images through its tokenizer: `reconstructed`."),
    ] = None,
    split: Annotated[Split | None, typer.Option(help="Part of the study sets; by default all.")] = None,
    source: Annotated[str | None, typer.Option(help="Source in the study sets; by default all.")] = None,
    modality: Annotated[Modality, typer.Option(help="Of the images.")] = "cxr",
    size: Annotated[
        int | None, typer.Option(min=16, max=2048, help="Side of the view; by default the images' own, all alike.")
    ] = None,
    per_arm: Annotated[int | None, typer.Option(min=1, help="Images of each arm; by default all it can be.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the random orders; by default drawn. Keep it from readers.")
    ] = None,
    repeats: Annotated[float, typer.Option(min=0, max=1 / 3, help="Share of cases shown twice.")] = 0.0,
    reports: Annotated[bool, typer.Option("--reports/--no-reports", help="Show each image's report.")] = False,
    title: Annotated[str, typer.Option(help="As readers see it; must not tell what is compared.")] = "Reader study",
    question: Annotated[str | None, typer.Option(help="Asked for a preference.")] = None,
    item: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TEXT", help="A statement to rate (likert); by default realism and quality."),
    ] = None,
    consent: Annotated[Path | None, typer.Option(metavar="FILE", help="Text that readers agree to.")] = None,
    ethics: Annotated[str, typer.Option(help="Approval of an ethics committee, or why none is needed.")] = "",
    out: OutOption = None,
) -> None:
    """Makes a reader study; the app's tab "Reader study" opens it by its code.

    An arm called real holds patients' images, reconstructed the same after the image tokenizer; all others are
    synthetic. For a preference the files of both arms pair by their names.

    \b
    Examples:
      arra-med reading study create --design real_or_synthetic --arm real=studies/ --split test --arm arra=drawn/
      arra-med reading study create --design preference --prompts reports.csv --bundle baseline=a/ --bundle arra=b/
    """
    from arra_med.evaluate.reader_arms import arm_of_folder, with_reconstructed
    from arra_med.evaluate.reader_making import StudyPlan, make_study
    from arra_med.models.bundle import ModelBundle

    plan = StudyPlan(
        design=design, title=title, modality=modality, seed=seed, repeats=repeats, ethics=ethics, per_arm=per_arm,
        with_reports=reports, items=tuple(map(_item, item or ())),
        **({} if question is None else {"question": question}),
        **({} if consent is None else {"consent": _text(consent)}),
    )  # fmt: skip
    arms: list[PreparedArm] = []
    for text in arm or ():
        name, folder = _named(text, "--arm", "NAME=FOLDER, such as arra=drawn/")
        found = arm_of_folder(name, folder, modality, size, paired=design == "preference", split=split, source=source)
        if name == "real" and reconstruct_with is not None:
            arms += with_reconstructed(found, ModelBundle.load(reconstruct_with))
        else:
            arms.append(found)
    arms += _drawn(prompts, bundle or [], modality, seed or 0)
    study, owner_code = make_study(plan, arms, out)
    covered = sum(its.num_covered for its in arms)
    typer.echo(f"study {study.code}: {len(study.cases)} cases of {len(arms)} arms in {study.path}")
    if covered:
        typer.echo(f"lines of letters were covered in {covered} images")
    typer.echo(f"readers begin with the code {study.code} in the app's tab Reader study")
    typer.echo(f"the owner's code, shown once and kept nowhere: {owner_code}")
    typer.echo("SENSITIVE: the file holds the images and what breaks the blinding; keep it from readers", err=True)


@study_app.command("summary")
def summary_command(study: StudyArgument, out: OutOption = None) -> None:
    """Tells what readers found, with intervals, tests and agreement, as the app does.

    \b
    Example:
      arra-med reading study summary K7QF2M9A --out summary.json
    """
    from arra_med.evaluate.reader_summary import reader_summary, summary_json
    from arra_med.evaluate.reader_words import summary_tables
    from arra_med.runs import write_json

    summary = reader_summary(_opened(study))
    for table in summary_tables(summary):
        typer.echo(f"{table.title}")
        for row in (table.columns, *table.rows):
            typer.echo("  " + " | ".join(row))
    if out is not None:
        _refuse_existing(out)
        write_json(out, summary_json(summary), mode=0o600)


@study_app.command("answers")
def answers_command(study: StudyArgument, out: OutOption = None) -> None:
    """Writes every answer as CSV: reader numbers, no names. It breaks the blinding.

    \b
    Example:
      arra-med reading study answers K7QF2M9A --out answers.csv
    """
    from arra_med.evaluate.reader_summary import answers_csv
    from arra_med.runs import atomic_file

    text = answers_csv(_opened(study))
    if out is None:
        typer.echo(text, nl=False)
        return
    _refuse_existing(out)
    with atomic_file(out, 0o600) as partial:
        partial.write_text(text, encoding="utf-8")


@study_app.command("forget")
def forget_command(
    study: StudyArgument,
    reader: Annotated[str, typer.Option(help="The reader's code, or the number in the results.")],
) -> None:
    """Deletes one reader and all answers, for good.

    \b
    Example:
      arra-med reading study forget K7QF2M9A --reader 3
    """
    from arra_med.evaluate.reader_study import Code

    code = int(reader) if reader.isascii() and reader.isdigit() and len(reader) < 10 else Code.parse(reader)
    count = _opened(study).forget(code)
    typer.echo(f"the reader and {count} answered images are deleted; delete copies of the file and tables, too")


@study_app.command("sample-size")
def sample_size_command(
    preference: Annotated[
        float | None, typer.Option(help="Share of cases in which one arm is truly preferred.")
    ] = None,
    power: Annotated[float, typer.Option(help="Of the exact binomial test.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Two-sided level of the test.")] = 0.05,
    accuracy: Annotated[float | None, typer.Option(help="Expected share of right answers.")] = None,
    half_width: Annotated[float, typer.Option(help="Of the accuracy's 95% interval.")] = 0.1,
    readers: Annotated[int, typer.Option(min=1, help="Who read every case.")] = 1,
    correlation: Annotated[float, typer.Option(help="Between readers' answers to one case.")] = 1.0,
) -> None:
    """Tells how many cases a study needs, for a preference or for an accuracy.

    \b
    Example:
      arra-med reading study sample-size --preference 0.65
      arra-med reading study sample-size --accuracy 0.7 --half-width 0.08
    """
    from arra_med.evaluate.reader_sample_size import cases_for_accuracy, cases_for_preference

    if (preference is None) == (accuracy is None):
        raise UserError("what is planned for is not clear: give either --preference or --accuracy")
    if preference is not None:
        typer.echo(cases_for_preference(preference, power=power, alpha=alpha).sentence)
    elif accuracy is not None:
        typer.echo(cases_for_accuracy(accuracy, half_width, readers=readers, correlation=correlation).sentence)


def _opened(study: str) -> "ReaderStudy":
    from arra_med.errors import EvaluationError
    from arra_med.evaluate.reader_store import ReaderStudy
    from arra_med.evaluate.reader_study import study_path

    try:
        kept = study_path(study)
    except EvaluationError:  # no code, so a path
        return ReaderStudy(Path(study))
    return ReaderStudy(kept)


def _drawn(prompts: Path | None, bundles: list[str], modality: Modality, seed: int) -> "list[PreparedArm]":
    if (prompts is None) != (not bundles):
        raise UserError("images are drawn from prompts by bundles: give both --prompts and --bundle, or neither")
    if prompts is None:
        return []
    from arra_med.evaluate.reader_arms import drawn_arms
    from arra_med.generate.prompt_table import read_prompt_table
    from arra_med.generate.session import ReportToImage
    from arra_med.models.bundle import ModelBundle

    rows = read_prompt_table(prompts, modality=modality, seed=seed)
    named = dict(_named(text, "--bundle", "NAME=BUNDLE, such as arra=bundle/") for text in bundles)
    sessions = {name: ReportToImage(ModelBundle.load(folder)) for name, folder in named.items()}
    *_, (_, arms) = drawn_arms(sessions, rows)
    return arms


def _named(text: str, option: str, form: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UserError(f"{option} is written {form}")
    return name, Path(folder)


def _item(text: str) -> tuple[str, str]:
    name, equals, words = text.partition("=")
    if not (name and equals and words):
        raise UserError('an --item is written NAME=TEXT, such as realism="How realistic is the image?"')
    return name, words


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: cannot be read as a text in UTF-8; give the file with the consent text") from None


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise UserError(f"{path}: is there already; choose another --out")
