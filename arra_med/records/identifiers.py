"""What in a report's text may name a person: patterns for the identifiers of 45 CFR 164.514(b)(2), and for what stands in their place.

Every pattern takes time linear in the text: repetitions are bounded or begin at one place only, and the text comes with single
spaces. Measurements, ratios, vertebral levels and counts are no identifiers.
"""

import re

MARK = "\ue000"
"""Stands for one identifier; a private-use character, which no report holds."""

_MONTH = (
    r"(?:(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\.?|May|MAY)"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_MONTH_NUMBER = r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:19|20)\d\d"
_ORDINAL_DAY = rf"{_DAY}(?:st|nd|rd|th)?"
# "June Smith" and "O'Neil-Jones", "SMITH", "J." and what stands for a name. A name has one capital at least.
# Words that begin the next sentence or phrase; a denial swallowed as a name would turn a report around.
_NOT_A_NAME = (
    r"(?!(?i:no|not|none|nor|never|negative|without|free|clear|normal|unremarkable|stable|unchanged|old|new|small|large|mild|moderate|severe|left|right|bilateral|"
    r"the|a|an|this|these|that|those|there|it|if|and|or|is|are|was|were|has|at|on|in|of|to|for|with|heart|lungs?|cardiac|pleural|ed|er|icu|or|pa|ap|ct|mri|"
    r"findings|impression|comparison|technique|indication|history|recommendations?|notified|informed|told|about|regarding|re)\b)"
)
_NAME_WORD = rf"(?:{MARK}|{_NOT_A_NAME}(?:[A-Z]\.|[A-Z]['’]?[A-Za-z]{{1,30}}(?:[-'’][A-Z][A-Za-z]{{1,30}})?))"
_NAME = rf"(?:{_NAME_WORD}(?:,? {_NAME_WORD}){{0,3}})"
# "DRUSEN", "DRAINAGE" and "MRSA" only begin like a title, and MR is a modality, too.
_TITLE = (
    r"(?:(?i:dr|mr|mrs|ms)[.] ?|(?i:dr|mrs|ms) |(?:Mr|mr|MR(?! (?i:angio\w*|cholangio\w*|veno\w*|entero\w*|arthro\w*|imag(?:e|es|ing)|exams?|examinations?"
    r"|stud(?:y|ies)|scans?|brain|spine|chest|abdomen|pelvis)\b)) |(?:Dr|Mr|Mrs|Ms)(?=[A-Z][a-z]))"
)
_SEPARATOR = r"[ ]?(?:no\.?|number|num\.?|#|id|is|was)?[ ]?(?:is |was )?[:#=]?[ ]?"
_CODE = r"(?=[A-Za-z-]{0,12}\d)[A-Za-z0-9][A-Za-z0-9./-]{1,40}(?<![.])"
_LABEL_OF_CODE = (
    r"(?:mrn|medical record|record|accession|acc|account|acct|case|order|requisition|specimen|encounter|visit|ssn|social security|policy|"
    r"health plan|plan|member|subscriber|beneficiary|insurance|medicare|medicaid|licen[cs]e|certificate|dea|npi|vin|vehicle|plate|licen[cs]e plate|"
    r"registration|serial|s/n|sn|lot|model|imei|device id|fingerprint|biometric|voiceprint|iris scan|retina scan|patient|subject|study|exam|nhs|id)"
)
_STREET = r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Way|Highway|Hwy|Parkway|Pkwy|Circle)\b"
_STATE = (
    r"(?:AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|"
    r"PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY)"
)
_OVER_89 = r"(?:9\d|1[0-2]\d)"
_CREDENTIAL = (
    r"(?:M\.D\.|MD|D\.O\.|DO|R\.N\.|RN|N\.P\.|NP|P\.A\.|PA-C|Ph\.D\.|PhD|MBBS|FRCR|ARNP|RPA|RT\(R\))(?![A-Za-z])"
)
_ROLE = (
    r"(?:patient(?:'s)? name|patient|name|(?:referring|ordering|attending|requesting) (?:physician|provider|doctor)|physician|radiologist|resident|attending|fellow|technologist|"
    r"emergency contact|next of kin|guarantor)"
)
_DONE_BY = r"(?:dictated|transcribed|signed|read|reported|interpreted|reviewed|approved|verified|authenticated|performed|seen) by"
_LIVES = r"(?:lives? (?:at|in)|resid(?:es|ent|ing) (?:at|in|of)|transferred from|born in|(?:study|studies|exam|examination|radiographs?|films?|images) (?:from|at))"
_TOLD = (
    r"(?:discussed with|communicated (?:to|with)|reported to|relayed to|conveyed to|called to|told to|given to|telephoned to|paged to|notified|informed|contacted|"
    r"paged|spoke (?:with|to)|by telephone (?:to|with)|by phone (?:to|with)|daughter|son|wife|husband|mother|father|sister|brother|spouse)"
)

