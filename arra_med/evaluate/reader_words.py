"""A reader study's summary as tables of words, the same in the app and on the command line."""

from dataclasses import dataclass

from arra_med.evaluate.intervals import Interval
from arra_med.evaluate.reader_summary import ReaderSummary, Reading


@dataclass(frozen=True)
class WordTable:
    """A table of text.

    Attributes:
        title: Above it.
        columns: Headings.
        rows: As many texts each.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def summary_tables(summary: ReaderSummary) -> list[WordTable]:
    """Returns what a study found: who read, the results, the arms, the agreement."""
    overview = [
        ("Study", summary.study),
        ("Cases", str(summary.num_cases)),
        ("Readers", f"{summary.num_readers}, of whom {summary.num_finished} have finished"),
        ("Seed", str(summary.seed)),
        ("Ethics approval, as stated by the owner", summary.ethics or "nothing stated"),
    ]
    tables = [WordTable(summary.title, ("", ""), tuple(overview)), _readers(summary)]
    rows = [
        (reading.reader, row.arm, row.role, row.question, f"{row.measure} {shown(row.interval)}", str(row.num_answers))
        for reading in summary.readings
        for row in reading.arms
    ]
    tables.append(WordTable("By arm", ("Reader", "Arm", "Kind", "Question", "Result", "Answers"), tuple(rows)))
    if summary.agreement:
        tables.append(
            WordTable(
                "Agreement",
                ("Question", "Who", "Measure", "Kappa", "Same answer", "Cases"),
                tuple(
                    (a.question, a.who, a.measure, _number(a.kappa), _percent(a.same), str(a.num_cases))
                    for a in summary.agreement
                ),
            )
        )
    return tables


def shown(interval: Interval | None) -> str:
    """Returns `0.70 [0.55, 0.82]`, or a dash."""
    return "–" if interval is None else f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _readers(summary: ReaderSummary) -> WordTable:
    columns: tuple[str, ...] = ("Reader", "Answered", "Median time")
    if summary.design == "real_or_synthetic":
        columns += ("Accuracy", "Sensitivity (synthetic)", "Specificity (real)")
    elif summary.design == "preference":
        columns += ("Preferred", "Exact binomial test", "Chose the left side")
    return WordTable("By reader", columns, tuple(_reader_row(summary, reading) for reading in summary.readings))


def _reader_row(summary: ReaderSummary, reading: Reading) -> tuple[str, ...]:
    time = "–" if reading.median_seconds is None else f"{reading.median_seconds:.1f} s"
    row: tuple[str, ...] = (reading.reader, f"{reading.num_answered} of {reading.num_screens}", time)
    if summary.design == "real_or_synthetic":
        row += (shown(reading.accuracy), shown(reading.sensitivity), shown(reading.specificity))
    elif reading.preference is not None:
        first, test = reading.arms[0], reading.preference
        ties = f", {test.ties} ties" if test.ties else ""
        p_value = "–" if test.p_value is None else f"p = {test.p_value:.3g}"
        row += (
            f"{first.arm} {shown(first.interval)}",
            f"{test.wins} to {test.losses} cases{ties}, {p_value}",
            _percent(reading.chose_left),
        )
    return row


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
