"""What training changed in the models, as `peftlab diff` measured it: for a report, and for a page of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from peftlab.reading.json_form import Form
from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Cell, Column, Document, Figure, Paragraph, Section, Table
from peftlab.report.numbers import UNKNOWN, called, interval, p_value, plural, score
from peftlab.report.study import Run
from peftlab.runs.folder import DIFFERENCES

_NUMBER: Form = "number?"
_FORM: Form = {
    "settings": {"top": "count"},
    "runs": [
        {
            "weights": {
                "matrices": [
                    {
                        **dict.fromkeys(("relative", "stable_rank", "effective_rank", "angle"), _NUMBER),
                        **dict.fromkeys(("scales_outputs", "scales_inputs"), _NUMBER),
                        **dict.fromkeys(("rotates_inputs", "rotates_outputs"), _NUMBER),
                        "stack": "text?",
                        "block": "count?",
                        "kind": "text",
                        "intruders": "count",
                    }
                ]
            }
        }
    ],
    "layers": [{"cka": _NUMBER, "attention": _NUMBER}],
}
"""What a report shows of a measurement."""


def section(result: Result) -> Section | None:
    """Return what training changed in the tested runs; None if it was not measured."""
    name = f"{result.comparison.name}-changes"
    measured = [(group, run, one) for group in result.comparison.groups for run in group.runs if (one := newest(run))]
    if not measured:
        return None
    rows: list[tuple[Cell, ...]] = []
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for group, run, one in measured:
        matrices, layers = one["runs"][0]["weights"]["matrices"], one["layers"]
        rows.append(
            (
                Cell(group.name),
                Cell(str(run.seed), run.seed),
                *_of_matrices(matrices, one["settings"]["top"]),
                *(_least(layers, "cka"), _mean(layers, "attention", _plain)),
            )
        )
        lines.setdefault(group.name, []).extend(matrices)
    columns = (
        Column("group"),
        Column("seed", True),
        *_COLUMNS,
        Column(
            "least CKA", True, "debiased linear CKA of the hidden states of the pretrained and the fine-tuned model"
        ),
        Column("attention", True, "mean Jensen-Shannon divergence of attention, in bits"),
    )
    table = Table(f"{name}-table", columns, tuple(rows), "What training changed")
    if len(lines) == 1:
        (matrices,) = lines.values()
        lines = dict(_by_kind(matrices))
    blocks: tuple[Block, ...] = (table, *_figure(name, lines))
    return Section(name, "What training changed", blocks)


def newest(run: Run) -> dict[str, Any] | None:
    """Return the newest measurement of a run; None if there is none that can be read."""
    return run.newest(DIFFERENCES, _FORM, lambda one: one["runs"])


def page(document: Mapping[str, Any]) -> str:
    """Return what `peftlab diff` has measured as one HTML page, with all matrices and a figure."""
    from peftlab.report import html
    from peftlab.report.drawing.drawn import draw_all

    sections = list(sections_of(document))
    for number, run in enumerate(document["runs"]):
        matrices = run["weights"]["matrices"]
        blocks: tuple[Block, ...] = _figure(f"run-{number}", dict(_by_kind(matrices)))
        blocks += tuple(_whole(f"run-{number}-whole", matrices))
        sections.append(Section(f"matrices-{number}", f"Matrices of {run['name']}", blocks))
    whole = Document("What training changed", f"{document['before']} \u2192 {document['after']}", sections)
    return html.page(whole, draw_all(whole))


def sections_of(document: Mapping[str, Any]) -> Iterable[Section]:
    """Yield the sections of what `peftlab diff` has measured."""
    for number, run in enumerate(document["runs"]):
        blocks = tuple(_of_run(f"run-{number}", run, document["settings"]["top"]))
        yield Section(f"weights-{number}", f"{run['name']} ({run['method']}), against the pretrained model", blocks)
    if document["cosines"]:
        yield Section("cosines", "The changes of the two runs against each other", (_cosines(document),))
    if document["layers"]:
        yield Section("states", "Hidden states and attention", tuple(_states(document)))
    if document["answers"]:
        yield Section("answers", "Answers", tuple(_answers(document["answers"])))
    if document["left_out"]:
        texts = [Paragraph(f"{what}: {reason}") for what, reason in document["left_out"].items()]
        yield Section("left-out", "Left out", tuple(texts))


_COLUMNS = (
    Column("change", True, "norm of the change over that of the pretrained matrix, a mean over matrices"),
    Column("stable rank", True, "squared norm of the change over that of its first singular value"),
    Column("effective rank", True, "exponential of the entropy of its singular values"),
    Column("intruders", True, "leading directions of the fine-tuned matrix that the pretrained one lacks"),
    Column("angle", True, "by which the weights of an output turn, in degrees"),
    Column("scaling", True, "share of the change that factors on outputs or inputs explain"),
    Column("rotation", True, "share that a rotation of inputs or outputs explains; half of a random change"),
)


def _of_matrices(matrices: Sequence[Mapping[str, Any]], top: int) -> tuple[Cell, ...]:
    found = sum(one["intruders"] for one in matrices)
    largest = [{"scaling": _largest(one, "scales"), "rotation": _largest(one, "rotates")} for one in matrices]
    return (
        _mean(matrices, "relative", _plain),
        _mean(matrices, "stable_rank", _rank),
        _mean(matrices, "effective_rank", _rank),
        Cell(f"{found:,} of {top * len(matrices):,}", found),
        _mean(matrices, "angle", lambda value: f"{value:.2f}"),
        _mean(largest, "scaling", _percent),
        _mean(largest, "rotation", _percent),
    )


def _largest(matrix: Mapping[str, Any], form: str) -> float | None:
    shares = [matrix[f"{form}_{side}"] for side in ("inputs", "outputs")]
    return max((share for share in shares if share is not None), default=None)


def _of_run(name: str, run: Mapping[str, Any], top: int) -> Iterable[Block]:
    weights = run["weights"]
    matrices, vectors = weights["matrices"], weights["vectors"]
    yield Paragraph(
        f"{plural(len(matrices), 'matrix', 'matrices')} and {plural(len(vectors), 'vector')} of the backbone changed, "
        f"{plural(weights['unchanged'], 'parameter')} did not."
    )
    if matrices:
        rows = tuple((Cell(kind), *_of_matrices(of, top)) for kind, of in _by_kind(matrices))
        yield Table(f"{name}-matrices", (Column("matrices"), *_COLUMNS), rows, "Changes of matrices")
    if vectors:
        columns = ("shift", "norm", "factor", "spread")
        notes = ("norm of the change", "of the pretrained vector", "of a normalisation", "its standard deviation")
        heads = (Column("vectors"), *(Column(one, True, note) for one, note in zip(columns, notes, strict=True)))
        rows = tuple((Cell(kind), *(_mean(of, column, _plain) for column in columns)) for kind, of in _by_kind(vectors))
        yield Table(f"{name}-vectors", heads, rows, "Changes of vectors")
    if run["added"]:
        heads = (Column("inserted module"), Column("adds", True, "norm of what it adds, over that of the states"))
        rows = tuple((Cell(module), _cell(ratio)) for module, ratio in run["added"].items())
        yield Table(f"{name}-added", heads, rows, "What inserted modules add")
    if run["prefixes"]:
        heads = (Column("prefix of"), Column("keys", True, "mean norm"), Column("values", True, "mean norm"))
        rows = tuple((Cell(at), _cell(of["keys"]), _cell(of["values"])) for at, of in run["prefixes"].items())
        yield Table(f"{name}-prefixes", heads, rows, "Prefixes")
    if run["virtual_tokens"]:
        heads = (Column("nearest word"), Column("cosine", True), Column("norm", True, "over that of a mean word"))
        rows = tuple((Cell(one["nearest"]), _cell(one["cosine"]), _cell(one["norm"])) for one in run["virtual_tokens"])
        yield Table(f"{name}-tokens", heads, rows, "Virtual tokens")
    if run["to_virtual"]:
        heads = (Column("block"), Column("share", True, "of the attention that a token of a text pays"))
        rows = tuple((_block(one), _cell(one["share"], _percent)) for one in run["to_virtual"])
        yield Table(f"{name}-attention", heads, rows, "Attention to virtual tokens")


def _cosines(document: Mapping[str, Any]) -> Table:
    places = {one["name"]: one for one in document["runs"][0]["weights"]["matrices"]}
    pairs = [{**places[name], "cosine": cosine} for name, cosine in document["cosines"].items() if name in places]
    rows = tuple((Cell(kind), _mean(of, "cosine", _plain)) for kind, of in _by_kind(pairs))
    note = "of the changes of whole weights, not of factors"
    return Table("cosines-table", (Column("matrices"), Column("cosine", True, note)), rows, "Cosines between changes")


def _states(document: Mapping[str, Any]) -> Iterable[Block]:
    unit = "tokens" if document["of_tokens"] else "texts"
    yield Paragraph(
        f"Of {document['examples']:,} of {document['of']:,} examples of the {document['split']} split; hidden states "
        f"of {unit}. CKA is 1 for states that only turn or grow, and a few distant {unit} can move it far."
    )
    crosses = any(one["crossed"] is not None for one in document["layers"])
    keys = ("cka", "moved", "attention", *(("crossed",) if crosses else ()))
    heads = (
        Column("CKA", True, "debiased linear CKA"),
        Column("moved", True, "distance of the hidden states, over their norm"),
        Column("attention", True, "Jensen-Shannon divergence, in bits"),
        Column("to the encoder", True, "the same"),
    )
    rows = tuple((_block(one), *(_cell(one[key]) for key in keys)) for one in document["layers"])
    yield Table("states-table", (Column("block"), *heads[: len(keys)]), rows, "Hidden states and attention")
    if logits := document["logits"]:
        same = "" if logits["agreement"] is None else f"; {_percent(logits['agreement'])} of the predictions agree"
        yield Paragraph(
            f"Logits moved by {_plain(logits['shift'])} on average; their mean size is {_plain(logits['size'])}{same}."
        )


def _answers(answers: Mapping[str, Any]) -> Iterable[Block]:
    metric = answers["metric"]
    yield Paragraph(
        f"{called(metric)} of {answers['examples']:,} examples: {score(answers['before'], metric)} \u2192 "
        f"{score(answers['after'], metric)}, {score(answers['difference'], metric, True)} "
        f"({interval(answers['low'], answers['high'], metric, True)}, over {answers['units']}). "
        f"{answers['won']:,} become right and {answers['lost']:,} wrong; {answers['test']}: p {p_value(answers['p'])}."
    )
    heads = ("example", "flip", "loss", "gold", "before", "after")
    rows = tuple(
        (
            Cell(one["id"], note=_short(one["input"], 200)),
            Cell(one["flip"] or UNKNOWN),
            Cell(f"{one['loss']:+.3g}", one["loss"]),
            *(Cell(_short(one[key])) for key in ("gold", "before", "after")),
        )
        for one in answers["changed"]
    )
    columns = tuple(Column(head, head == "loss", "change of the loss" if head == "loss" else "") for head in heads)
    yield Table("answers-table", columns, rows, "The examples whose loss changes most")


def _figure(name: str, lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[Figure, ...]:
    """Return the figure of the sizes of changes over the blocks, a line each; none where no block changed."""
    series = []
    places = dict.fromkeys((one["stack"], one["block"]) for of in lines.values() for one in of if one["stack"])
    numbers = {place: number for number, place in enumerate(places)}
    for label, of in lines.items():
        points: dict[int, list[float]] = {}
        for one in of:
            if one["stack"] and one["relative"] is not None:
                points.setdefault(numbers[one["stack"], one["block"]], []).append(one["relative"])
        if points:
            means = [fmean(points[x]) for x in sorted(points)]
            series.append({"label": label, "x": sorted(map(float, points)), "mean": means})
    data = {"x": {"label": "block"}, "y": {"label": "norm of the change, over that of the weight"}, "series": series}
    caption = "How far training moved the weights of each block: norm of the change over the norm of the matrix."
    return (Figure(f"{name}-figure", "learning_curves", data, caption),) if series else ()


def _whole(name: str, matrices: Sequence[Mapping[str, Any]]) -> Iterable[Table]:
    keys = ["relative", "stable_rank", "effective_rank", "leading", "intruders", "closest", "angle"]
    keys += ["scales_outputs", "scales_inputs", "rotates_inputs", "rotates_outputs"]
    columns = (Column("matrix"), *(Column(key.replace("_", " "), True) for key in keys))
    rows = tuple((Cell(one["name"]), *(_cell(one[key]) for key in keys)) for one in matrices)
    return (Table(name, columns, rows, "Every matrix"),) if rows else ()


def _by_kind(places: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, list[Mapping[str, Any]]]]:
    """Return places by their kind, in order of first appearance."""
    order = {kind: number for number, kind in enumerate(dict.fromkeys(one["kind"] for one in places))}
    ordered = sorted(places, key=lambda one: order[one["kind"]])
    return [(kind, list(of)) for kind, of in groupby(ordered, key=lambda one: str(one["kind"]))]


def _block(one: Mapping[str, Any]) -> Cell:
    return Cell(f"{one['stack']}.{one['block']}")


def _mean(rows: Iterable[Mapping[str, Any]], key: str, write: Any) -> Cell:
    values = [one[key] for one in rows if one[key] is not None]
    return _cell(fmean(values) if values else None, write)


def _least(rows: Iterable[Mapping[str, Any]], key: str) -> Cell:
    return _cell(min((one[key] for one in rows if one[key] is not None), default=None))


def _cell(value: float | None, write: Any = None) -> Cell:
    return Cell(UNKNOWN if value is None else (write or _plain)(value), value)


def _plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if abs(value) >= 1e-3 else f"{value:.2g}"


def _rank(value: float) -> str:
    return f"{value:.1f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _short(value: Any, most: int = 48) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
