"""Charts as SVG elements; their colours are the page's, so that they fit a light screen, a dark one and paper.

An element, not a string, is what `Section.charts` takes: the XML writer escapes every text in it.
"""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement

_WIDTH, _HEIGHT = 320, 168
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 28, 22
_LEGEND_STEP = 66


def distribution_chart(
    title: str,
    series: Mapping[str, Sequence[float]],
    *,
    low: str,
    high: str,
    limit: float,
    note: str = "",
) -> Element:
    """Draws distributions over one axis: the first series as an area, the others as lines over it.

    Args:
        title: Over the chart.
        series: Share in each bin by name, all of one length; the name also chooses the colour in the style sheet
            (`red`, `green`, `blue`, else by order) and stands in the legend where there are several.
        low: What the left end of the axis is.
        high: What the right end is.
        limit: The share at the top of the chart; larger ones are cut off there.
        note: Right of the title, such as the number of images.

    Raises:
        ValueError: If the series are empty or of different lengths, or the limit is not positive.
    """
    lengths = {len(shares) for shares in series.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError("the series of a chart must have one length, at least one bin")
    if limit <= 0:
        raise ValueError(f"the top of a chart must be positive, found {limit}")
    svg = Element("svg", {"viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "role": "img", "class": "chart"})
    SubElement(svg, "title").text = f"{title}: {', '.join(series)} from {low} to {high}"
    _write(svg, _LEFT, 16, title, "chart-title")
    _write(svg, _WIDTH - _RIGHT, 16, note, "chart-note", "end")
    floor = _HEIGHT - _BOTTOM
    SubElement(svg, "path", {"class": "axis", "d": f"M{_LEFT} {floor}H{_WIDTH - _RIGHT}"})
    for number, (name, shares) in enumerate(series.items()):
        colour = name if name in ("red", "green", "blue") else str(number)
        points = _steps(shares, limit)
        if number == 0 and len(series) < 3:
            SubElement(svg, "path", {"class": f"area fill-{colour}", "d": f"{points}V{floor}H{_LEFT}Z"})
        SubElement(svg, "path", {"class": f"line stroke-{colour}", "d": points})
    _write(svg, _LEFT, _HEIGHT - 7, low, "chart-note")
    _write(svg, _WIDTH - _RIGHT, _HEIGHT - 7, high, "chart-note", "end")
    if len(series) > 1:
        first = _WIDTH / 2 - _LEGEND_STEP * (len(series) - 1) / 2
        for number, name in enumerate(series):
            colour = name if name in ("red", "green", "blue") else str(number)
            middle = f"{first + number * _LEGEND_STEP:g}"
            _write(svg, middle, _HEIGHT - 7, name, f"chart-note ink-{colour}", "middle")
    return svg


def _steps(shares: Sequence[float], limit: float) -> str:
    """Returns the path of a histogram's outline: one horizontal step for each bin."""
    step = (_WIDTH - _LEFT - _RIGHT) / len(shares)
    floor, height = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP
    tops = [floor - height * min(max(share / limit, 0), 1) for share in shares]
    steps = [f"V{top:.1f}H{_LEFT + (number + 1) * step:.1f}" for number, top in enumerate(tops)]
    return f"M{_LEFT} {floor}{''.join(steps)}"


def _write(svg: Element, x: float | str, y: float, words: str, style: str, anchor: str = "start") -> None:
    if words:
        SubElement(svg, "text", {"x": str(x), "y": str(y), "class": style, "text-anchor": anchor}).text = words
