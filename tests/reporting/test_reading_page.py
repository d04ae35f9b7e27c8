import base64
import hashlib
import json
import re

from arra_med.reporting.reading_page import ReadingImage, reading_page

PLANTED = "</script><script>alert(1)</script><img src=x onerror=alert(1)> 'quoted' \u2028"


def page_of(words: str) -> str:
    return reading_page(words, words, "0123", [ReadingImage("img-1", b"PNG", words)], words)


def test_markup_in_any_text_stays_text() -> None:
    planted, plain = page_of(PLANTED), page_of("words")
    tags = [re.findall(r"<(/?[a-z]+)", page) for page in (planted, plain)]
    assert tags[0] == tags[1]
    told = re.search(r'id="reading-set">(.*?)</script>', planted, re.DOTALL)
    assert told is not None
    assert json.loads(told[1])["images"][0]["report"] == PLANTED


def test_only_the_pages_own_script_may_run_and_nothing_may_be_fetched() -> None:
    page = page_of("words")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy is not None
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert policy[1].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "http" not in page.replace('http-equiv="', "")


def test_without_reports_the_finding_is_not_asked_for() -> None:
    assert "Does it show" in page_of("words")
    assert "Does it show" not in page_of("")
