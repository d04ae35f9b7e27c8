"""Rules of the house that no single room can keep: light import, floors, sizes, names, no traces of one machine."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CODE_FOLDERS = ("arra_med", "apps", "tests")
TEXT_SUFFIXES = {".cfg", ".css", ".html", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
HEAVY = {
    "datasets",
    "gradio",
    "monai",
    "numpy",
    "open_clip",
    "pandas",
    "pyarrow",
    "pydicom",
    "scipy",
    "timm",
    "torch",
    "torchvision",
    "transformers",
}


def code_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def project_files() -> list[Path]:
    """Files that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_packages(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in imported}


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("statement", ["import arra_med", "import arra_med.cli"])
def test_import_and_command_line_start_without_heavy_libraries(statement: str) -> None:
    assert not modules_after(statement) & HEAVY


def test_import_takes_less_than_the_promised_time_at_least_once_in_five() -> None:
    code = "import time; t = time.perf_counter(); import arra_med; print(time.perf_counter() - t)"
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(seconds) < 0.3


def test_rooms_import_only_from_floors_below() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'apps'}", "PATH": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_holds_more_than_one_idea() -> None:
    lines = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in code_files("arra_med", "apps")}
    assert {path: count for path, count in lines.items() if count > 320} == {}


def test_no_room_without_a_name_of_its_own() -> None:
    nameless = re.compile(r"(utils?|helpers?|misc|common|manager|solver)(_|$)|_(new|old|final)$")
    parts = {part for path in code_files(*CODE_FOLDERS) for part in path.relative_to(ROOT).with_suffix("").parts}
    assert sorted(part for part in parts if nameless.search(part)) == []


def test_no_unfinished_or_swallowing_code() -> None:
    unfinished = re.compile(r"\b(TODO|FIXME)\b|except( Exception)?:\s*pass|trust_remote_code=True")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in code_files("arra_med", "apps")
        for match in unfinished.finditer(path.read_text())
    ]
    assert found == []


def test_no_path_of_one_machine_is_written_down() -> None:
    local = re.compile(r"(?<![\w./-])/(?:work|farm|root|home/\w+)/")
    found = [
        str(path.relative_to(ROOT))
        for path in project_files()
        if path.suffix in TEXT_SUFFIXES or path.name in ("Makefile", "run")
        if local.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


def test_no_data_pickles_or_large_files_in_the_repository() -> None:
    files = project_files()
    unwanted = {".ckpt", ".dcm", ".npz", ".pkl", ".pt", ".pth", ".pyc"}
    assert [path.name for path in files if path.suffix in unwanted] == []
    assert [path.name for path in files if path.stat().st_size > 50 * 2**20] == []


def test_every_room_of_the_package_has_a_floor() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = project["tool"]["importlinter"]["contracts"][0]
    named = set(re.findall(r"\w+", " ".join(contract["layers"]))) | set(contract["exhaustive_ignores"])
    rooms = {path.stem for path in (ROOT / "arra_med").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - named - {"__init__", "__pycache__", "shipped"} == set()


def test_lower_bounds_admit_the_pinned_versions() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [packaging.Requirement(text) for text in sum(extras, start=project["dependencies"])]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    by_name = {canonical(name): version for name, version in pins.items()}
    outside = [
        f"{one.name}: {by_name[name]} is not in {one.specifier}"
        for one in wanted
        if (name := canonical(one.name)) in by_name and by_name[name] not in one.specifier
    ]
    assert outside == []


def test_every_imported_package_is_a_declared_dependency() -> None:
    requirement = pytest.importorskip("packaging.requirements").Requirement
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = sum(project["optional-dependencies"].values(), start=project["dependencies"])
    declared = {canonical(requirement(text).name) for text in wanted}
    distributions = importlib.metadata.packages_distributions()
    undeclared = {
        name
        for path in code_files("arra_med", "apps")
        for name in imported_packages(path)
        if not declared & {canonical(distribution) for distribution in distributions.get(name, [name])}
    }
    assert undeclared - {"arra_med", "arra_med_apps"} - sys.stdlib_module_names == set()


def test_every_shipped_yaml_is_a_mapping_with_plain_values() -> None:
    for path in sorted((ROOT / "configs").rglob("*.yaml")) + sorted((ROOT / "data_cards").glob("*.yaml")):
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path.name
