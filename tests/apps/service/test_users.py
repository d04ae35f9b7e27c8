from pathlib import Path

import pytest
from arra_med_apps.service.users import Door, add_user, read_users, remove_user

from arra_med.errors import ConfigError

PASSWORD = "correct horse battery"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_user_comes_in_with_the_password_alone_and_not_after_being_removed(tmp_path: Path):
    file = tmp_path / "users.txt"
    add_user(file, "reader1", PASSWORD)
    add_user(file, "reader2", PASSWORD)
    assert file.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in file.read_text()
    stored = read_users(file)
    assert stored["reader1"] != stored["reader2"]  # salted
    door = Door(file)
    assert door("reader1", PASSWORD)
    assert not door("reader1", PASSWORD + "x")
    assert not door("nobody", PASSWORD)
    remove_user(file, "reader1")
    assert not door("reader1", PASSWORD)
    assert door("reader2", PASSWORD)
    add_user(file, "reader2", "another password")
    assert not door("reader2", PASSWORD)


def test_guessing_has_to_wait(tmp_path: Path):
    file, clock = tmp_path / "users.txt", Clock()
    add_user(file, "reader1", PASSWORD)
    door = Door(file, clock)
    for _ in range(5):
        assert not door("reader1", "wrong")
    assert not door("reader1", PASSWORD)
    clock.now += 301
    assert door("reader1", PASSWORD)


@pytest.mark.parametrize(
    ("name", "password", "sentence"),
    [
        ("a:b", PASSWORD, "letters, digits"),
        ("", PASSWORD, "letters"),
        ("a\nb", PASSWORD, "letters"),
        ("a", "short", "fewer than 12"),
    ],
)
def test_bad_names_and_passwords_are_refused(tmp_path: Path, name: str, password: str, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        add_user(tmp_path / "users.txt", name, password)
    assert not (tmp_path / "users.txt").exists()


def test_a_damaged_file_is_named_by_its_line(tmp_path: Path):
    file = tmp_path / "users.txt"
    with pytest.raises(ConfigError, match="no readable users file"):
        Door(file)
    add_user(file, "reader1", PASSWORD)
    file.write_text(file.read_text() + "reader2:plain\n")
    with pytest.raises(ConfigError, match="line 2 is damaged"):
        Door(file)
    with pytest.raises(ConfigError, match="no user of that name"):
        file.write_text("")
        remove_user(file, "reader1")
