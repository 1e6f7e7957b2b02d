"""``peftlab label``: labels by rules in place of people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from peftlab.errors import UserError
from peftlab.terminal.arguments import add_allow, add_json, file_to_write
from peftlab.terminal.output import cell, print_json, table

GROUP = "improve"
SUMMARY = "labels by rules: labelling functions vote, and a label model weighs their votes"
DESCRIPTION = (
    "Writes JSON lines that `peftlab train` reads: each text with its label, and with its probability as its weight. A "
    "module of functions is your own code, and is run. Without labels nobody knows how good the labels are: --dev FILE "
    "measures it on some that you have."
)
EXAMPLES = (
    "peftlab label my_texts.csv --functions my_rules.yaml --out labelled.jsonl      # keywords, no Python",
    "peftlab label my_texts.csv --functions my_rules.py --out labelled.jsonl --dev dev.csv",
    "peftlab label sentences.jsonl --task ner --functions names.yaml --out labelled.jsonl",
    "peftlab train task=classification data=json_lines data.path=labelled.jsonl data.format.weight=weight",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the texts, the functions and what becomes of their votes."""
    add_json(parser)
    parser.add_argument("data", metavar="FILE", type=Path, help="the texts: CSV, JSON lines, Parquet, or a text a line")
    parser.add_argument(
        "--functions",
        metavar="FILE",
        type=Path,
        action="append",
        required=True,
        help="a Python module in the current folder, or rules in YAML; may be given several times",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=file_to_write, required=True, help="the labelled texts; replaced if there"
    )
    parser.add_argument("--task", choices=("classification", "ner"), default="classification")
    parser.add_argument(
        "--labels", metavar="A,B,C", help="the classes or entity types; by default those that functions vote for"
    )
    parser.add_argument(
        "--model",
        choices=("majority", "weighted", "generative"),
        default="generative",
        help="majority of votes; votes weighted by accuracies on --dev; or accuracies learnt without labels (default)",
    )
    parser.add_argument("--balance", metavar="A=X,B=Y", help="the share of each class, if you know it")
    parser.add_argument("--dev", metavar="FILE", type=Path, help="labelled texts, to measure the functions by")
    parser.add_argument("--text", metavar="COLUMN", help="of the text (default text), or of words (default tokens)")
    parser.add_argument("--pair", metavar="COLUMN", help="of the second text, for pairs")
    parser.add_argument("--label", metavar="COLUMN", help="of the labels in --dev (default label, or ner_tags)")
    parser.add_argument(
        "--keep-unlabelled",
        metavar="FILE",
        type=file_to_write,
        help="also write the texts that get no label, to this file",
    )
    add_allow(parser)


def execute(options: argparse.Namespace) -> None:
    """Write the labelled texts, and print what there is to say of the functions."""
    from peftlab.weak_supervision.labelling import label
    from peftlab.weak_supervision.texts import Source

    words = options.task == "ner"
    if words and options.pair:
        raise UserError("--pair is for --task classification: the entities are those of one sentence")
    if options.label is not None and options.dev is None:
        raise UserError("--label names the column of the labels in --dev: add --dev FILE, or leave it out")
    read = [path for path in (options.data, options.dev, *options.functions) if path is not None]
    written = [path for path in (options.out, options.keep_unlabelled) if path is not None]
    for path in written:
        if path.resolve() in {one.resolve() for one in read} or len({one.resolve() for one in written}) < len(written):
            raise UserError(f"{path}: would be written over what is read or written too. Name another file")
    source = Source(words, options.text, options.pair, options.label)
    texts = source.read(options.data)
    dev = [] if options.dev is None else source.read(options.dev, gold=True)
    with redirect_stdout(sys.stderr):  # own functions may print
        labelled = label(
            _functions(options.functions, words, options.allow),
            texts,
            words=words,
            labels=None if options.labels is None else _listed(options.labels),
            model=options.model,
            balance=None if options.balance is None else _shares(options.balance),
            dev=dev,
        )
    _write(options.out, labelled.rows)
    if options.keep_unlabelled is not None:
        _write(options.keep_unlabelled, labelled.unlabelled)
    if options.json:
        print_json({"out": str(options.out), **labelled.facts})
    else:
        _print(labelled.facts, options.out)


