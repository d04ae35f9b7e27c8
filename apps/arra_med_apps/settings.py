"""What the person who starts the app gives it beside its models."""

from dataclasses import dataclass
from pathlib import Path

from arra_med.errors import ConfigError


@dataclass(frozen=True)
class AppSettings:
    """Folders that the page may show from.

    Attributes:
        training: The study set that trained the models; its images are patients'.
        judge: Encoder folder of a classifier that scores findings.
        study: The result of `arra-med compare`.
        acknowledged: Whether whoever starts it agrees to what credentialed models ask for, for all its users.
    """

    training: Path | None = None
    judge: Path | None = None
    study: Path | None = None
    acknowledged: bool = False

    def require_folders(self) -> None:
        """Makes sure that the folders are there, so that a mistyped one is told at the start.

        Raises:
            ConfigError: If one is not.
        """
        for option, folder in (("training", self.training), ("judge", self.judge), ("study", self.study)):
            if folder is not None and not folder.is_dir():
                raise ConfigError(f"--{option} {folder}: is no folder; give an existing one, or leave the option out")


NO_EXTRAS = AppSettings()
"""The models alone."""
