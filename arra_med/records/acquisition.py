"""What a report says about how the image was taken, and of whom: projection, eye, age group."""

import re

from arra_med.records.study import AgeGroup, Laterality, View, age_group_of

# Projection words count only beside a word of the trade: "PA" is also the pulmonary artery, "AP" a diameter.
_TRADE = (
    r"(?:views?|projections?|chest|radiographs?|films?|x-?rays?|cxr|images?|frontal|portable|upright|erect|supine|semi)"
)


def _projection(name: str, or_else: str = r"(?!)") -> re.Pattern[str]:
    before_trade = rf"\b{name}\b(?=[ -]+(?:p(?:a)?ediatric |infant |adult )?{_TRADE}\b)"
    after_trade = rf"\b{_TRADE}[ ,(:]+{name}\b"
    with_lateral = rf"\b{name}[ ]*(?:/|&|and)[ ]*lat"
    alone = rf"^[ (]*{name}[ ).]*$"
    return re.compile(f"{before_trade}|{after_trade}|{with_lateral}|{alone}|{or_else}", re.IGNORECASE | re.MULTILINE)


_PA = _projection(r"(?:PA|postero-?anterior)")
_AP = _projection(
    r"(?:AP|antero-?posterior)", or_else=rf"\b(?:portable|supine|bedside)\b(?=[ ]+{_TRADE})|chest[ ,(]+portable\b"
)
_LATERAL = _projection("lateral")

# "OS" and "OD" count in capitals only: "os" is also a bone, "od" once daily.
_LEFT_EYE = re.compile(r"\b(?i:left (?:eye|fundus)|oculus sinister)\b|\bOS\b")
_RIGHT_EYE = re.compile(r"\b(?i:right (?:eye|fundus)|oculus dexter)\b|\bOD\b")

_AGE_IN_YEARS = re.compile(r"\b(\d{1,3})[ -]*(?:years?[ -]*old\b|y/?o\b|years? of age\b)", re.IGNORECASE)
_AGE_IN_MONTHS = re.compile(r"\b\d{1,3}[ -]*(?:months?|weeks?|days?)[ -]*old\b", re.IGNORECASE)
_CHILD = re.compile(
    r"\b(?:p(?:a)?ediatric|child(?:ren)?|infant|neonat(?:e|al)|newborn|toddler|boy|girl)\b", re.IGNORECASE
)
_ADULT = re.compile(r"\badult\b", re.IGNORECASE)

_WORD = (
    r"(?:an?|the|this|both|of|in|for|on|and|from|is|was|with|aged|single|standard|digital|conventional|plain|frontal|lat|lateral|"
    r"pa|ap|postero-?anterior|antero-?posterior|portable|supine|erect|upright|semi-?erect|semi-?upright|bedside|"
    r"p(?:a)?ediatric|child(?:'s|ren)?|infant|adult|male|female|man|woman|boy|girl|patient|"
    r"\d{1,3}[ -]*(?:years?|months?|weeks?|days?)[ -]*old|\d{1,3}[ -]*y/?o|"
    r"views?|projections?|chest|radiographs?|radiography|x-?rays?|cxr|films?|images?|study|examination|obtained|"
    r"colou?r|fundus|retinal|photographs?|photos?|photography|left|right|eyes?|od|os|oculus|dexter|sinister)"
)
_RUN_OF_WORDS = re.compile(rf"\W*{_WORD}\b(?:(?:[\s/()&-]|[,:](?!\s*an?\s))+{_WORD}\b)*", re.IGNORECASE)
_KEY_WORD = re.compile(
    r"\b(?:views?|projections?|radiographs?|x-?rays?|cxr|films?|photographs?|photos?|images?|eyes?|pa|ap|od|os|portable|old|"
    r"p(?:a)?ediatric|child|infant|adult|male|female|man|woman|boy|girl|patient|lat)\b",
    re.IGNORECASE,
)
_ENDS_WITH_WITH = re.compile(r"\bwith(?=(?:\s+(?:an?|the))?$)", re.IGNORECASE)
_SHOWS = re.compile(r"\s*[:,]\s*(?=\w)|\s+(?:shows?|showing|demonstrat(?:es|ing)|reveals?|revealing)\s+(?=\w)")


def stated_view(text: str) -> View | None:
    """Returns the projection a report states; `None` if it states none or several frontal ones."""
    frontal: list[View] = []
    if _PA.search(text):
        frontal.append("PA")
    if _AP.search(text):
        frontal.append("AP")
    if len(frontal) == 1:
        return frontal[0]
    return "lateral" if not frontal and _LATERAL.search(text) else None


def stated_laterality(text: str) -> Laterality | None:
    """Returns the eye a report states; `None` if it states none or both."""
    left, right = bool(_LEFT_EYE.search(text)), bool(_RIGHT_EYE.search(text))
    if left == right:
        return None
    return "L" if left else "R"


def stated_age_group(text: str) -> AgeGroup | None:
    """Returns the age group a report states; a number of years wins over words such as "child"."""
    if years := _AGE_IN_YEARS.search(text):
        return age_group_of(float(years[1]))
    if _AGE_IN_MONTHS.search(text) or _CHILD.search(text):
        return "child"
    return "adult" if _ADULT.search(text) else None


def without_acquisition(sentences: list[str]) -> list[str]:
    """Drops what only says which image it is: whole sentences ("PA view."), and openings ("Chest X-ray shows ...").

    Args:
        sentences: Sentences with their final punctuation.

    Returns:
        The sentences, or what is left of them, that describe what the image shows.
    """
    return [rest for rest in map(_without_opening, sentences) if rest]


def _without_opening(sentence: str) -> str:
    run = _RUN_OF_WORDS.match(sentence)
    if run is None or not _KEY_WORD.search(run[0]):
        return sentence
    rest = sentence[run.end() :]
    if not re.search(r"\w", rest):
        return ""
    # "with" joins an opening to a finding ("chest X-ray with effusion") and is itself a word of the run.
    if joined := _ENDS_WITH_WITH.search(run[0]):
        return sentence[joined.end() :].strip()
    verb = _SHOWS.match(rest)
    return rest[verb.end() :] if verb else sentence
