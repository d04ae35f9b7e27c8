import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.records.manifest import read_manifest
from arra_med.records.report import report_prompt
from arra_med.records.scrubbing import scrub_text
from arra_med.records.study import StudyRecord
from arra_med.records.wording import (
    bank_sentences,
    canonical_labels,
    draw_report,
    held_out_paraphrases,
    prompt_text,
    wording_bank,
)

MODALITIES = ("cxr", "fundus")
SIDES_AND_PLACES = (
    r"left|right|bilateral\w*|unilateral\w*|upper|lower|middle|mid|bas(?:e|al|es|ilar|ibasilar)|api(?:x|cal|ces)|lob(?:e|es|ar)|"
    r"peripheral\w*|perihilar|central|retrocardiac|superior|inferior|nasal|temporal"
)
SIZES_AND_TIMES = (
    r"small|large|tiny|big|minimal|massive|extensive|marked\w*|trace|moderately|severely|slight\w*|chronic\w*|new|old|"
    r"improv\w*|worsen\w*|progress\w*|unchanged|stable|interval|increas\w*|decreas\w*|resolv\w*|again"
)
GRADES = r"mild\w*|moderate|severe|early|advanced|end-stage"
NUMBERS_AND_DEVICES = (
    r"\d+|two|three|several|multiple|few|numerous|cm|mm|tubes?|lines?|catheters?|pacemakers?|wires?|clips?|drains?|stents?|"
    r"sternotomy|implants?|valves?|support devices?"
)


def study(*labels, modality="cxr", **facts):
    return StudyRecord(
        image_id="a", patient_id="p", modality=modality, labels=labels, source=facts.pop("source", "nih_cxr14"), **facts
    )


def words(text):
    return re.sub(r"\W+", " ", text.lower()).strip()


def drawn(record, count=400):
    return [draw_report(record, random.Random(seed)) for seed in range(count)]


def all_wordings(modality):
    bank = wording_bank(modality)
    return bank_sentences(modality) + [
        text for label in (*bank.findings, "normal") for text in held_out_paraphrases(label, modality)
    ]


def test_the_chest_bank_holds_no_side_size_number_or_device():
    # Cardiomegaly is the one finding that is a size; COVID-19 and SARS-CoV-2 are names with numbers.
    texts = [text.replace("COVID-19", "COVID").replace("SARS-CoV-2", "SARS") for text in all_wordings("cxr")]
    forbidden = re.compile(
        rf"\b(?:{SIDES_AND_PLACES}|{SIZES_AND_TIMES}|{GRADES}|{NUMBERS_AND_DEVICES})\b", re.IGNORECASE
    )
    assert [text for text in texts if forbidden.search(text) and text != "Heart is big."] == []


def test_the_fundus_bank_holds_no_side_place_number_or_device_and_grades_only_diabetes():
    # The eye stands in openings, which follow the record; the central vein is the name of a vessel.
    texts = [re.sub("central (?:retinal )?vein", "vein", t, flags=re.IGNORECASE) for t in all_wordings("fundus")]
    forbidden = re.compile(rf"\b(?:{SIDES_AND_PLACES}|{NUMBERS_AND_DEVICES})\b", re.IGNORECASE)
    assert [text for text in texts if forbidden.search(text) and "eye" not in text.lower().split(".")[0]] == []
    graded = re.compile(rf"\b(?:{GRADES})\b", re.IGNORECASE)
    bank = wording_bank("fundus")
    for label, wording in bank.findings.items():
        if not re.search(GRADES, label):
            assert not [text for text in wording.phrases + wording.sentences if graded.search(text)], label


@pytest.mark.parametrize("modality", MODALITIES)
def test_held_out_paraphrases_are_never_emitted(modality):
    bank = wording_bank(modality)
    emitted = {words(text) for text in bank_sentences(modality)}
    for label in (*bank.findings, "normal"):
        held_out = held_out_paraphrases(label, modality)
        assert held_out
        assert not emitted & {words(text) for text in held_out}, label
        source_label = label if label != "normal" else ("No Finding" if modality == "cxr" else "normal fundus")
        reports = [words(text) for text in drawn(study(source_label, modality=modality), 150)]
        assert not [text for text in held_out if any(words(text) in report for report in reports)], label


