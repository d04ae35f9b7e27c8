import hashlib
import hmac

import pytest

from arra_med.errors import ConfigError
from arra_med.records.pseudonym import Pseudonymizer, key_path, load_or_create_key

KEY = bytes(range(32))


def test_a_pseudonym_is_the_head_of_an_hmac():
    assert Pseudonymizer(KEY).of("patient 1") == hmac.new(KEY, b"patient 1", hashlib.sha256).hexdigest()[:16]


def test_key_and_text_both_matter():
    one, other = Pseudonymizer(KEY), Pseudonymizer(bytes(32))
    assert len({one.of("a"), one.of("b"), other.of("a")}) == 3
    assert one.of("a") == Pseudonymizer(KEY).of("a")


def test_the_key_is_made_once_for_this_user_alone(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "key"
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(path))
    key = load_or_create_key()
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_key() == key
    assert [found.name for found in path.parent.iterdir()] == ["key"]


def test_the_default_place(tmp_path, monkeypatch):
    monkeypatch.delenv("ARRA_MED_KEY_FILE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert key_path() == tmp_path / ".config" / "arra-med" / "pseudonym.key"


def test_a_key_that_others_can_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text(KEY.hex())
    path.chmod(0o644)
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(path))
    with pytest.raises(ConfigError, match="can be read by others; run: chmod 600"):
        load_or_create_key()


@pytest.mark.parametrize("text", ["", "secret words", "abcd", "é"])
def test_a_file_without_a_key_is_refused_without_being_quoted(tmp_path, monkeypatch, text):
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(path))
    with pytest.raises(ConfigError, match=r"holds no pseudonym key \(64 hex digits\)") as caught:
        load_or_create_key()
    assert "secret" not in str(caught.value)


def test_a_key_that_cannot_be_made_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(tmp_path / "file" / "key"))
    with pytest.raises(ConfigError, match="set ARRA_MED_KEY_FILE to another file"):
        load_or_create_key()


def test_a_short_key_is_refused():
    with pytest.raises(ConfigError, match="must have 32 bytes, found 4"):
        Pseudonymizer(b"1234")
