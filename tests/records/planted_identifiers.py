"""Invented identifiers of the 18 kinds of 45 CFR 164.514(b)(2), planted into invented report sentences.

    python -m tests.records.planted_identifiers

prints what share of each kind `scrub_text` takes out.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from arra_med.records.scrubbing import scrub_text

FIRST = [
    "Maria",
    "James",
    "Olga",
    "Ahmed",
    "Linh",
    "Peter",
    "Ingrid",
    "Carlos",
    "Wei",
    "Fatima",
    "Jean-Luc",
    "Siobhan",
    "Tomasz",
    "Grace",
]
LAST = [
    "Keller",
    "O'Brien",
    "Nakamura",
    "Haddad",
    "Nguyen",
    "Lindqvist",
    "Okafor",
    "Smith-Jones",
    "Romero",
    "Zhang",
    "Petrov",
    "Novak",
    "Baker",
    "Young",
]
TOWNS = ["Springfield", "Riverton", "Oakdale", "Lakeview", "Fairmount", "Milbrook"]
STREETS = ["Maple", "Oak", "Washington", "Linden", "Harbour", "Mill"]
STATES = ["IL", "MA", "TX", "OH", "CA", "VT"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
BEFORE = ("The heart is enlarged.", "Small left pleural effusion.", "A 2.3 cm nodule is seen at the level of T7.")
AFTER = ("No pneumothorax.", "The lungs are clear.", "Old fracture of the 1st rib.")


@dataclass(frozen=True)
class Plant:
    """A text, the identifier in it, and the sentences around it that must stay."""

    kind: str
    text: str
    identifier: str
    around: tuple[str, str]

    def is_gone_from(self, scrubbed: str) -> bool:
        """Whether no word of the identifier that is its own is left: words of three letters or more, and numbers."""
        words = re.findall(r"[A-Za-z]{3,}|\d+", self.identifier)
        for sentence in self.around:
            scrubbed = scrubbed.replace(sentence, "")
        left = set(re.findall(r"[A-Za-z]{3,}|\d+", scrubbed))
        return not left & set(words)


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _letters(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(count))


def _name(rng: random.Random) -> str:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    return rng.choice((f"{first} {last}", f"{first[0]}. {last}", f"{last}, {first}", last, f"{first} {last}".upper()))


def _date(rng: random.Random) -> str:
    year, month, day = rng.randint(1990, 2024), rng.randint(1, 12), rng.randint(1, 28)
    name = MONTHS[month - 1]
    return rng.choice(
        (f"{month}/{day}/{year}", f"{month:02}/{day:02}/{year % 100:02}", f"{year}-{month:02}-{day:02}", f"{name} {day}, {year}",
         f"{day} {name} {year}", f"{name} {year}", f"{day}.{month}.{year}", f"{day}-{name[:3]}-{year}", f"{name[:3]} {day}", f"{year}{month:02}{day:02}")
    )  # fmt: skip


def _phone(rng: random.Random) -> str:
    area, exchange, line = (str(rng.randint(200, 989)), str(rng.randint(200, 989)), _digits(rng, 4))
    return rng.choice((f"({area}) {exchange}-{line}", f"{area}-{exchange}-{line}", f"{area}.{exchange}.{line}", f"+1 {area} {exchange} {line}", f"{exchange}-{line}"))  # fmt: skip


KINDS: dict[str, tuple[Callable[[random.Random], str], tuple[str, ...]]] = {
    "name": (
        _name,
        ("Dr. {} was told.", "Findings were discussed with Dr. {} by telephone.", "Patient: {}.", "Read by {}, MD.", "Electronically signed by: {}.",
         "Mrs. {} has a cough.", "Results were communicated to {} at once.", "Dictated by {}.", "{} was admitted last night.", "As seen by {} on the ward."),
    ),
    "place": (
        lambda rng: rng.choice((f"{rng.randint(2, 9999)} {rng.choice(STREETS)} Street, {rng.choice(TOWNS)}, {rng.choice(STATES)} {_digits(rng, 5)}",
                                f"{rng.choice(TOWNS)} General Hospital", f"{rng.choice(TOWNS)}, {rng.choice(STATES)}", f"{rng.randint(2, 999)} {rng.choice(STREETS)} Ave", rng.choice(TOWNS))),
        ("Lives at {}.", "Transferred from {}.", "Comparison is made with the study from {}.", "Resident of {}."),
    ),
    "date": (_date, ("Compared to {}, the effusion has grown.", "Comparison is made with {}.", "Stable since {}.", "The nodule was first seen on {}.", "Study of {} is available.", "Surgery in {}.", "DOB: {}.", "Follow-up of the examination dated {} shows little change.")),
    "phone": (_phone, ("Call {} with questions.", "Dr. Lee at {} was told.", "Phone: {}.", "The ward ({}) has been told.")),
    "fax": (_phone, ("Fax: {}.", "Faxed to {}.", "The report was sent by fax to {}.")),
    "e-mail": (lambda rng: f"{rng.choice(FIRST).lower()}.{rng.choice(LAST).lower().replace(chr(39), '')}@{rng.choice(TOWNS).lower()}.{rng.choice(('org', 'edu', 'com'))}", ("E-mail {}.", "Sent to {} for review.", "Contact: {}.")),
    "social security number": (lambda rng: f"{_digits(rng, 3)}-{_digits(rng, 2)}-{_digits(rng, 4)}", ("SSN {}.", "Social security number: {}.", "Identified by {}.")),
    "medical record number": (lambda rng: rng.choice((_digits(rng, 7), f"{_letters(rng, 1)}{_digits(rng, 6)}", f"{_digits(rng, 3)}-{_digits(rng, 3)}-{_digits(rng, 2)}")), ("MRN: {}.", "MRN {}.", "Medical record number {}.", "Patient {} was scanned.")),
    "health plan number": (lambda rng: f"{_letters(rng, 3)}{_digits(rng, 9)}", ("Member ID {}.", "Health plan {}.", "Insurance no. {}.")),
    "account number": (lambda rng: rng.choice((_digits(rng, 8), f"{_digits(rng, 4)}-{_digits(rng, 4)}")), ("Account {}.", "Acct #{}.", "Accession number: {}.", "Accession {}.")),
    "licence number": (lambda rng: f"{_letters(rng, 2)}{_digits(rng, 5)}", ("License no. {}.", "Certificate {}.", "DEA {}.")),
    "vehicle": (lambda rng: rng.choice((f"{_digits(rng, 1)}{_letters(rng, 4)}{_digits(rng, 2)}{_letters(rng, 1)}{_digits(rng, 9)}", f"{_letters(rng, 3)}-{_digits(rng, 4)}")), ("VIN {}.", "Licence plate {}.", "Vehicle registration {}.")),
    "device": (lambda rng: f"{_letters(rng, 2)}{_digits(rng, 8)}", ("Pacemaker, serial number {}.", "Device ID {}.", "S/N {}.", "The generator {} is in place.")),
    "web address": (lambda rng: f"{rng.choice(('https://', 'http://', 'www.'))}{rng.choice(TOWNS).lower()}.org/view?p={_digits(rng, 5)}", ("See {}.", "Images at {} were reviewed.")),
    "IP address": (lambda rng: ".".join(str(rng.randint(1, 254)) for _ in range(4)), ("Sent from {}.", "Workstation {} was used.")),
    "biometric": (lambda rng: f"{_letters(rng, 2)}-{_digits(rng, 6)}", ("Fingerprint {}.", "Voiceprint ID {}.", "Iris scan {}.")),
    "photograph": (lambda rng: f"{rng.choice(LAST).replace(chr(39), '')}_{_digits(rng, 8)}.jpg", ("Photograph {} is attached.", "See image {}.")),
    "other code": (lambda rng: rng.choice((f"{_letters(rng, 2)}{_digits(rng, 7)}", "1.2.840." + ".".join(_digits(rng, 4) for _ in range(4)), f"{_digits(rng, 10)}")), ("Study UID {}.", "Order {}.", "Trial subject {}.", "Reference {}.")),
}  # fmt: skip


def plants(count: int, seed: int) -> list[Plant]:
    """Returns `count` texts of each kind; equal seeds give equal texts."""
    rng = random.Random(seed)
    planted = []
    for kind, (draw, frames) in KINDS.items():
        for _ in range(count):
            identifier, around = draw(rng), (rng.choice(BEFORE), rng.choice(AFTER))
            sentence = rng.choice(frames).format(identifier)
            planted.append(Plant(kind, f"{around[0]} {sentence} {around[1]}", identifier, around))
    return planted


def recall_by_kind(planted: list[Plant]) -> dict[str, float]:
    """Returns the share of identifiers that leave no word behind, by kind."""
    gone: dict[str, list[bool]] = {}
    for plant in planted:
        gone.setdefault(plant.kind, []).append(plant.is_gone_from(scrub_text(plant.text)))
    return {kind: sum(found) / len(found) for kind, found in gone.items()}


if __name__ == "__main__":
    recalls = recall_by_kind(plants(count=200, seed=18))
    for kind, recall in recalls.items():
        print(f"| {kind} | {recall:.1%} |")
    print(f"| **mean** | **{sum(recalls.values()) / len(recalls):.1%}** |")
