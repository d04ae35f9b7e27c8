"""Sections and observations read from Open-I's 3,955 chest reports, against the collection's own fields and MeSH terms.

    python benchmarks/report_parsing.py NLMCXR_reports.tgz [--published mimic-cxr/txt/section_parser.py]

The archive is in the `torchxrayvision` wheel (`torchxrayvision/data/`). Its text is CC BY-NC-ND: nothing of it is printed.
The rules were tuned on one seeded half of the reports; the table of observations is of the other half.
"""

import argparse
import dataclasses
import random
import re
import runpy
import tarfile
import textwrap
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

from arra_med.records.observations import OBSERVATIONS, Observation, Presence, observations_of
from arra_med.records.sections import split_sections

HALF_SEED = 3
FEWEST_DENIALS = 20
FIELDS = ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")

MESH_TERMS: dict[Observation, str] = {
    "Enlarged Cardiomediastinum": r"Mediastinum/(?!lymph|blood)(?:.*/)?(?:enlarged|prominent)",
    "Cardiomegaly": r"Cardiomegaly|(?:Cardiac Shadow|Heart|Heart Ventricles|Heart Atria)/(?:.*/)?(?:enlarged|borderline|prominent)",
    "Lung Opacity": r"Opacity(?!.*/round)|Airspace Disease|Infiltrate|Density/(?:lung|retrocardiac)(?!.*/round)|Markings/lung|Lung/(?:.*/)?interstitial|Lung Diseases, Interstitial|Thickening/lung",
    "Lung Lesion": r"Nodule|Mass(?:/|$)|Neoplasms?|Cavitation|(?:Opacity|Density)/lung.*/round",
    "Edema": r"Pulmonary Edema|Pulmonary Congestion|Heart Failure",
    "Consolidation": r"Consolidation",
    "Pneumonia": r"Pneumonia",
    "Atelectasis": r"Pulmonary Atelectasis",
    "Pneumothorax": r"Pneumothorax|Hydropneumothorax|Hemopneumothorax",
    "Pleural Effusion": r"Pleural Effusion|Hydropneumothorax|Hemopneumothorax|Hemothorax",
    "Pleural Other": r"Thickening/pleura|Cicatrix/pleura|Pleura/",
    "Fracture": r"Fractures, Bone",
    "Support Devices": r"Catheters, Indwelling|Tube, Inserted|Implanted Medical Device|Medical Device|Stents",
}
"""Observation -> the beginnings of the `major` MeSH terms (heading/qualifiers) that stand for it."""


@dataclasses.dataclass(frozen=True)
class OpenIReport:
    """One report of the collection: its fields as published, and its `major` MeSH terms."""

    name: str
    fields: dict[str, str]
    mesh: tuple[str, ...]

    @property
    def indexed(self) -> bool:
        """Whether a person gave the report its terms ("normal" among them)."""
        return bool(self.mesh) and "No Indexing" not in self.mesh

    @property
    def described(self) -> str:
        """Findings and impression under their headers."""
        named = ((name, self.fields.get(name, "")) for name in ("FINDINGS", "IMPRESSION"))
        return "\n\n".join(f"{name}: {body}" for name, body in named if body)

    @property
    def as_mimic_cxr(self) -> str:
        """The whole report in the layout of MIMIC-CXR's text files."""
        named = [(name, self.fields.get(name, "")) for name in FIELDS]
        parts = [
            textwrap.fill(f"{name}:  {body}", 78, initial_indent=" ", subsequent_indent=" ", break_on_hyphens=False)
            for name, body in named
            if body
        ]
        return "\n \n".join([f"{'FINAL REPORT':>45}", *parts])

    def observations(self) -> set[Observation]:
        """The observations that the MeSH terms name; `No Finding` is the absence of every one but `Support Devices`."""
        named = {name for name, terms in MESH_TERMS.items() if any(re.match(terms, term) for term in self.mesh)}
        return named if named - {"Support Devices"} else {*named, "No Finding"}


def read_reports(archive: Path) -> list[OpenIReport]:
    """Reads the archive's XML files, by name."""
    reports = []
    with tarfile.open(archive) as files:
        for member in sorted(files.getmembers(), key=lambda member: member.name):
            if (file := files.extractfile(member)) and member.name.endswith(".xml"):
                root = ElementTree.parse(file).getroot()
                fields = {str(part.get("Label")): (part.text or "").strip() for part in root.iter("AbstractText")}
                mesh = tuple((term.text or "").strip() for term in root.iter("major"))
                reports.append(OpenIReport(Path(member.name).stem, fields, mesh))
    return reports


def halves(reports: Sequence[OpenIReport]) -> tuple[list[OpenIReport], list[OpenIReport]]:
    """Splits the indexed reports into a half to tune on and a half to report."""
    shuffled = [report for report in reports if report.indexed]
    random.Random(HALF_SEED).shuffle(shuffled)
    return shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]


