"""Finding files: the folder, then the cache, then the hub; with no network one sentence, at once."""

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from arra_med.encoders import hub, load_encoder
from arra_med.encoders.hub import display_name, model_file
from arra_med.errors import EncoderError


def hub_answer(kind: type[Exception], message: str = "answer") -> Exception:
    return kind(message, response=SimpleNamespace(headers={}, request=None, status_code=404))


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "require_hub", lambda model: None)


def test_the_first_name_that_a_folder_has_is_taken(tmp_path: Path) -> None:
    (tmp_path / "b.bin").touch()
    (tmp_path / "c.bin").touch()
    assert model_file(str(tmp_path), ["a.bin", "b.bin", "c.bin"]) == tmp_path / "b.bin"


def test_a_folder_without_the_files_says_which(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"has none of a.bin, b.bin: copy the published files there"):
        model_file(str(tmp_path), ["a.bin", "b.bin"])


@pytest.mark.parametrize("model", ["./nowhere", "/no/where/at/all", "~/nowhere", "a/b/c", "../x", ""])
def test_what_looks_like_a_path_is_not_looked_up_on_the_hub(model: str) -> None:
    with pytest.raises(EncoderError, match=r"neither an existing folder nor a hub id such as owner/name"):
        model_file(model, ["config.json"])


def test_a_cached_file_is_used_without_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = tmp_path / "b.bin"
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda model, name: str(cached) if name == "b.bin" else None
    )
    assert model_file("owner/name", ["a.bin", "b.bin"]) == cached


@pytest.mark.parametrize(
    "encoder",
    ["biomedclip", "timm:resnet18.a1_in1k", "timm:owner/name", "transformers:owner/name", "open_clip:owner/name"],
)
def test_an_uncached_id_offline_names_the_folder_option(encoder: str) -> None:
    with pytest.raises(EncoderError, match=r"not in the local Hugging Face cache and .* give their folder") as caught:
        load_encoder(encoder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("failure", [HTTPError("no route"), OSError("no route"), TimeoutError()])
def test_an_unreachable_hub_costs_one_short_look(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def head(url: str, timeout: float) -> None:
        looks.append(timeout)
        raise failure

    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=head))
    with pytest.raises(EncoderError, match=r"cannot be reached: connect once, or download"):
        model_file("owner/name", ["config.json"])
    assert len(looks) == 1
    assert looks[0] <= 10


@pytest.mark.usefixtures("reachable")
def test_the_next_name_is_tried_where_the_hub_lacks_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(model: str, name: str) -> str:
        if name == "a.bin":
            raise hub_answer(RemoteEntryNotFoundError)
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert model_file("owner/name", ["a.bin", "b.bin"]) == tmp_path / "b.bin"
    with pytest.raises(EncoderError, match=r"hub model owner/name has none of a.bin"):
        model_file("owner/name", ["a.bin"])


@pytest.mark.usefixtures("reachable")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (hub_answer(GatedRepoError), r"asks for its terms to be accepted"),
        (hub_answer(RepositoryNotFoundError), r"does not exist on the hub, or is private: check the id"),
        (LocalEntryNotFoundError("gone"), r"cannot be reached: connect once"),
        (HTTPError("broken"), r"could not be downloaded \(HTTPError\): try again"),
        (OSError("no space left"), r"could not be downloaded \(OSError\): try again"),
    ],
)
def test_what_the_hub_answers_becomes_one_sentence(
    answer: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(model: str, name: str) -> str:
        raise answer

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(EncoderError, match=message):
        model_file("owner/name", ["config.json"])


def test_tables_show_no_path(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    assert display_name(str(folder)) == "my-model"
    assert display_name("owner/name") == "owner/name"