@pytest.mark.parametrize("modality", MODALITIES)
def test_frequent_findings_have_many_wordings(modality):
    frequent = {
        "cxr": "effusion cardiomegaly pneumothorax pneumonia edema consolidation infiltration nodule mass atelectasis",
        "fundus": "glaucoma cataract drusen",
    }
    for label in frequent[modality].split():
        wording = wording_bank(modality).findings[label]
        assert len(set(wording.phrases)) + len(wording.sentences) >= 10, label
        assert len({words(text) for text in drawn(study(label, modality=modality))}) >= 40, label


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_label_of_the_map_has_a_wording(modality):
    bank = wording_bank(modality)
    named = {finding for findings in bank.labels.values() for finding in findings} - {"normal"}
    assert {name for name in named if name not in bank.findings and not name.startswith("suspected ")} == set()


@pytest.mark.parametrize(
    ("modality", "labels", "findings"),
    [
        ("cxr", ["No Finding"], ("normal",)),
        ("cxr", ["normal"], ("normal",)),
        ("cxr", ["Effusion", "Pleural_Thickening"], ("effusion", "pleural thickening")),
        ("cxr", ["COVID-19", "ARDS"], ("covid-19", "ards")),
        ("cxr", ["Klebsiella", "Legionella"], ("bacterial pneumonia",)),
        ("cxr", ["viral pneumonia"], ("viral pneumonia",)),
        ("cxr", ["Rib_Notching"], ("rib notching",)),
        ("cxr", [], ()),
        ("fundus", ["normal fundus", "lens dust"], ("normal", "lens dust")),
        ("fundus", ["No DR"], ("no diabetic retinopathy",)),
        ("fundus", ["PDR with maculopathy"], ("proliferative diabetic retinopathy", "diabetic maculopathy")),
        ("fundus", ["mild nonproliferative retinopathy"], ("mild nonproliferative diabetic retinopathy",)),
        ("fundus", ["laser spot", "post laser photocoagulation"], ("laser scars",)),
    ],
)
def test_labels_are_harmonised(modality, labels, findings):
    assert canonical_labels(study(*labels, modality=modality)) == findings


def test_the_same_state_gives_the_same_report():
    record = study("Effusion", "Mass", "Nodule", view="PA")
    for seed in range(50):
        assert draw_report(record, random.Random(seed)) == draw_report(record, random.Random(seed))
        assert prompt_text(record, random.Random(seed)) == prompt_text(record, random.Random(seed))


def test_the_users_own_example_is_frequent():
    prompts = [prompt_text(study("Effusion", view="PA"), random.Random(seed)) for seed in range(1000)]
    assert prompts.count(report_prompt("PA view. Pleural effusion.", modality="cxr").text) > 40


def test_a_positive_study_denies_nothing():
    for label in wording_bank("cxr").findings:
        reports = drawn(study(label, "Effusion"))
        denial = re.compile(
            r"\bno\b|negative for|free of|(?:is|are) (?:normal|clear)|normal (?:heart|lungs)", re.IGNORECASE
        )
        assert not [text for text in reports if denial.search(text)]


def test_all_findings_of_a_study_are_told():
    for report in drawn(study("Cardiomegaly", "Effusion", "Pneumothorax")):
        text = report.lower()
        assert re.search(r"card|heart", text)
        assert re.search(r"effusion|pleural fluid|costophrenic|hydrothorax|fluid within", text)
        assert re.search(r"pneumothorax|pleural air|air|lucency|visceral pleura", text)


def test_only_an_image_that_was_read_as_a_whole_has_normal_bones():
    mined = " ".join(drawn(study("No Finding", source="nih_cxr14"), 1500)).lower()
    read = " ".join(drawn(study("No Finding", source="nih_rsna_normal"), 1500)).lower()
    assert "bon" in read
    assert "mediastin" in read
    assert "bon" not in mined
    assert "mediastin" not in mined


def test_normal_beside_another_finding_is_no_general_denial():
    for report in drawn(study("normal fundus", "lens dust", modality="fundus")):
        assert "dust" in report.lower()
        assert "no " not in report.lower()


