"""The report of a scorecard as one page without network, and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftlab.report import html, numbers
from peftlab.report.document import Block, Cell, Column, Document, Figure, Finding, Findings, Paragraph, Section, Table
from peftlab.report.drawing.drawn import draw_all
from peftlab.tables.stability import SHIFTED, SUSPECT
from peftlab.terminal.output import table as text_table

MEASURES = {
    "auc": "AUC",
    "gini": "Gini",
    "ks": "KS",
    "brier": "Brier",
    "log_loss": "log loss",
}

Result = Mapping[str, Any]


def write(result: Result, folder: Path) -> Path:
    """Write the page into the folder of the scorecard, and return it."""
    whole = document(result, folder.name)
    return html.write(whole, folder, draw_all(whole))


def printed(result: Result) -> str:
    """Return what the terminal shows."""
    rows = [["", *MEASURES.values()]]
    rows += [[name, *(_plain(of[key]) for key in MEASURES)] for name, of in result["models"].items()]
    gains = [
        [name, *(_signed(of[key]) for key in ("auc", "brier", "log_loss"))] for name, of in result["gains"].items()
    ]
    at = next(row for row in result["cut_offs"] if row["chosen"])
    lines = [
        text_table(rows),
        "",
        text_table([["differences on the same rows", "AUC", "Brier", "log loss"], *gains]),
        "",
        f"{result['says'].capitalize()}. {_at_cut_off(result, at)}",
    ]
    if suspects := result["suspects"]:
        lines.append(f"Likely leaks, each alone with an AUC above {SUSPECT:g}: {', '.join(suspects)}.")
    return "\n".join(lines)


def document(result: Result, name: str) -> Document:
    """Return the report of what `peftlab.tables.scorecard.build` found."""
    splits = ", ".join(
        f"{split} {of['rows']:,} rows ({of['positive']:,} '{result['positive']}'{_dates(of)})"
        for split, of in result["splits"].items()
    )
    subtitle = f"The probability of '{result['positive']}'; {splits}"
    sections = (
        _worth(result),
        _calibration(result),
        _decisions(result),
        _groups(result),
        _why(result),
        _columns(result),
    )
    return Document(f"Scorecard {name}", subtitle, [one for one in sections if one is not None], result)


def _worth(result: Result) -> Section:
    columns = (Column("reads"), *(Column(title, True) for title in MEASURES.values()))
    rows = [(Cell(name), *(_interval(of[key]) for key in MEASURES)) for name, of in result["models"].items()]
    gains = [
        (Cell(name), *(_interval(of[key], signed=True) for key in ("auc", "ks", "brier", "log_loss")))
        for name, of in result["gains"].items()
    ]
    compared = [
        (
            Cell(one["reads"]),
            Cell(one["kind"], strong=one["chosen"]),
            *map(_number, (one["validation_auc"], one["test_auc"])),
        )
        for one in result["compared"]
    ]
    oof = result["text_auc"]
    blocks: tuple[Block, ...] = (
        Paragraph(
            f"{result['says'].capitalize()}: see the difference of the AUCs below. The text's score alone has an AUC "
            f"of {oof['train']:.3f} in training, where each row is scored by a model that has not seen it, and of "
            f"{oof['test']:.3f} in test."
        ),
        Table(
            "worth",
            columns,
            tuple(rows),
            "On the test rows, with 95 % intervals: DeLong's for AUC and Gini, else of a bootstrap over rows or groups",
        ),
        Table(
            "gains",
            (Column("first - second"), *(Column(MEASURES[key], True) for key in ("auc", "ks", "brier", "log_loss"))),
            tuple(gains),
            "Differences on the same test rows; a smaller Brier score and log loss are better",
        ),
        Table(
            "compared",
            (Column("reads"), Column("model"), Column("validation AUC", True), Column("test AUC", True)),
            tuple(compared),
            "The validation rows choose the model in bold; they also stop the training of texts, and calibrate",
        ),
    )
    return Section("worth", "What the columns and the text are worth", blocks)


def _calibration(result: Result) -> Section:
    series = []
    for name, curve in result["calibration"].items():
        bins = [
            {"low": low, "high": high, "number": number, "confidence": forecast, "accuracy": outcome}
            for low, high, number, forecast, outcome in zip(
                curve["edges"], curve["edges"][1:], curve["number"], curve["forecast"], curve["outcome"], strict=False
            )
        ]
        series.append({"label": name, "ece": result["calibration_errors"][name]["value"], "bins": bins})
    names = ("reliability", "resolution", "uncertainty", "within")
    errors = result["calibration_errors"]
    parts = [
        tuple(
            [Cell(name)]
            + [_number(errors[name][key]) for key in ("value", "if_calibrated")]
            + [_number(of[key]) for key in names]
        )
        for name, of in result["brier_parts"].items()
    ]
    titles = (
        Column("reads"),
        Column("ECE", True, "expected calibration error"),
        Column("ECE if calibrated", True, "what chance alone gives so many rows"),
        *(Column(name, True) for name in names),
    )
    caption = "Brier = reliability - resolution + uncertainty + within bins; resolution is good, the others are not"
    data = {"series": series, "x": "Forecast probability", "y": "Share that came true"}
    return Section(
        "calibration",
        "Do the probabilities mean what they say?",
        (
            Figure("calibration", "reliability", data, "Forecast and outcome on the test rows, in bins of equal size"),
            Table("brier-parts", titles, tuple(parts), caption),
        ),
    )


def _decisions(result: Result) -> Section:
    titles = (
        Column("refused from", True),
        Column("approved", True),
        Column("bad among approved", True),
        Column("bad refused", True),
        Column("lift", True, "share of the bad among the refused over that among all"),
        Column("earned per application", True),
    )
    rows = [
        (
            Cell(f"{row['refused_from']:.3f}", row["refused_from"], strong=row["chosen"]),
            *(_share(row[key]) for key in ("approved", "bad_among_approved", "bad_refused")),
            _number(row["lift"], 2),
            _number(row["earned_per_application"]),
        )
        for row in result["cut_offs"]
    ]
    chosen = next(row for row in result["cut_offs"] if row["chosen"])
    settings = result["settings"]
    says = (
        f"{_at_cut_off(result, chosen)} A bad application that is approved costs {settings['loss']:g}, a good one "
        f"earns {settings['gain']:g}. Of the other rows, the cut-off approves the safest tenth, two tenths, and so on."
    )
    return Section(
        "decisions", "Cut-offs", (Paragraph(says), Table("cut-offs", titles, tuple(rows), "On the test rows"))
    )


def _groups(result: Result) -> Section | None:
    if not result["gaps"]:
        return None
    rows = []
    for one in result["gaps"]:
        if (gap := one["gap"]) is None:
            rows.append(
                (Cell(one["column"]), Cell(_rate(one["rate"])), Cell("fewer than two large groups"), Cell(""), Cell(""))
            )
            continue
        each = "; ".join(f"{group['name']} {_of_group(group)}" for group in gap["groups"])
        limits = "" if gap["low"] is None else f" [{100 * gap['low']:.1f}, {100 * gap['high']:.1f}]"
        rows.append(
            (
                Cell(one["column"]),
                Cell(_rate(one["rate"])),
                Cell(each),
                Cell(f"{100 * gap['value']:.1f}{limits}", gap["value"]),
                Cell(numbers.p_value(one.get("p")), one.get("p")),
            )
        )
    titles = (Column("groups by"), Column("rate"), Column("in %"), Column("gap", True), Column("p", True))
    says = (
        "The approval rate by group, and that among applicants who would have paid (equal opportunity). Whether a gap "
        "is just is no question of statistics; leaving a column out does not close it, as other columns tell it too."
    )
    caption = "At the chosen cut-off on the test rows, with 95 % intervals; p values are adjusted for all gaps (Holm)"
    return Section("groups", "Groups", (Paragraph(says), Table("groups", titles, tuple(rows), caption)))


def _why(result: Result) -> Section:
    sizes = [(Cell(one["column"]), _number(one["mean_absolute"])) for one in result["importance"]]
    told = [
        (
            Cell(one["place"]),
            Cell(f"{one['probability']:.3f}", one["probability"]),
            Cell("; ".join(reason["says"] for reason in one["reasons"]) or "no column raises the odds"),
        )
        for one in result["riskiest"]
    ]
    says = (
        "What a column does to the log odds of an application, beside those of the training rows (interventional "
        "Shapley values). It says what the model does, and not what would happen if an applicant changed. The text is "
        "one column; peftlab explain says which of its words count."
    )
    return Section(
        "reasons",
        "Reasons",
        (
            Paragraph(says),
            Table(
                "importance", (Column("column"), Column("mean size", True)), tuple(sizes), "Over test rows, in log odds"
            ),
            Table(
                "riskiest",
                (Column("application"), Column("probability", True), Column("reasons")),
                tuple(told),
                "The riskiest applications of the test rows",
            ),
        ),
    )


def _columns(result: Result) -> Section:
    found = [
        Finding("leak", "warning", f"'{name}' alone has an AUC above {SUSPECT:g}: is it known only after granting?")
        for name in result["suspects"]
    ]
    found += [
        Finding(
            "shift",
            "warning",
            f"'{one['column']}' has changed from training to test: its stability index is {one['stability_index']:.2f}",
        )
        for one in result["stability"]
        if one["stability_index"] > SHIFTED
    ]
    found += [
        Finding("unknown", "note", f"'{name}': {count} test rows have a value that is rare or unknown in training")
        for name, count in result["unknown_categories"].items()
    ]
    left_out = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in result["columns"]["left_out"].items())
    rows = [
        (Cell(one["column"]), _number(one["stability_index"]), _number(one["auc_alone"])) for one in result["stability"]
    ]
    titles = (Column("column"), Column("stability index", True), Column("AUC alone", True))
    caption = (
        f"Population stability index from training to test rows (above {SHIFTED:g}: changed), and the AUC of the "
        "column alone on the validation rows"
    )
    blocks = (Paragraph(f"Left out: {left_out or 'no column'}."), Findings(tuple(found)))
    return Section("columns", "Columns", (*blocks, Table("stability", titles, tuple(rows), caption)))


def _at_cut_off(result: Result, row: Mapping[str, Any]) -> str:
    return (
        f"Refused from a probability of {row['refused_from']:.3f} on, {numbers.share(row['approved'])} of the test "
        f"rows are approved, of which {numbers.share(row['bad_among_approved'])} are '{result['positive']}'."
    )


def _dates(of: Mapping[str, Any]) -> str:
    return f", {of['from']} to {of['to']}" if of["from"] is not None else ""


def _rate(name: str) -> str:
    return {"approval_rate": "approved", "equal_opportunity": "approved of the good"}[name]


def _of_group(group: Mapping[str, Any]) -> str:
    limits = "" if group["low"] is None else f" [{100 * group['low']:.1f}, {100 * group['high']:.1f}]"
    return f"{100 * group['value']:.1f}{limits} of {group['size']:,}"


def _plain(of: Mapping[str, float]) -> str:
    return f"{of['value']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"


def _signed(of: Mapping[str, float]) -> str:
    return f"{of['value']:+.3f} [{of['low']:+.3f}, {of['high']:+.3f}]"


def _interval(of: Mapping[str, float], signed: bool = False) -> Cell:
    return Cell(_signed(of) if signed else _plain(of), of["value"])


def _number(value: float | None, digits: int = 3) -> Cell:
    return Cell("" if value is None else f"{value:.{digits}f}", value)


def _share(value: float) -> Cell:
    return Cell(f"{100 * value:.1f} %", value)
