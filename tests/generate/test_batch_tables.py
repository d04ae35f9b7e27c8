"""Tables of prompts: what they mean, and what is said of those that mean nothing."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.errors import GenerationError
from arra_med.generate.prompt_table import PromptRow, read_prompt_table, safe_name, table_modality

SECRET = "Zzyzx"


def read(folder: Path, text: str | bytes, **settings) -> list[PromptRow]:
    path = folder / "prompts.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_prompt_table(path, modality="cxr", **settings)


def test_cells_win_over_the_command_and_empty_ones_leave_it(tmp_path: Path):
    text = "id,report,view,seed,num_images,patient\na,Effusion.,PA,7,2,x\nb,Effusion.,,,,x\n"
    first, second = read(tmp_path, text, view="AP", num_images=3, age_group=None)
    assert (first.request.view, first.request.seed, first.request.num_images) == ("PA", 7, 2)
    assert (second.request.view, second.request.num_images) == ("AP", 3)
    assert [row.name for row in (first, second)] == ["a", "b"]


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path):
    (row,) = read(tmp_path, '\ufeffreport\r\n"Effusion,\r\nleft."\r\n')
    assert row.request.report == "Effusion,\r\nleft."


def test_seeds_and_names_stay_where_rows_are_added_or_moved(tmp_path: Path):
    before = read(tmp_path, "id,report\na,Effusion.\n,Normal.\n")
    after = read(tmp_path, "id,report\nc,Normal.\n,Normal.\na,Effusion.\n")
    told = {(row.name, row.request.seed) for row in before}
    assert told < {(row.name, row.request.seed) for row in after}
    assert len({row.request.seed for row in after}) == 3
    assert read(tmp_path, "id,report\na,Effusion.\n", seed=1)[0].request.seed == before[0].request.seed + 1


def test_the_same_row_again_gives_another_image(tmp_path: Path):
    first, second = read(tmp_path, "report\nEffusion.\nEffusion.\n")
    assert first.name != second.name
    assert first.request.seed != second.request.seed


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "is empty; give a CSV with a column 'report'"),
        ("report\n", "holds no rows; give at least one report"),
        (f"id,text\n1,{SECRET}\n", "column 'report' is missing"),
        (f"id;report\n1;{SECRET}\n", "column 'report' is missing; separate columns by commas"),
        ("report,report\na,b\n", "column 'report' stands twice"),
        ("report,vieww\na,PA\n", "a column is nearly called 'view'"),
        (b"report\n\xff\xfeEffusion\n", "is not UTF-8 text"),
        (f'report\n"{SECRET}\n', "is not a valid CSV table"),
        (
            f"report,view\nNormal.,PA\nNormal.,{SECRET}\n",
            "row 2: column 'view': must be one of PA, AP, lateral, or empty",
        ),
        (f"report,seed\nNormal.,{SECRET}\n", "row 1: column 'seed': must be a whole number from 0 to 4294967295"),
        ("report,num_images\nNormal.,0\nNormal.,257\n", "row 1-2: column 'num_images': must be a whole number from 1"),
        ("report,id\n ,a\n", "row 1: column 'report': must not be empty"),
        (f"id,report\n{SECRET},Normal.\n{SECRET.lower()},Normal.\n", "row 2: column 'id': must be unique"),
        ("report,modality\nGlaucoma.,fundus\n", "row 1: column 'modality': must be cxr"),
        ("report,laterality\nNormal.,L\n", "row 1: an eye was given for a chest X-ray"),
        ("report,seed\nNormal.,3\nNormal.,3\n", "row 2: column 'seed': an earlier row asks for the same images"),
        (f"report,id\n{SECRET}\n", "row 1: has fewer cells than the header"),
        (f"report\nNormal.,{SECRET}\n", "row 1: has more cells than the header"),
    ],
)
def test_what_is_wrong_is_named_by_row_and_column_but_never_quoted(tmp_path: Path, text: str | bytes, sentence: str):
    with pytest.raises(GenerationError) as caught:
        read(tmp_path, text)
    assert sentence in str(caught.value)
    assert SECRET.lower() not in str(caught.value).lower()


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(GenerationError, match="there is no such file; give a CSV with a column 'report'"):
        read_prompt_table(tmp_path / "none.csv", modality="cxr")


def test_too_many_rows_are_refused_with_the_command_and_the_table_is_called_as_asked(tmp_path: Path):
    text = "report\nEffusion.\nNormal.\nPneumothorax.\n"
    assert len(read(tmp_path, text, max_rows=3)) == 3
    with pytest.raises(
        GenerationError, match="^the table: has more than 2 reports.* arra-med generate --prompts"
    ) as told:
        read(tmp_path, text, max_rows=2, shown="the table")
    assert str(tmp_path) not in str(told.value)


def test_a_table_names_its_modality_if_all_rows_do(tmp_path: Path):
    path = tmp_path / "prompts.csv"
    for rows, modality in (("fundus,a\nfundus,b", "fundus"), ("fundus,a\n,b", None), ("ct,a", None)):
        path.write_text(f"modality,report\n{rows}\n")
        assert table_modality(path) == modality


@given(st.text(max_size=200))
def test_no_id_leaves_the_folder(text: str):
    name = safe_name(text)
    assert Path("/out", f"arra-med_cxr_{name}_seed0001.png").resolve().parent == Path("/out").resolve()
    assert len(name) < 100
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_ids_that_become_alike_stay_apart():
    assert safe_name("case-01.b") == "case-01.b"
    names = {safe_name(text) for text in ("a/b", "a\\b", "a_b", "../a_b", "a b", "..", "")}
    assert len(names) == 7
