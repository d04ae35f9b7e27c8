"""`arra-med`: the commands, wiring only. Heavy libraries load inside the command that needs them."""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

import arra_med
from arra_med.cli import chameleon_commands
from arra_med.cli.about_commands import about
from arra_med.cli.app_commands import app_command, users_app
from arra_med.cli.check_commands import check_app
from arra_med.cli.compare_commands import compare
from arra_med.cli.data_commands import cards, features, ingest, tokenize
from arra_med.cli.encoder_commands import encoder_app
from arra_med.cli.evaluation_commands import evaluate_app
from arra_med.cli.explore_commands import counterfactual, edit, explain
from arra_med.cli.fidelity_commands import fidelity_command
from arra_med.cli.inspect_commands import inspect, report
from arra_med.cli.llamagen_commands import import_bundle, import_tokenizer
from arra_med.cli.model_commands import bundle_app, generate
from arra_med.cli.moments_commands import moments_app
from arra_med.cli.picture_commands import nearest_command, scores_command
from arra_med.cli.plan_commands import plan
from arra_med.cli.privacy_commands import deidentify, key
from arra_med.cli.reading_commands import reading_app
from arra_med.cli.score_commands import score
from arra_med.cli.send_commands import send
from arra_med.cli.sentences import run_and_explain
from arra_med.cli.training_commands import tokenizer_app, train
from arra_med.cli.watermark_commands import watermark_app

_QUIET_LIBRARIES = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}

app = typer.Typer(
    name="arra-med",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Every command explains itself: arra-med train --help. Research use only, not for clinical decisions.",
)
app.command()(ingest)
app.command()(inspect)
app.command()(report)
app.add_typer(tokenizer_app, name="tokenizer")
app.add_typer(encoder_app, name="encoder")
app.command()(tokenize)
app.command()(features)
app.command()(plan)
app.command()(train)
app.command()(generate)
app.command()(edit)
app.command()(counterfactual)
app.command()(explain)
app.command("app")(app_command)
app.add_typer(users_app, name="users")
app.add_typer(watermark_app, name="watermark")
app.command()(send)
app.add_typer(evaluate_app, name="evaluate")
app.command()(compare)
app.add_typer(moments_app, name="moments")
app.command()(score)
app.add_typer(reading_app, name="reading")
evaluate_app.command("fidelity")(fidelity_command)
evaluate_app.command("nearest")(nearest_command)
evaluate_app.command("scores")(scores_command)
app.add_typer(bundle_app, name="bundle")
app.add_typer(check_app, name="check")
tokenizer_app.command("import-llamagen")(import_tokenizer)
bundle_app.command("import-llamagen")(import_bundle)
tokenizer_app.command("import-chameleon")(chameleon_commands.import_tokenizer)
bundle_app.command("import-chameleon")(chameleon_commands.import_bundle)
app.command()(cards)
app.command()(about)
app.command()(deidentify)
app.command()(key)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"arra-med {arra_med.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere in the command.")
    ] = False,
) -> None:
    """Adapts a causal language model to medical images, and draws synthetic ones from reports.

    \b
    From a report to an image, with the bundled model:
      arra-med app
      arra-med generate --report "PA view. Pleural effusion." -n 4 --out out/
    From studies to a model:
      arra-med ingest studies.csv --out studies/
      arra-med tokenizer train --config mini_cxr_tokenizer.yaml --out runs/tokenizer
      arra-med tokenize studies/ --tokenizer runs/tokenizer/tokenizer --out corpus/
      arra-med features studies/ --teacher efficientnet_lite0 --out teacher.parquet
      arra-med train --config mini_cxr_arra.yaml --out runs/arra
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    Args:
        arguments: The words after `arra-med`; `sys.argv` when absent.

    Raises:
        SystemExit: Always: 0, 1 (something failed), 2 (the input has to change) or 130 (Ctrl-C).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    for name, value in _QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)
    if not debug:
        warnings.simplefilter("ignore")
    command = typer.main.get_command(app)
    sys.exit(run_and_explain(lambda: command.main(words, prog_name="arra-med", standalone_mode=False), debug))