PATTERNS: dict[str, re.Pattern[str]] = {
    "marker": re.compile(
        r"\[\*\*[^\[\]]{0,200}\*\*\]|\[{1,2}[A-Z][A-Z _/-]{1,40}\d{0,4}\]{1,2}|<{1,2}[A-Z][A-Z _/-]{2,40}\d{0,4}>{1,2}|(?i:\[redacted\]|<redacted>)|_{2,}"
        r"|(?<![A-Za-z])X{3,}(?:[-/]X{3,})*(?![A-Za-z0-9])"
    ),
    "address of the net": re.compile(
        r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}|(?i:\b(?:https?://|ftp://|www\.)[^\s<>\"]{1,500})(?<![.,;)])"
        r"|(?<![\w.@-])(?:[a-z0-9-]{1,63}\.){1,4}(?:com|org|net|edu|gov|info|io)\b(?:/[^\s]{0,200}(?<![.,;)]))?"
        r"|(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w])|(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){5,7}[0-9A-Fa-f]{1,4}(?![\w:])"
        r"|(?<![\w-])[\w-]{1,80}\.(?i:jpe?g|png|tiff?|gif|bmp|dcm|pdf|docx?)\b"
    ),
    "place": re.compile(
        rf"\b(?:P\.?O\.? Box \d{{1,6}}|\d{{1,5}} (?:[NSEW]\.? )?(?:[A-Z][A-Za-z'-]{{1,30}} ){{1,3}}{_STREET})(?:,? (?:Apt|Apartment|Suite|Unit|#)\.? ?\w{{1,5}})?"
        rf"(?:,? (?:[A-Z][A-Za-z'-]{{1,30}} ?){{1,3}},? {_STATE}(?: \d{{5}}(?:-\d{{4}})?)?)?"
        rf"|\b(?:[A-Z][a-z'-]{{1,30}} ){{0,2}}[A-Z][a-z'-]{{1,30}}, {_STATE}\b(?: \d{{5}}(?:-\d{{4}})?)?|\b{_STATE} \d{{5}}(?:-\d{{4}})?\b|\b(?i:zip(?: code)?):? \d{{5}}(?:-\d{{4}})?\b"
        r"|\b(?:(?:St\. |[A-Z])[A-Za-z'.-]{1,30} (?:of |and )?){1,5}(?:Hospital|Medical Center|Clinic|Infirmary|Health Center|Nursing Home|Imaging Center|Health System|Cancer Center|Hospice|Radiology Associates)\b"
    ),
    "phone": re.compile(
        r"(?<![\w.])(?:\+?\d{1,2}[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\w)(?:,? ?(?i:x|ext\.?|extension) ?\d{1,6})?"
        r"|(?<![\w.-])\d{3}-\d{4}(?![\w-])|(?<![\w.])\+\d{2}(?: ?\d{2,5}){2,5}(?!\w)|(?i:\b(?:pager|beeper|ext\.|extension)[ ]?(?:number|no\.?|#)?[ ]?:?[ ]?#?\d{3,6})\b"
    ),
    "number": re.compile(
        rf"(?<!\w)\d{{3}}-\d{{2}}-\d{{4}}(?!\w)|(?i:(?<![\w/])#?{_LABEL_OF_CODE}{_SEPARATOR}(?=[A-Z0-9-]{{0,12}}\d{{3}}|[A-Z0-9-]{{0,12}}\d[A-Z0-9-]{{0,12}}\d[A-Z0-9-]{{0,12}}\d)){_CODE}"
        rf"|(?<![\w.])[A-Za-z]{{0,6}}-?\d{{6,}}[A-Za-z]{{0,3}}(?![\w])(?! ?(?:mm|cm|ml|mL|cc)\b)|(?<![\w-])(?=[A-Z0-9]{{0,16}}[A-Z])(?=(?:[A-Z]{{0,16}}\d){{5}})[A-Z0-9]{{7,20}}(?![\w])"
        r"|(?<![\w.-])\d{1,6}(?:-\d{2,8}){2,5}(?![\w-])|(?<![\w.])\d(?:\.\d{1,20}){5,15}(?![\w])"
    ),
    "date": re.compile(
        rf"(?<![\w./-])(?:{_YEAR}[-/.]{_MONTH_NUMBER}[-/.]{_DAY}(?:[T ]\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:\.\d{{1,6}})?)?Z?)?|(?:{_MONTH_NUMBER}[-/.]{_DAY}|{_DAY}[-/.]{_MONTH_NUMBER})[-/.]{_YEAR}"
        rf"|(?:{_MONTH_NUMBER}[-/]{_DAY}|{_DAY}[-/]{_MONTH_NUMBER})[-/]\d{{2}}|{_MONTH_NUMBER}/{_YEAR})(?![\w/-])"
        rf"|\b(?:{_ORDINAL_DAY} (?:of )?)?{_MONTH}(?: {_ORDINAL_DAY}(?!\d| ?(?:mm|cm|x)\b))?,? ?'?{_YEAR}\b|\b{_ORDINAL_DAY}[ -](?:of )?{_MONTH}(?:-\d{{2,4}})?(?!\w)"
        rf"|\b{_MONTH} {_ORDINAL_DAY}(?!\w|\.\d| ?(?:mm|cm|x|to \d)\b)"
        rf"|\b(?i:in|since|on|of|from|early|late|last|this|next|during|until) {_MONTH}(?![\w.]|,? ?\d)"
        rf"|\b(?i:(?:on |since |last |this |next )?(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday))\b"
        rf"|(?i:\b(?:on|from|dated|since|of) )(?:{_MONTH_NUMBER}/{_DAY}|{_DAY}/{_MONTH_NUMBER})(?![\w/]|\.\d| (?:of|the)\b)"
        rf"|(?i:\b(?:in|since|from|dated|during|until|before|after|year|of|circa|early|late|through)) {_YEAR}(?!\w| ?(?:mm|cm|ml|mL|cc)\b)"
    ),
    "time": re.compile(
        r"(?<![\w.:])(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?! ?:?\d)(?:[ ]?(?i:[ap]\.?m\b\.?))?(?: (?i:hours|hrs|h)\b)?|(?<![\w.])(?:0?[1-9]|1[0-2])[ ]?(?:[ap]\.m\.|(?i:[ap]m)\b)"
        r"|(?<![\w.])(?:[01]\d|2[0-3])[0-5]\d ?(?i:hours|hrs)\b|(?i:\bat )(?:[01]\d|2[0-3])[0-5]\d(?![\w.]| ?(?:mm|cm|ml|cc)\b)"
    ),
    "name": re.compile(
        rf"\b(?:{_TITLE}(?:{_NAME}|(?<=[.] )[a-z]{{2,30}}\b|{MARK})|(?i:doctor|professor|prof\.|nurse|miss|reverend|rev\.) {_NAME})(?:,? {_CREDENTIAL})?"
        rf"|\b{_NAME},? {_CREDENTIAL}|(?i:\b{_ROLE}(?: ?: ?| )){_NAME_WORD}(?:,? {_NAME_WORD}){{1,3}}(?![a-z])"
        rf"|(?i:\b{_ROLE} ?: ?){_NAME_WORD}"
    ),
    "told": re.compile(rf"(?i:\b({_TOLD}|{_DONE_BY}|{_LIVES})(?: ?:)? ){_NAME}(?![a-z])"),
    "age": re.compile(
        rf"(?<![\w.]){_OVER_89}[ -]?(?i:years?(?:[ -]old| of age)?|yrs?(?:[ -]old)?|y/?o\b|yo)(?![A-Za-z])|(?i:\bage[d]?:? ){_OVER_89}(?:[ ]?(?i:years?|yrs?))?(?![\w.])|(?<![\w.]){_OVER_89} ?[MF](?!\w)"
        rf"|{MARK}[ -]?(?i:years?[ -]old|y/?o\b|yo\b)|{MARK}[MF](?![A-Za-z])"
    ),
}
"""Kind of identifier -> its pattern, in the order in which they are looked for."""


def mark_identifiers(text: str) -> str:
    """Puts `MARK` in the place of every identifier.

    Args:
        text: Text with single spaces.

    Returns:
        The text; equal to the argument if it holds no identifier.
    """
    for kind, pattern in PATTERNS.items():
        text = pattern.sub(rf"\1 {MARK}" if kind == "told" else MARK, text)
    return text
