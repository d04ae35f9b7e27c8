"""The command line: wiring, one sentence for each error, and nothing heavy before it is needed."""

import errno
import io
import subprocess
import sys
import types
from pathlib import Path
from typing import get_args

import pytest
import typer

import arra_med
from arra_med.cli import app, main
from arra_med.cli.data_commands import FeatureKind
from arra_med.cli.model_commands import read_report
from arra_med.cli.options import all_overrides
from arra_med.cli.sentences import explain, run_and_explain
from arra_med.encoders.base import Feature
from arra_med.errors import ConfigError, ReportError, TrainingError, UserError

COMMANDS = [
    "about",
    "app",
    "bundle import-chameleon",
    "bundle import-llamagen",
    "bundle info",
    "cards",
    "check fit",
    "compare",
    "counterfactual",
    "deidentify",
    "edit",
    "encoder train",
    "evaluate agreement",
    "evaluate fidelity",
    "evaluate nearest",
    "evaluate privacy",
    "evaluate prompt-effect",
    "evaluate reports",
    "evaluate scores",
    "explain",
    "features",
    "generate",
    "ingest",
    "inspect",
    "key",
    "moments distance",
    "moments export",
    "moments merge",
    "plan",
    "reading export",
    "reading import",
    "reading study answers",
    "reading study create",
    "reading study forget",
    "reading study sample-size",
    "reading study summary",
    "report",
    "score",
    "send",
    "tokenize",
    "tokenizer import-chameleon",
    "tokenizer import-llamagen",
    "tokenizer train",
    "train",
    "users add",
    "users remove",
    "watermark detect",
]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def raising(error: BaseException) -> object:
    def command() -> None:
        raise error

    return command


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: object) -> None:
    """Puts a module of the given attributes in the place of a heavy one."""
    module = types.ModuleType(name)
    for key, value in attributes.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


# Help and wiring


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*command.split(), "--help") == 0
    told = capsys.readouterr().out
    assert "Example" in told
    assert f"arra-med {command}" in told


def test_every_command_is_in_this_test() -> None:
    def leaves(group: object, prefix: str = "") -> list[str]:
        names: list[str] = []
        for name, command in sorted(group.commands.items()):
            names += leaves(command, f"{prefix}{name} ") if hasattr(command, "commands") else [f"{prefix}{name}"]
        return names

    assert sorted(leaves(typer.main.get_command(app))) == COMMANDS


def test_no_summary_is_cut_off_in_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    summaries = capsys.readouterr().out.partition("Commands:")[2]
    assert "..." not in summaries


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"arra-med {arra_med.__version__}\n"


def test_cards_lists_every_source_and_shows_one_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cards") == 0
    listed = capsys.readouterr().out
    assert "nih_cxr14" in listed
    assert "credentialed" in listed
    assert run("cards", "nih_cxr14") == 0
    assert "CVPR 2017" in capsys.readouterr().out


def test_device_is_the_last_override() -> None:
    assert all_overrides(["seed=1"], "cpu") == ["seed=1", "device=cpu"]
    assert all_overrides(None, None) == []


def test_train_hands_config_and_overrides_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from arra_med.config import StrictModel

    class TrainConfig(StrictModel):
        seed: int
        device: str = "auto"

    calls: list[tuple[object, ...]] = []

    def train(*given: object) -> Path:
        calls.append(given)
        return tmp_path / "out" / "bundle"

    stand_in(monkeypatch, "arra_med.training.settings", TrainConfig=TrainConfig)
    stand_in(monkeypatch, "arra_med.training.run", train=train)
    (tmp_path / "my.yaml").write_text("seed: 1\n")
    words = ["--config", str(tmp_path / "my.yaml"), "--set", "seed=5", "--device", "cpu", "--no-resume"]
    assert run("train", *words, "--out", str(tmp_path / "out")) == 0
    assert calls == [(TrainConfig(seed=5, device="cpu"), tmp_path / "out", False)]


def test_features_of_two_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[tuple[object, ...], dict[str, object]]] = []
    stand_in(
        monkeypatch, "arra_med.corpus.features", extract_features=lambda *given, **named: calls.append((given, named))
    )
    out = tmp_path / "t.parquet"
    words = ["features", "s", "--teacher", "timm:test_vit", "--kind", "cls", "--kind", "patch", "--views", "2"]
    assert run(*words, "--out", str(out)) == 0
    ((given, named),) = calls
    assert given == (Path("s"), "timm:test_vit", out)
    assert (named["kinds"], named["views"], named["device"]) == (["cls", "patch"], 2, "auto")


