"""Tables of prompts become folders of images: thousands of them, stopped and gone on with at any moment.

What is finished is known by its content alone (`batch_plan.finished_record`), so a run that was killed leaves nothing
that has to be mended. `images.jsonl` lists the finished images, and with a check `images_check.json` sums up what it did; both
are written whole, at the start and at the end; repeats across rows stand in them once all images are there.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from arra_med.config import Device, Dtype
from arra_med.corpus.engine import LOCAL, EngineChoice, run_shards, unseen
from arra_med.corpus.parquet import clear_disk_errors, progress_bar
from arra_med.errors import GenerationError
from arra_med.generate.batch_checked import TableCheck, plan_row_batches
from arra_med.generate.batch_plan import PlannedImage, plan_batches, plan_images, read_record
from arra_med.generate.batch_worker import NOBODY, BatchRun, BatchWorker, Watcher, pack_batches
from arra_med.generate.checking import CheckTally, require_tries
from arra_med.generate.decoding import require_backend
from arra_med.generate.export import ExportChoice, image_formats
from arra_med.generate.prompt_table import PromptRow
from arra_med.generate.prompting import PromptReader
from arra_med.generate.session import SYNTHETIC_NOTICE
from arra_med.generate.table_repeats import repeats_across_rows
from arra_med.models.bundle import ModelBundle, bundle_fingerprint, load_text_tokenizer, read_bundle_info
from arra_med.runs import atomic_file, write_json

_AS_PNG = ExportChoice()
INDEX_FILE = "images.jsonl"
CHECK_SUMMARY_FILE = "images_check.json"
DEFAULT_BATCH_SIZE = 8
_LOCK_FILE = ".generate.lock"
_TASKS_AT_LEAST, _BATCHES_OF_A_TASK_AT_MOST = 64, 4


@dataclass(frozen=True)
class BatchReport:
    """What became of a table.

    Attributes:
        total: Images that the table asks for.
        kept: Those that were there already.
        index: The list of all of them.
        cautions: What a user should be told, with the number of images each sentence belongs to.
        batch_size: Images drawn together in the end; smaller than asked for where the memory was full.
        check: What the check did for all images of the table; none if none was asked.
        num_repeats: Images that repeat one of an earlier row; none: nobody looked.
    """

    total: int
    kept: int
    index: Path
    cautions: dict[str, int]
    batch_size: int
    check: CheckTally | None = None
    num_repeats: int | None = None


def draw_table(
    table: Path | str,
    rows: Sequence[PromptRow],
    bundle: Path,
    out: Path,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    device: Device = "auto",
    engine: EngineChoice = LOCAL,
    export: ExportChoice = _AS_PNG,
    backend: str = "auto",
    dtype: Dtype = "auto",
    check: TableCheck | None = None,
    open_bundle: Callable[[BatchRun], ModelBundle] | None = None,
    tell: Callable[[str], None] = lambda _: None,
    progress: bool = True,
    watcher: Watcher = NOBODY,
) -> BatchReport:
    """Draws every image of a table that is not there yet; an image does not depend on its batch, nor on the engine.

    Args:
        table: The table's path or name, for messages.
        rows: What `read_prompt_table` read from it.
        bundle: Folder of the bundle.
        out: Folder of the images; made if missing. Files of a planned name that hold something else are replaced.
        batch_size: Images drawn together; halved for the rest of the run where the memory is full.
        device: Where the model runs.
        engine: Which machines draw; under Ray `bundle` and `out` lie where all of them see them.
        export: How images are written; PNG files must be among them, since a run goes on by them.
        backend: Decoder; see `open_backend`.
        dtype: Number format of the language model; see `resolve_dtype`.
        check: Judges the images; what it rejects is drawn anew as in `stream_checked`, one request being one row. A row
            of which anything is missing is drawn whole, since its images are compared with each other.
        open_bundle: Opens the bundle where the work is done; by default `ModelBundle.load`.
        tell: Is told, in whole sentences, what a user should know while it happens.
        progress: Show a bar with images a second and the time left on stderr.
        watcher: Follows a run in this process, may stop it, and may lend it an opened model.

    Raises:
        GenerationStopped: If the watcher stopped it; finished images are there, and in the list.
        GenerationError: If `batch_size` is below 1, no PNG is asked for, the backend is unknown, another run is at work
            in `out`, a report holds nothing that can become a prompt, the memory is too small for one image, or `out` cannot be written.
        BundleError: If the bundle is damaged.
        EvaluationError: If an image cannot be judged.
        EngineError: If there is no such cluster, or its machines do not see the same files.
    """
    if batch_size < 1:
        raise GenerationError(f"a batch of {batch_size} images was asked for: give at least 1")
    if "png" not in image_formats(export.format):
        raise GenerationError("a table goes on by its PNG files after a stop: give --format png or png,dicom")
    require_backend(backend)
    if check is not None:
        require_tries(check.tries)
    if watcher.session is None:
        reader, fingerprint = (
            PromptReader(read_bundle_info(bundle), load_text_tokenizer(bundle)),
            bundle_fingerprint(bundle),
        )
    else:
        reader, fingerprint = watcher.session.reader, watcher.session.bundle.fingerprint
    images = plan_images(table, rows, reader, fingerprint, None if check is None else check.asked)
    run = BatchRun(bundle, out, batch_size, device, export, backend, dtype, check)
    worker = BatchWorker(run, open_bundle, watcher)
    with (
        clear_disk_errors(GenerationError, out),
        _alone(out),
        progress_bar("drawing", len(images), progress) as bar,
    ):
        advance = _told(bar, watcher, len(images))
        unfinished = _clear_unfinished(images, run)
        num_kept = len(images) - len(unfinished)
        advance(num_kept)
        _write_index(run, images)
        smallest = batch_size
        try:
            for told in _run(worker, unfinished, advance, engine, device):
                if told["batch_size"] < smallest:
                    smallest = told["batch_size"]
                    tell(f"the memory is full: going on with {smallest} images at a time instead of {batch_size}")
        except BaseException:
            with contextlib.suppress(OSError):  # the disk may be full; the next run writes it again
                _write_index(run, images)
            raise
        test = None if check is None else check.repeats
        repeats = None if test is None else repeats_across_rows(images, out, test)
        num_listed, tally = _write_index(run, images, repeats)
        if num_unseen := len(images) - num_listed:
            raise unseen(out, f"{num_unseen} images")
    cautions = Counter(caution for image in images for caution in image.cautions)
    num_repeats = None if repeats is None else len(repeats)
    told_cautions = dict(cautions.most_common())
    return BatchReport(len(images), num_kept, out / INDEX_FILE, told_cautions, smallest, tally, num_repeats)


def _told(bar: Callable[[int], None], watcher: Watcher, total: int) -> Callable[[int], None]:
    """Returns the function that tells bar and watcher of so many more finished images."""
    done = 0

    def advance(num_images: int) -> None:
        nonlocal done
        done += num_images
        bar(num_images)
        watcher.progress(done, total)

    return advance


def _clear_unfinished(images: Sequence[PlannedImage], run: BatchRun) -> list[PlannedImage]:
    """Returns the images to be made; removes their stale records, and what a killed run left half written."""
    for name in ("arra-med_*", f"{INDEX_FILE}.*", f"{CHECK_SUMMARY_FILE}.*"):
        for partial in run.out.glob(f".{name}.partial"):
            partial.unlink(missing_ok=True)
    unfinished = run.unfinished(images)
    for image in unfinished:
        image.record_path(run.out).unlink(missing_ok=True)
    return unfinished


def _run(
    worker: BatchWorker,
    images: Sequence[PlannedImage],
    advance: Callable[[int], None],
    engine: EngineChoice,
    device: Device,
) -> Iterator[dict[str, Any]]:
    plan = plan_batches if worker.run.check is None else plan_row_batches
    batches = plan(images, worker.run.batch_size)
    if not batches:
        return
    size = max(1, min(_BATCHES_OF_A_TASK_AT_MOST, len(batches) // _TASKS_AT_LEAST))
    groups = [batches[start : start + size] for start in range(0, len(batches), size)]
    sizes = [sum(map(len, group)) for group in groups]
    yield from run_shards(worker, [pack_batches(group) for group in groups], sizes, advance, engine, device=device)


def _write_index(
    run: BatchRun, images: Sequence[PlannedImage], repeats: Mapping[str, str] | None = None
) -> tuple[int, CheckTally | None]:
    """Lists the planned images whose record is there, in the order of the table, and sums up the check.

    Args:
        run: Whose images they are.
        images: Of the table.
        repeats: Of `repeats_across_rows`, where somebody looked.

    Returns:
        How many, and the sum.
    """
    num_listed = 0
    checked: list[dict[str, Any]] = []
    with atomic_file(run.out / INDEX_FILE) as partial, partial.open("w", encoding="utf-8") as lines:
        for image in images:
            record = read_record(image, run.out)
            if record is None:
                continue
            lines.write(json.dumps(_index_row(image, record, repeats), ensure_ascii=False) + "\n")
            num_listed += 1
            if check := record.get("check"):
                checked.append({name: check[name] for name in ("passed", "tries", "rejected")})
    if run.check is None:
        (run.out / CHECK_SUMMARY_FILE).unlink(missing_ok=True)
        return num_listed, None
    tally = CheckTally.of_records(checked)
    told = {"notice": SYNTHETIC_NOTICE, **run.check.asked, "planned": len(images), **tally.record()}
    if repeats is not None and run.check.repeats is not None:
        told["repeats_across_rows"] = {"images": len(repeats), "correlation_above": run.check.repeats.correlation}
    write_json(run.out / CHECK_SUMMARY_FILE, told)
    return num_listed, tally


def _index_row(image: PlannedImage, record: dict[str, Any], repeats: Mapping[str, str] | None) -> dict[str, Any]:
    told = {
        "id": image.id or None,
        "row": image.row,
        "file": record["file"],
        "seed": record["seed"],
        "request_sha256": image.request_sha256,
        "pixels_sha256": record["pixels_sha256"],
        "bundle": record["bundle"]["name"],
        "licence_class": record["bundle"]["licence_class"],
        "notice": SYNTHETIC_NOTICE,
        "cautions": list(image.cautions),
    }
    if check := record.get("check"):
        told["check"] = {name: check[name] for name in ("passed", "reasons", "scores", "asked_seed", "tries")}
        if repeats is not None:
            told["check"]["repeats"] = repeats.get(record["file"])
    return told


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps a second run out of the folder; the operating system lets go of it when a process ends, however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / _LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise GenerationError(f"{out}: another run draws into it; wait for its end, or choose another --out") from None
    try:
        yield
    finally:
        lock.release()