def _functions(files: Sequence[Path], words: bool, allow: Sequence[str]) -> list[Any]:
    from peftlab.weak_supervision.functions import functions_in
    from peftlab.weak_supervision.rules import rules_in

    def ask_run(name: str, run: str, threshold: float) -> Any:
        from peftlab.commands import computing
        from peftlab.runs.find import find

        with computing(find(run)):
            from peftlab.use.voting_run import voting_run

        return voting_run(name, run, threshold, words, allow)

    functions: list[Any] = []
    for file in files:
        if file.suffix not in (".py", ".yaml", ".yml"):
            raise UserError(f"--functions {file}: expected a Python module (.py), or rules in YAML (.yaml)")
        functions += functions_in(file) if file.suffix == ".py" else rules_in(file, ask_run)
    return functions


def _listed(written: str) -> list[str]:
    labels = [name.strip() for name in written.split(",")]
    if "" in labels or len(set(labels)) < len(labels):
        raise UserError(f"--labels {written}: expected different names with commas between them")
    return labels


def _shares(written: str) -> dict[str, float]:
    try:
        pairs = [part.rsplit("=", 1) for part in written.split(",")]
        shares = [(name.strip(), float(share)) for name, share in pairs]
    except ValueError:
        raise UserError(f"--balance {written}: expected a share of each class, such as yes=0.3,no=0.7") from None
    if len(dict(shares)) < len(shares):
        raise UserError(f"--balance {written}: has two shares of one class; give one of each")
    return dict(shares)


def _write(path: Path, rows: Sequence[Any]) -> None:
    from peftlab.storage.atomic import replacing

    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    with replacing(path, needed=len(content)) as temporary:
        temporary.write_bytes(content)


def _print(facts: dict[str, Any], out: Path) -> None:
    dev = facts.get("dev")
    head = ["function", "labels", "coverage", "overlaps", "conflicts", "learnt", *(["dev", "95 %"] if dev else [])]
    print(table([head, *(_row(one) for one in facts["functions"])]))
    for pair in facts["pairs"]:
        first, second = map(cell, pair["pair"])
        print(
            f"{first} and {second} agree {pair['agree']:,} times ({pair['repeated']:.0%} of the votes of one), and "
            f"{pair['expected']:,.0f} times if they were independent"
        )
    for doubt in facts["doubts"]:
        print(f"careful: {cell(doubt)}")
    if dev:
        for name, scores in dev["models"].items():
            print(f"{name} on {dev['examples']:,} labelled examples: {_judgement(scores)}")
        print("these labels count: whoever chooses functions or a model by them has used them")
    left = facts["examples"] - facts["labelled"]
    print(
        f"{out}: {facts['labelled']:,} of {facts['examples']:,} labelled by {facts['model']}; {left:,} not: "
        f"{facts['silent']:,} without a vote, {facts['ties']:,} ties"
    )
    if facts["model"] != "majority":
        print(f"the majority of votes says otherwise of {facts['differs_from_majority']:,} {facts['rows']}")


def _row(one: dict[str, Any]) -> list[str]:
    row = [cell(one["name"]), cell(", ".join(one["labels"])), *(f"{one[key]:.1%}" for key in ("coverage", "overlaps"))]
    row += [f"{one['conflicts']:.1%}", f"{one['accuracy']:.2f}" if one["votes"] else "-"]
    if "dev" in one:
        row += [f"{one['dev']['right']}/{one['dev']['judged']}", _interval(one["dev"])]
    return row


def _interval(share: dict[str, Any]) -> str:
    return "-" if share["low"] is None else f"{share['low']:.2f}-{share['high']:.2f}"


def _judgement(scores: dict[str, Any]) -> str:
    if "f1" in scores:
        return f"entity F1 {scores['f1']:.3f}, precision {scores['precision']:.3f}, recall {scores['recall']:.3f}"
    if not scores["judged"]:
        return "none of them is labelled"
    return f"{scores['share']:.3f} right ({_interval(scores)}) of {scores['judged']:,} that get a label"
