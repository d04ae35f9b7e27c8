import base64
import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from arra_med.reporting.charts import distribution_chart
from arra_med.reporting.html import Cell, HtmlReport

PLANTED = "<script>alert('planted')</script>\"><img src=x onerror=alert(1)>"

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><script>alert(2)</script><path d="M0 0H9"/></svg>'


class Page(HTMLParser):
    """The tags, attributes and words of a page, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


def report_of(words: str) -> HtmlReport:
    """A report that holds every kind of block and the same words in every place that takes words."""
    report = HtmlReport(words, banner=words, subtitle=words, footer=words)
    section = report.section(words).text(words).facts({words: words, "studies": 12345, "share": 0.123456, "none": None})
    section.counts({words: {words: 3, "other": 1}, "empty": {}})
    section.table((words, "n"), [(words, 7)], words).cross_table(
        words, (words, "b"), {words: {words: 1, "b": 3}}, words
    )
    charts = [distribution_chart(words, {words: [0.5, 0.5], "all": [1, 0]}, low=words, high=words, limit=1, note=words)]
    section.charts(charts, words).pictures([(np.zeros((80, 80), dtype=np.uint8), words)])
    section.plot(SVG, words)
    for number in range(2):
        report.section(f"{words} {number}")
    return report


def test_markup_in_any_text_stays_text() -> None:
    plain, planted = Page(report_of("words").html()), Page(report_of(PLANTED).html())
    assert planted.tags == plain.tags
    assert [name for name, _ in planted.attributes] == [name for name, _ in plain.attributes]
    assert planted.words.count(PLANTED) == plain.words.replace("-apple-system", "").count("words")


def test_nothing_comes_from_elsewhere_and_nothing_runs() -> None:
    page = Page(report_of("words").html())
    assert not {"script", "link", "iframe", "object", "embed", "form"} & set(page.tags)
    sources = [value or "" for name, value in page.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert [value for value in sources if not value.startswith(("data:image/", "#"))] == []
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|@font-face", page.words)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in page.attributes


def test_numbers_are_written_for_people_and_shares_are_of_the_right_sum() -> None:
    html = report_of("words").html()
    assert "<dd>12,345</dd>" in html
    assert "<dd>0.123</dd>" in html
    assert "<dd>–</dd>" in html
    report = HtmlReport("t", banner="b")
    report.section("s").table(("a", "b"), [("x", Cell("12.0%", is_number=True))])
    assert '<td class="number">12.0%</td>' in report.html()
    bars = re.findall(
        r'--share:([\d.]+)"></i></td><td class="number">(\d+)</td><td class="number muted">([\d.]+%)', html
    )
    assert bars == [("1.0000", "3", "75.0%"), ("0.3333", "1", "25.0%")]
    cells = re.findall(r'<td class="number"(?: style="--share:([\d.]+)")?>(\d+)</td>', html.partition("<thead>")[2])
    assert cells == [("", "7"), ("0.2500", "1"), ("0.7500", "3"), ("", "4")]


def test_a_row_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="every row of a table needs 2 values"):
        HtmlReport("t", banner="b").section("s").table(("a", "b"), [("x",)])


def test_pictures_are_small_copies(tmp_path: Path) -> None:
    report = HtmlReport("t", banner="b")
    report.section("s").pictures([(np.full((400, 200, 3), 255, dtype=np.uint8), "white")], max_side_px=100)
    kind, data = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', report.html())[0]
    content = base64.b64decode(data)
    assert (kind, content[:3]) == ("png", b"\x89PN")  # 100 x 50: too small for JPEG
    assert (int.from_bytes(content[16:20]), int.from_bytes(content[20:24])) == (50, 100)


def test_the_file_is_written_whole_with_its_permissions(tmp_path: Path) -> None:
    report = report_of("words")
    report.write(tmp_path / "deep" / "report.html", mode=0o600)
    path = tmp_path / "deep" / "report.html"
    assert path.read_text(encoding="utf-8") == report.html()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.browser
def test_a_browser_asks_for_nothing_runs_nothing_and_fits_a_phone(tmp_path: Path, browser_path: str) -> None:
    report_of(PLANTED + "long" * 40).write(tmp_path / "report.html")
    asked: list[str] = []
    told: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: told.append(dialog.message))
        page.on("console", lambda message: told.append(message.text))
        page.goto((tmp_path / "report.html").as_uri())
        width = page.evaluate("document.documentElement.scrollWidth")
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.emulate_media(color_scheme="light")
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        shown = page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        browser.close()
    assert [url for url in asked if not url.startswith("data:")] == [(tmp_path / "report.html").as_uri()]
    assert (told, width, shown) == ([], 390, True)
    assert (dark, light) == ("rgb(15, 19, 24)", "rgb(246, 247, 249)")
