from xml.etree import ElementTree

import pytest

from arra_med.reporting.charts import distribution_chart


def paths(chart: ElementTree.Element, style: str) -> list[str]:
    return [path.attrib["d"] for path in chart.iter("path") if style in path.attrib["class"]]


def test_steps_have_the_heights_of_the_shares_and_are_cut_at_the_limit() -> None:
    chart = distribution_chart("nih_cxr14", {"views": [0.0, 0.25, 0.5, 0.9]}, low="0", high="255", limit=0.5)
    # Four bins of (320 - 16) / 4 = 76; the floor is 168 - 22 = 146, the top 28, half way 87.
    outline = "M8 146V146.0H84.0V87.0H160.0V28.0H236.0V28.0H312.0"
    assert paths(chart, "line") == [outline]
    assert paths(chart, "area") == [f"{outline}V146H8Z"]


def test_the_channels_of_a_colour_image_have_their_colours_and_a_legend() -> None:
    shares = [0.5, 0.5]
    chart = distribution_chart("odir5k", {"red": shares, "green": shares, "blue": shares}, low="0", high="255", limit=1)
    styles = [path.attrib["class"] for path in chart.iter("path")]
    assert styles == ["axis", "line stroke-red", "line stroke-green", "line stroke-blue"]
    assert [text.text for text in chart.iter("text")] == ["odir5k", "0", "255", "red", "green", "blue"]
    assert chart.findtext("title") == "odir5k: red, green, blue from 0 to 255"


def test_series_that_cannot_share_a_chart_are_refused() -> None:
    for series in ({}, {"a": []}, {"a": [1.0], "b": [0.5, 0.5]}):
        with pytest.raises(ValueError, match="must have one length, at least one bin"):
            distribution_chart("t", series, low="0", high="1", limit=1)
    with pytest.raises(ValueError, match="the top of a chart must be positive, found 0"):
        distribution_chart("t", {"a": [1.0]}, low="0", high="1", limit=0)