def f1(right: int, said: int, true: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of `right` among what was `said` and what is `true`; not a number where nothing was."""
    precision = right / said if said else float("nan")
    recall = right / true if true else float("nan")
    return precision, recall, 2 * right / (said + true) if said + true else float("nan")


def observation_table(
    reports: Sequence[OpenIReport], read: Callable[[str], dict[Observation, Presence]] = observations_of
) -> None:
    """Prints precision, recall and F1 of what is read as present, with and without doubt, and of what is read as absent.

    A denial is right where the terms do not name the observation; its recall is among the reports that mention the
    observation without doubt and whose terms do not name it.
    """
    start = time.perf_counter()
    found = [read(report.described) for report in reports]
    rate = len(reports) / (time.perf_counter() - start)
    true = [report.observations() for report in reports]
    print(
        "| observation | reports | precision | recall | F1 | F1, uncertain as present | denials | precision | recall | F1 |"
    )
    print("|" + " --- |" * 10)
    scores: list[tuple[float, float]] = []
    denials: list[tuple[int, int, int]] = []
    for name in OBSERVATIONS:
        named = [name in names for names in true]
        present, likely, denied = (
            [presences.get(name) in kinds for presences in found]
            for kinds in (("present",), ("present", "uncertain"), ("absent",))
        )
        score, doubtful = agreement(present, named), agreement(likely, named)
        scores.append((score[2], doubtful[2]))
        line = [name, str(sum(named)), *(f"{value:.3f}" for value in (*score, doubtful[2]))]
        without = [not there and (here or denial) for here, denial, there in zip(present, denied, named, strict=True)]
        right = sum(denial and not there for denial, there in zip(denied, named, strict=True))
        if sum(denied) >= FEWEST_DENIALS:
            denials.append((right, sum(denied), sum(without)))
            line += [str(sum(denied)), *(f"{value:.3f}" for value in f1(*denials[-1]))]
        else:
            line += [str(sum(denied)), "", "", ""]
        print(f"| {' | '.join(line)} |")
    means = (sum(column) / len(scores) for column in zip(*scores, strict=True))
    denied_f1 = [f1(*counts)[2] for counts in denials]
    print(
        "| **macro mean** | {} | | | **{:.3f}** | **{:.3f}** | | | | **{:.3f}** |".format(
            len(reports), *means, sum(denied_f1) / len(denied_f1)
        )
    )
    print(f"\n{rate:.0f} reports a second on one core")


def agreement(said: Sequence[bool], true: Sequence[bool]) -> tuple[float, float, float]:
    """Precision, recall and F1 of one yes or no for each report."""
    return f1(sum(a and b for a, b in zip(said, true, strict=True)), sum(said), sum(true))


def section_table(reports: Sequence[OpenIReport], published: Path | None) -> None:
    """Prints what share of the reports gets each section, and how often its words are those of the collection's field."""
    readers: dict[str, Callable[[str], dict[str, str]]] = {"split_sections": split_sections}
    if published:
        section_text = runpy.run_path(str(published))["section_text"]

        def read_as_published(text: str) -> dict[str, str]:
            # Sections of one name are joined as `split_sections` joins them; empty ones do not count.
            joined: dict[str, str] = {}
            for body, name in zip(*section_text(text)[:2], strict=True):
                joined[name] = f"{joined.get(name, '')} {body}"
            return {name: body for name, body in joined.items() if body.strip()}

        readers["published parser"] = read_as_published
    print("| section | in the XML | read by | in the parse | same words as the XML |\n| --- | --- | --- | --- | --- |")
    for name, read in readers.items():
        parses = [read(report.as_mimic_cxr) for report in reports]
        for field in FIELDS:
            bodies = [" ".join(report.fields.get(field, "").split()) for report in reports]
            parsed = [" ".join(parse.get(field.lower(), "").split()) for parse in parses]
            same = sum(a == b for a, b in zip(bodies, parsed, strict=True))
            shares = (f"{sum(map(bool, column)) / len(reports):.2%}" for column in (bodies, parsed))
            print(f"| {field} | {next(shares)} | {name} | {next(shares)} | {same / len(reports):.2%} |")
    print()


def main() -> None:
    """Prints the shares of sections, their agreement with the collection's fields, and the table of observations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="NLMCXR_reports.tgz")
    parser.add_argument("--published", type=Path, help="section_parser.py of the MIMIC-CXR code repository")
    parser.add_argument("--half", choices=("tuned", "reported"), default="reported")
    options = parser.parse_args()
    reports = read_reports(options.archive)
    section_table(reports, options.published)
    tuned, reported = halves(reports)
    observation_table(tuned if options.half == "tuned" else reported)


if __name__ == "__main__":
    main()
