"""Whose a study's folder is: the settings are written into it once, and hold from the moment that anything was done by them."""

from pathlib import Path

from filelock import FileLock

from arra_med.config import dump_config, load_config
from arra_med.errors import EvaluationError
from arra_med.evaluate.shared_tasks import lock
from arra_med.evaluate.study_settings import StudyConfig

SETTINGS_FILE, LOCKS = "study.yaml", "locks"


def claim_folder(config: StudyConfig, out: Path) -> None:
    """Makes a folder the study's, or makes sure that it is.

    Settings by which nothing was done yet, such as those with a mistyped path, give way.

    Raises:
        EvaluationError: If another study lies in the folder, or something that is no study.
    """
    path = out / SETTINGS_FILE
    if not path.is_file() and _holds_anything(out):
        raise EvaluationError(f"{out}: is not empty and holds no study: give an empty or new folder as --out")
    with settings_lock(out):  # of several that start at once, the first one claims the folder
        if not _holds_anything(out):
            dump_config(config, path)
    require_claimed(config, out)


def require_claimed(config: StudyConfig, out: Path) -> None:
    """Makes sure that the folder is this study's.

    Raises:
        EvaluationError: If it holds other settings.
        ConfigError: If they are damaged.
    """
    there = load_config(out / SETTINGS_FILE, StudyConfig)
    if there != config:
        ours, theirs = config.model_dump(mode="json"), there.model_dump(mode="json")
        other = ", ".join(sorted(key for key in ours if ours[key] != theirs[key]))
        raise EvaluationError(
            f"{out}: holds a study with other settings ({other}); nothing was changed: give another --out"
        )


def settings_lock(out: Path) -> FileLock:
    """Returns the lock under which settings are written and a study begins."""
    return lock(out / LOCKS, "settings")


def _holds_anything(out: Path) -> bool:
    """Whether anything but settings lies in the folder."""
    if not out.is_dir():
        return False
    return any(file.name not in (SETTINGS_FILE, LOCKS) and not file.name.startswith(".") for file in out.iterdir())
