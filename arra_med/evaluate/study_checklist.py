"""CLAIM 2024, as far as a study can answer it from `comparison.json`; what it cannot answer is said so.

Source: Tejani AS, Klontzas ME, Gatti AA, Mongan JT, Moy L, Park SH, Kahn CE Jr. Checklist for Artificial Intelligence in
Medical Imaging (CLAIM): 2024 Update. Radiology: Artificial Intelligence 2024;6(4):e240300. doi:10.1148/ryai.240300. The
items are in our own words.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

CITATION = (
    "Tejani AS, Klontzas ME, Gatti AA, et al. Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 "
    "Update. Radiol Artif Intell 2024;6(4):e240300. doi:10.1148/ryai.240300"
)
NOT_ANSWERED = "not answered by this study: "


class ChecklistItem(NamedTuple):
    """One item.

    Attributes:
        number: In the checklist.
        item: What it asks, in our own words.
        answer: What `comparison.json` says, or why it says nothing.
    """

    number: int
    item: str
    answer: str


def claim_checklist(told: Mapping[str, Any]) -> list[ChecklistItem]:
    """Returns all 44 items in order.

    Args:
        told: What `comparison.json` says.
    """
    answers = {**_design(told), **_data(told), **_model(told), **_evaluation(told), **_results(told)}
    return [
        ChecklistItem(number, item, answers.get(number) or NOT_ANSWERED + _WHY_NOT[number])
        for number, item in enumerate(_ITEMS, start=1)
    ]


def _design(told: Mapping[str, Any]) -> dict[int, str]:
    kind = "exploratory" if told["exploratory"] else "its settings fixed before the first training"
    return {
        1: "Text-to-image generation with an autoregressive language model (deep learning), with and without alignment of "
        "its hidden states to a frozen image encoder.",
        2: f"The section Answer of this report; study {told['name']}, {told['date']}.",
        4: told["question"],
        5: "Retrospective, on images that had been collected for other purposes.",
        6: f"A comparison of training methods, {kind}: not a test of diagnostic use.",
        42: f"The settings are part of comparison.json; their SHA-256 is {told['settings']['sha256']}.",
    }


def _data(told: Mapping[str, Any]) -> dict[int, str]:
    settings, primary = told["settings"], told["primary"]
    held_out, training = settings["held_out"], settings["training"]
    sources = ", ".join(training["sources"]) or "all sources of the study set"
    age = f" and age group {held_out['age_group']}" if held_out["age_group"] else ""
    most = f", at most {held_out['max_images']:,} of a split" if held_out["max_images"] else ""
    fold, detectable = training["fold"], primary["detectable"]
    smallest = "one seed has no power"
    if detectable:
        smallest = f"smallest reduction found with {detectable['power']:.0%} power: {detectable['reduction']:.1%}"
    return {
        7: f"Training: {sources}. Test: {held_out['source']}. Each source has a data card in the package.",
        8: f"Test images: split {primary['split']}, source {held_out['source']}{age}; images that repeat an earlier one are left out.",
        9: "Every image becomes one canonical view, which image tokenizer, teacher and judge all see; the study set records "
        "its size and rules.",
        10: f"Images are drawn by a hash of their names{most}; nobody chose them.",
        11: "Patients, files and folders appear as keyed hashes only; no header value or report text is kept in results.",
        12: "A finding that a source does not label is left out of the prompt, never denied.",
        19: f"By patient: fold {fold['index']} of {fold['count']} of the train patients trains, fold "
        f"{settings['judge_fold']['index']} is kept for classifiers that judge; guidance is chosen on validation images.",
        20: "By patient; the study stops if a known held-out patient, or an image of the same pixels, is in the training."
        + ("" if not told["unknown_patients"]["training"] else " " + told["unknown_patients"]["sentence"] + "."),
        21: f"{primary['n']:,} {primary['split']} images of {primary['num_patients']:,} patients and {len(settings['seeds'])} training "
        f"seeds; {smallest}.",
    }


def _model(told: Mapping[str, Any]) -> dict[int, str]:
    settings, training, compute = told["settings"], told["settings"]["training"], told["compute"]
    teachers = ", ".join(f"{arm}: {name}" for arm, name in told["primary"]["teacher"].items()) or "none"
    return {
        22: f"A causal language model of {compute['parameters']:,} parameters that continues a report with image tokens; "
        f"teachers: {teachers}. The settings name architecture and alignment of every arm.",
        23: ", ".join(f"{name} {version}" for name, version in told["versions"].items()),
        24: f"{settings['start']} ({training['start']['kind']}); new weights by the training seed.",
        25: f"{training['steps']:,} steps, {compute['sequences']:,} sequences, batches of {training['batch_size']}, AdamW at "
        f"{training['learning_rate']:g} ({training['schedule']}); {compute['num_training_images']:,} images. Arms of one seed "
        "share start, order, wordings and prompt dropout.",
        26: "The weights after the last step; guidance of each arm by the smallest primary distance on validation images.",
        27: "No ensembles.",
    }


def _evaluation(told: Mapping[str, Any]) -> dict[int, str]:
    primary = told["primary"]
    secondary = ", ".join(dict.fromkeys(row["measure"].replace("_", " ") for row in told["secondary"]))
    trained_on = told["settings"]["training"]["sources"]
    source = told["settings"]["held_out"]["source"]
    external = bool(trained_on) and source not in trained_on
    where = f"{primary['n']:,} images of {source}"
    answers = {
        28: f"Primary: {primary['measure']} ({primary['judge']}, {primary['num_dims']} components). Secondary: {secondary}.",
        29: "Paired Student's intervals of the log-ratio over training seeds; hierarchical bootstrap over seeds and "
        "patients; a treatment helps only if it also beats every control. Secondary measures are not corrected for number.",
        32: None if external else f"Tested on held-out patients of a training source: {where}.",
        33: f"Tested on a source that no arm trained on: {where}." if external else None,
    }
    controls = [arm for arm, role in primary["roles"].items() if role == "control"]
    if controls:
        answers[30] = f"Controls: {', '.join(controls)}; several judges; a sweep of guidance for every arm."
    return {number: answer for number, answer in answers.items() if answer is not None}


def _results(told: Mapping[str, Any]) -> dict[int, str]:
    verdicts = "; ".join(f"{verdict['arm']}: {verdict['tier']}" for verdict in told["primary"]["verdicts"])
    return {
        37: f"{verdicts or 'no verdict'}. Every value of every seed stands in the tables, with intervals.",
        40: "The section Limits of this report.",
        41: "Research use only: synthetic images, not for diagnosis, treatment or any clinical decision.",
    }


_ITEMS = (
    "The title or abstract says that AI is studied, and which kind",
    "A summary of design, methods, results and conclusions",
    "The background, and the role the AI is meant to have",
    "Aims and hypotheses",
    "Whether data were collected before or after the study was planned",
    "What the study is for, such as building or comparing a model",
    "Where the data come from",
    "Which cases were taken and which left out",
    "How images and texts were prepared",
    "How parts of the data were selected",
    "How data were de-identified",
    "What was done about missing data",
    "How the images were acquired",
    "How the reference standard was obtained",
    "Why this reference standard was chosen",
    "Who made the reference annotations",
    "How the test set was annotated",
    "How far annotators agree with each other and themselves",
    "How cases were assigned to partitions",
    "At which level partitions share nothing",
    "The intended number of test cases",
    "The model in detail",
    "Software and its versions",
    "How the parameters were initialised",
    "How the model was trained",
    "How the final model was chosen",
    "Whether models were combined",
    "Measures of performance",
    "Measures of significance and uncertainty",
    "Analyses of robustness or sensitivity",
    "Methods that explain the model, and how they were checked",
    "Evaluation on internal data",
    "Testing on external data",
    "Registration, if it is a clinical trial",
    "How many patients or examinations were taken and left out",
    "Demographic and clinical characteristics in each partition",
    "Performance with its uncertainty",
    "Diagnostic performance and its precision",
    "An analysis of failures",
    "Limits of the study",
    "What follows for practice, and the intended use",
    "Where the full protocol or further details are found",
    "Whether software, model and data are available",
    "Funding, and the role of the funders",
)

_WHY_NOT = {
    3: "see the paper that this implementation follows (arXiv 2503.07334) and the project's documentation",
    13: "the sources' own publications describe acquisition",
    14: "real images are the reference; their labels come with the sources",
    15: "real images are the reference; their labels come with the sources",
    16: "labels come with the sources; see their data cards",
    17: "nobody annotated images for this study",
    18: "nobody annotated images for this study",
    30: "it has no control arm",
    31: "no explanation of single images was made",
    32: "the test source is not among the training's sources",
    33: "the test images come from a source that also trained",
    34: "no clinical trial",
    35: "the ingestion report of the study set counts what was read, skipped and quarantined",
    36: "the ingestion report of the study set counts age groups, views and findings by split",
    38: "it measures images, not diagnoses",
    39: "sample pairs are shown, failures are not sorted",
    43: "see the repository for software and licences; whether weights may be passed on follows from the sources",
    44: "to be filled in by the authors",
}
