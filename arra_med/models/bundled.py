"""The mini bundles that ship inside the package, and how a bundle is found by name."""

from pathlib import Path
from typing import Literal

from arra_med.errors import BundleError
from arra_med.models.bundle import read_bundle_info

Variant = Literal["arra", "finetuned"]

_FOLDER = Path(__file__).resolve().parent.parent / "bundles"


def bundled(modality: str, variant: Variant = "arra") -> Path:
    """Returns the folder of the shipped bundle for a modality.

    Raises:
        BundleError: If none is shipped for that modality and variant.
    """
    folder = _FOLDER / f"mini-{modality}{'' if variant == 'arra' else '-finetuned'}"
    if not folder.is_dir():
        shipped = ", ".join(sorted(path.name for path in _FOLDER.glob("mini-*"))) or "none"
        raise BundleError(f"no bundled {variant} model for {modality} (shipped: {shipped}); give --bundle a folder")
    return folder


def bundled_folders() -> list[Path]:
    """Returns the folders of all shipped bundles."""
    return sorted(path for path in _FOLDER.glob("mini-*") if path.is_dir())


def find_bundle(name: str, modality: str) -> Path:
    """Returns the folder of a bundle given as `mini`, `mini-finetuned`, the name of a shipped one, or a path.

    Raises:
        BundleError: If there is none, or it makes images of another modality.
    """
    if name in ("mini", "mini-finetuned"):
        return bundled(modality, "arra" if name == "mini" else "finetuned")
    folder = Path(name)
    if not folder.exists() and (_FOLDER / name).is_dir():
        folder = _FOLDER / name
    info = read_bundle_info(folder)
    if info.modality != modality:
        raise BundleError(
            f"bundle {name} makes {info.modality} images, {modality} was asked for: choose another bundle"
        )
    return folder