def test_no_maculopathy_is_denied_and_nothing_else():
    reports = drawn(study("Mild DR without maculopathy", modality="fundus"))
    assert all(
        re.search(r"macul", text, re.IGNORECASE) and re.search(r"mild|npdr|early", text, re.IGNORECASE)
        for text in reports
    )


def test_written_text_is_told_half_of_the_time_and_mined_text_never():
    own = "Bilateral peripheral opacities."
    count = drawn(study("COVID-19", report=own, report_kind="written"), 1000).count(own)
    assert 430 < count < 570
    assert own not in drawn(study("COVID-19", report=own, report_kind="from_labels"), 300)
    assert set(drawn(study(report=own, report_kind="written"), 20)) == {own}


def test_written_text_is_told_without_its_identifiers():
    record = study("Mass", report="Mass, first seen on 3 March 2019. Dr. Keller was told.", report_kind="written")
    own = [text for text in drawn(record) if "first seen" in text]
    assert set(own) == {"Mass, first seen."}
    people = study("Mass", report="Dr. Keller was told.", report_kind="written")
    assert not [text for text in drawn(people) if "told" in text or "Keller" in text]


@pytest.mark.parametrize("modality", ["cxr", "fundus"])
def test_the_banks_sentences_hold_nothing_to_scrub(modality):
    assert [text for text in bank_sentences(modality) if scrub_text(text) != text] == []


def test_an_unknown_label_speaks_for_itself():
    assert any(text.startswith("Rib notching") for text in drawn(study("Rib_Notching")))


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_study_without_words_still_has_a_prompt(modality):
    template = {"cxr": "paediatric chest X-ray image", "fundus": "paediatric fundus photograph"}[modality]
    record = study(modality=modality, age_group="child")
    assert {prompt_text(record, random.Random(seed)) for seed in range(30)} == {template}


def test_a_history_alone_gives_way_to_the_labels():
    record = study("Mass", report="INDICATION: cough", report_kind="written")
    assert all("cough" not in prompt_text(record, random.Random(seed)) for seed in range(50))


def test_the_view_is_kept_mostly_and_never_contradicted():
    prompts = [
        prompt_text(study("Effusion", view="AP", age_group="child"), random.Random(seed)) for seed in range(1000)
    ]
    with_view = [text for text in prompts if text.startswith("AP view paediatric chest X-ray image, ")]
    assert 810 < len(with_view) < 890
    assert all(text.startswith("paediatric chest X-ray image, ") for text in prompts if text not in with_view)


def test_reports_are_short_and_varied_in_form():
    reports = drawn(study("Pneumonia", view="PA"), 1000)
    assert max(len(text.split()) for text in reports) <= 40
    assert any(text.isupper() for text in reports)
    assert any(text.islower() for text in reports)
    assert any("IMPRESSION:" in text for text in reports)
    assert any("\n" in text for text in reports)
    assert any(text.startswith("PA ") for text in reports)


LABELS = {modality: [*wording_bank(modality).labels, *wording_bank(modality).findings] for modality in MODALITIES}


@given(st.data(), st.sampled_from(MODALITIES), st.integers(min_value=0, max_value=2**32))
def test_a_prompt_never_names_a_header_or_fails(data, modality, seed):
    labels = data.draw(st.lists(st.sampled_from(LABELS[modality]), max_size=4, unique=True))
    text = prompt_text(study(*labels, modality=modality, view="PA", laterality="L"), random.Random(seed))
    assert not re.search(r"findings:|impression:|\n|\{|  ", text, re.IGNORECASE)


@pytest.mark.real_data
@pytest.mark.parametrize("modality", MODALITIES)
def test_real_labels_are_nearly_all_in_the_bank(real_data, modality):
    records = read_manifest(real_data / modality / "studies.csv")
    bank = wording_bank(modality)
    found = [label for record in records for label in canonical_labels(record)]
    unknown = [label for label in found if label != "normal" and label not in bank.findings]
    assert len(unknown) <= 0.01 * len(found)
    lengths = sorted(len(prompt_text(record, random.Random(n)).split()) for n, record in enumerate(records))
    assert lengths[len(lengths) * 9 // 10] <= 25
