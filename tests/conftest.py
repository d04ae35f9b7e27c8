"""What every test stands on: no network, one thread, no user files touched, real data only where it is at hand."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

os.environ.update(
    GRADIO_ANALYTICS_ENABLED="False",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    TRANSFORMERS_OFFLINE="1",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

import arra_med  # noqa: F401 - lets torchvision be imported beside a CPU-only torch, whatever a test imports first

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips, with the reason, what needs data or a browser that is not at hand."""
    data = os.environ.get("ARRA_MED_DATA", "")
    no_data = pytest.mark.skip(reason="ARRA_MED_DATA does not name the folder of the real data")
    no_browser = pytest.mark.skip(reason="no Chromium is installed")
    has_browser = any(shutil.which(name) for name in _BROWSERS)
    for item in items:
        if item.get_closest_marker("real_data") and not (data and Path(data).is_dir()):
            item.add_marker(no_data)
        if item.get_closest_marker("browser") and not has_browser:
            item.add_marker(no_browser)


@pytest.fixture
def real_data() -> Path:
    """The folder of the real data; for tests marked `real_data`."""
    return Path(os.environ["ARRA_MED_DATA"])


@pytest.fixture
def browser_path() -> str:
    """The Chromium to drive; for tests marked `browser`."""
    return next(path for name in _BROWSERS if (path := shutil.which(name)))


@pytest.fixture(autouse=True, scope="session")
def _own_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tester's pseudonym key out of all tests: one other key for all, since fixtures outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARRA_MED_KEY_FILE", str(tmp_path_factory.mktemp("key") / "pseudonym.key"))
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps every user file of a test out of the tester's home."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
