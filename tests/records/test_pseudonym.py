import hashlib
import hmac
import uuid

import pytest
from pydicom.uid import UID

from arra_med.errors import ConfigError
from arra_med.records.pseudonym import Pseudonymizer, key_path, load_or_create_key, require_key_id, rotate_key

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
    monkeypatch.delenv("ARRA_MED_KEY_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative/is/not/valid")
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


def test_a_uid_becomes_a_uuid_derived_uid_of_the_key():
    digest = hmac.new(KEY, b"uid 1.2.3", hashlib.sha256).digest()
    expected = uuid.UUID(bytes=digest[:16], version=4)
    found = Pseudonymizer(KEY).uid("1.2.3")
    assert found == f"2.25.{expected.int}"
    assert UID(found).is_valid
    assert len({found, Pseudonymizer(KEY).uid("1.2.4"), Pseudonymizer(bytes(32)).uid("1.2.3")}) == 3


def test_dates_move_back_by_at_most_a_year_and_every_day_of_it_occurs():
    shifts = [Pseudonymizer(KEY).date_shift_days(f"patient {number}") for number in range(4_000)]
    assert set(shifts) == set(range(-365, 0))
    assert Pseudonymizer(KEY).date_shift_days("patient 7") == shifts[7]


def test_the_key_id_is_of_the_key_and_does_not_hold_it():
    assert Pseudonymizer(KEY).key_id == hmac.new(KEY, b"key id", hashlib.sha256).hexdigest()[:16]
    assert Pseudonymizer(bytes(32)).key_id != Pseudonymizer(KEY).key_id


def test_pseudonyms_of_two_keys_are_not_mixed(tmp_path):
    require_key_id(Pseudonymizer(KEY), Pseudonymizer(KEY).key_id, tmp_path)
    with pytest.raises(ConfigError, match=r"was made with another pseudonym key .* choose another --out, or set ARRA"):
        require_key_id(Pseudonymizer(KEY), Pseudonymizer(bytes(32)).key_id, tmp_path)


def test_the_configuration_folder_of_the_desktop_standard_is_used(tmp_path, monkeypatch):
    monkeypatch.delenv("ARRA_MED_KEY_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    assert key_path() == tmp_path / "settings" / "arra-med" / "pseudonym.key"


def test_rotation_keeps_every_old_key_and_changes_the_pseudonyms(tmp_path, monkeypatch):
    path = tmp_path / "key"
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(path))
    first = load_or_create_key()
    assert rotate_key() == tmp_path / "key.1"
    second = load_or_create_key()
    rotate_key()
    third = load_or_create_key()
    assert len({first, second, third}) == 3
    assert [bytes.fromhex((tmp_path / f"key.{number}").read_text()) for number in (1, 2)] == [second, first]
    assert {found.name: found.stat().st_mode & 0o777 for found in tmp_path.iterdir()} == dict.fromkeys(
        ("key", "key.1", "key.2"), 0o600
    )


def test_a_key_that_others_can_read_is_not_rotated(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text(KEY.hex())
    path.chmod(0o640)
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(path))
    with pytest.raises(ConfigError, match="can be read by others"):
        rotate_key()
    assert [found.name for found in tmp_path.iterdir()] == ["key"]