def test_every_feature_of_an_encoder_can_be_asked_for() -> None:
    assert {kind.value for kind in FeatureKind} == set(get_args(Feature))


# Errors: one sentence, the right code


def test_mistakes_on_the_command_line_exit_2_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["nonsense"], ["train"], ["generate", "--out", "o", "--top-k", "many"], ["app", "--port", "x"]):
        assert run(*words) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("arra-med: ")
        assert told.err.count("\n") == 1


def test_an_unknown_config_is_the_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tokenizer", "train", "--config", "nothing.yaml", "--out", str(tmp_path)) == 2
    assert "arra-med: no configuration nothing.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ConfigError("a.yaml: seed: unknown key"), 2, "a.yaml: seed: unknown key"),
        (TrainingError("loss is not finite"), 1, "loss is not finite"),
        (KeyboardInterrupt(), 130, "half written is left, and ingest, tokenize, train, compare, evaluate, score and"),
        (typer.Abort(), 130, "stopped; nothing half written is left"),
        (OSError(errno.ENOSPC, "No space left on device", "secret/patient.png"), 1, "the disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 1, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "secret/patient.png"), 2, "may not be read or written"),
        (ModuleNotFoundError("No module", name="tensorboard.compat"), 2, "pip install 'arra-med[train]'"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 1, "the memory is full"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "the memory is full"),
        (KeyError("patient 123"), 1, "unexpected error of type KeyError; start the command again with --debug"),
    ],
)
def test_every_error_becomes_a_code_and_a_sentence(error: BaseException, code: int, sentence: str) -> None:
    found_code, found = explain(error)
    assert found_code == code
    assert sentence in found
    assert "patient" not in found


def test_a_full_disk_is_found_behind_another_error() -> None:
    with pytest.raises(RuntimeError) as caught:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as cause:
            raise RuntimeError("unexpected pos 64 vs 0") from cause
    assert explain(caught.value) == explain(OSError(errno.ENOSPC, ""))


@pytest.mark.parametrize("debug", [False, True])
def test_the_traceback_is_shown_only_when_asked_for(debug: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_and_explain(raising(ZeroDivisionError("1/0")), debug) == 1  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert ("Traceback" in told) is debug
    assert told.splitlines()[-1].startswith("arra-med: unexpected error of type ZeroDivisionError")


def test_the_exit_code_of_a_command_is_passed_on() -> None:
    assert run_and_explain(lambda: None, debug=False) == 0
    assert run_and_explain(lambda: 3, debug=False) == 3


def test_debug_may_stand_after_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tokenizer", "train", "--config", "nothing.yaml", "--out", "o", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_inside_a_command_exits_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    stand_in(monkeypatch, "arra_med.corpus.tokenize", tokenize=interrupted)
    assert run("tokenize", "s", "--tokenizer", "t", "--out", "o") == 130
    assert capsys.readouterr().err.strip().startswith("arra-med: stopped; nothing half written is left")


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m arra_med.cli cards | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


# The report


def test_the_report_comes_from_exactly_one_place(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes("\ufeffPA view. Pleural effusion.".encode())
    assert read_report(None, path) == "PA view. Pleural effusion."
    assert read_report("Normal.", None) == "Normal."
    for both in ((None, None), ("Normal.", path)):
        with pytest.raises(
            UserError, match="give what to draw once: --report TEXT, --report-file FILE or --prompts FILE.csv"
        ):
            read_report(*both)


def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Cardiomegaly.")))
    assert read_report(None, Path("-")) == "Cardiomegaly."


def test_a_report_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot be read .No such file or directory.; give an existing text file"):
        read_report(None, tmp_path / "missing.txt")
    with pytest.raises(ReportError, match="cannot be read .Is a directory."):
        read_report(None, tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"\xe4")
    with pytest.raises(ReportError, match="is not UTF-8 text; save the report as plain UTF-8 text"):
        read_report(None, tmp_path / "latin.txt")
    (tmp_path / "large.txt").write_bytes(b"a" * 1_000_001)
    with pytest.raises(ReportError, match="is larger than 1,000,000 bytes"):
        read_report(None, tmp_path / "large.txt")


def test_generate_without_a_report_fails_before_anything_heavy_loads(tmp_path: Path) -> None:
    code = (
        "import sys; from arra_med.cli import main\n"
        "try: main(['generate', '--out', 'o'])\n"
        "except SystemExit as stop: print(stop.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
    assert done.stderr == "arra-med: give what to draw once: --report TEXT, --report-file FILE or --prompts FILE.csv\n"
