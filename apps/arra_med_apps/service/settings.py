"""How the app is served."""

from pathlib import Path
from typing import Self

import pydantic

from arra_med.config import StrictModel


class ServiceSettings(StrictModel):
    """Settings of `arra-med app --service FILE.yaml`; each has an option of the same name or a default.

    Attributes:
        users_file: Who may log in; written by `arra-med users add`. Needed beyond this computer.
        certificate: PEM file of the HTTPS certificate, and of those above it.
        certificate_key: PEM file of its key.
        root_path: Where a reverse proxy shows the app, such as `/arra`.
        runs_per_minute: Of each user.
        images_per_hour: Of each user.
        waiting_places: Runs that may wait for the model; more are turned away.
    """

    users_file: Path | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None
    root_path: str = pydantic.Field("", pattern=r"^(/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-])?$")
    runs_per_minute: int = pydantic.Field(30, ge=1)
    images_per_hour: int = pydantic.Field(2000, ge=1)
    waiting_places: int = pydantic.Field(64, ge=1)

    @pydantic.model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("certificate and certificate_key belong together: give both or neither")
        return self
