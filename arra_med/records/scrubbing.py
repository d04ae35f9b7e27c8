"""Takes dates, times, names, numbers and what stands in their place out of a report, and leaves English sentences.

This is scrubbing, not de-identification: `docs/reports.md` states the measured recall, and names without a title or a label
stay. What goes is an identifier with its phrase ("since ___", "Compared to ___,"), or the sentence, where it is about people
or nothing grammatical would be left of it.
"""

import re
import unicodedata

from arra_med.records.identifiers import MARK, mark_identifiers

_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n ?")
_BLANK_LINES = re.compile(r"\n{3,}")
# In Open-I a masked ray: "chest x-XXXX".
_MASKED_RAY = re.compile(r"\b([xX])-X{4}\b")

_SENTENCE_BREAK = re.compile(r"((?<=[.!?;])\s+|\n\n|(?<=:)\s|\n(?=[A-Z][A-Za-z /()]{1,40}:)|(?<=[A-Z]{4})\n)")
_LIST_NUMBER = re.compile(r"\d{1,2}[.)]")

_ABOUT_PEOPLE = re.compile(
    r"\b(?:notif|discuss|communicat|inform|page[dr]?\b|call(?:ed|s)?\b|telephone|phone|dictat|sign(?:ed|ature)\b|transcrib|acknowledg|read (?:by|back)|relayed|conveyed|contact|"
    r"spoke\b|reported (?:to|by)|reviewed (?:by|with)|review with|approved|verified|interpret|attending|resident|technologist|physician|fax|e-?mail|address|seen by|referred|"
    r"lives? (?:at|in|on)|employ|insur|emergency|next of kin|daughter|wife|husband|mother|father|spouse|accession|record)",
    re.IGNORECASE,
)
_JOINED = re.compile(
    rf"{MARK}(?:[ ,/&–-]{{1,3}}(?:(?:and|or|to|through|at|around|by) )?{MARK}|{MARK}| (?:hours|hrs|hr|[ap]\.?m\b\.?)){{1,20}}",
    re.IGNORECASE,
)
_POSSESSIVE = re.compile(rf"(?:\b(?:of|by) )?{MARK}['’]s ?")
_IN_BRACKETS = re.compile(rf" ?[(\[][^()\[\]{MARK}\n]{{0,40}}{MARK}[^()\[\]\n]{{0,40}}[)\]]")
_PRIOR = r"(?:(?:the|a|an|that|most|prior|previous|recent|last|same|earlier|outside) ){0,4}"
_STUDY = r"(?:(?:chest |portable |frontal )?(?:study|exam|examination|radiographs?|films?|x-rays?|ct|images?|comparison|one) )?"
_COMPARED = re.compile(
    rf",? ?\b(?:(?:as |when )?compar(?:ed|ison|ing)(?: is made)?(?: (?:to|with))?|in comparison (?:to|with)|relative to|similar to|as of|since) {_PRIOR}{_STUDY}(?:(?:of|from|dated|on|at|performed|obtained) ){{0,2}}{MARK},?",
    re.IGNORECASE,
)
_PREPOSITION = r"(?:on|at|in|from|of|dated|by|with|to|for|per|until|before|after|around|approximately|during|via|near|performed|obtained|dated|about|as|through|and|or|versus|vs)"
# Before a noun the mark was an adjective ("with ___ effusion"), and the preposition stays.
_NO_NOUN_FOLLOWS = (
    r"(?=[,.;:!?)]|$| (?:is|are|was|were|has|have|there|the|this|and|or|of|in|on|at|to|with|for|from|by|than|as|but|which|that|no|"
    r"shows?|showed|demonstrates?|demonstrated|reveals?|revealed|again|now)\b)"
)
_PHRASE = re.compile(
    rf",? ?\b(?:{_PREPOSITION} ){{1,3}}(?:(?:the|a|an|approximately|about|around|prior|previous|our|his|her|their) ){{0,2}}{MARK}{_NO_NOUN_FOLLOWS}",
    re.IGNORECASE,
)
# What is left cannot stand for an adjective or a noun's second part: the sentence has lost its subject, object or number.
_TORN = re.compile(
    rf"(?:^|, |\b(?:the|a|an|this|that|these|those|some|any|no|is|are|was|were|be|been|and|or|of|in|at|to|with|for|by|from|on|per) ){MARK}(?=$|[.,;:!?)]|(?: [a-z]{{1,12}}ly)? (?:is|are|was|were|be|has|have|had|may|"
    rf"might|could|can|will|appears?|seems?|remains?|shows?|demonstrates?|represents?|of|in|on|at|to|with|and|or|for|from|by|than|that|which|projects?|projecting|overl\w{{1,7}}|noted|seen|again|cm|mm)\b)|{MARK} ?(?:cm|mm|ml)\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(rf"\b([Aa]) {MARK} (?=[aeiou])")
_MARKS = re.compile(rf"[ \n]?[-#]?{MARK}[-]?")
_BEFORE_STOP = re.compile(r" +(?=[.,;:!?)])")
_STOPS = re.compile(r"[,;:] ?(?=[.!?;])|,(?= ?,)")
_LEADING = re.compile(r"^[ ,;:.)-]{1,10}")


def scrub_text(text: str) -> str:
    """Takes identifiers out of a text, with the phrase or the sentence that hangs on them.

    Markers of earlier de-identification (`___`, XXXX, `[**...**]`, `[NAME]`), dates and times, names behind a title or a
    label or before a degree, phone and record numbers, e-mail and web addresses, streets, hospitals and ages above 89 go;
    measurements, vertebral levels and counts stay.

    Args:
        text: A report or a part of it; lines and headers are kept.

    Returns:
        The text itself if it holds no identifier, else what is left, with single spaces. It may be empty.
    """
    plain = _SPACES.sub(" ", unicodedata.normalize("NFKC", text).replace("\r\n", "\n").replace("\r", "\n"))
    plain = _BLANK_LINES.sub("\n\n", _LINES.sub("\n", plain.replace(MARK, " ")))
    plain = _MASKED_RAY.sub(r"\1-ray", plain)
    marked = mark_identifiers(plain)
    if MARK not in marked:
        return text if plain == text or "-ray" not in plain else plain
    parts = _SENTENCE_BREAK.split(marked)
    kept: list[str] = []
    for sentence, separator in zip(parts[::2], [*parts[1::2], ""], strict=True):
        if MARK not in sentence:
            kept += [sentence, separator]
            continue
        if scrubbed := _scrub_sentence(sentence):
            kept += [scrubbed, separator]
            continue
        if len(kept) > 1 and _LIST_NUMBER.fullmatch(kept[-2].strip()):
            del kept[-2:]
        if "\n" in separator:
            if kept and "\n" in kept[-1]:
                kept[-1] = max(kept[-1], separator, key=len)
            else:
                kept += ["", separator]
    return _LINES.sub("\n", "".join(kept)).strip()


def _scrub_sentence(sentence: str) -> str:
    """Returns what is left of a sentence that holds marks; nothing if it is about people or torn."""
    if _ABOUT_PEOPLE.search(sentence):
        return ""
    rest = _JOINED.sub(MARK, sentence.replace("\n", " "))
    for phrase in (_POSSESSIVE, _IN_BRACKETS, _COMPARED):
        rest = phrase.sub(" " if phrase is _POSSESSIVE else "", rest)
    if _TORN.search(_PHRASE.sub("", rest)):
        return ""
    rest = _MARKS.sub("", _ARTICLE.sub(r"\1n ", _PHRASE.sub("", rest)))
    rest = _LEADING.sub("", _STOPS.sub("", _BEFORE_STOP.sub("", _SPACES.sub(" ", rest)))).rstrip(" ,;:-")
    if not re.search(r"[^\W\d]{2}", rest):
        return ""
    return rest[0].upper() + rest[1:] if rest[0] != sentence[0] else rest
