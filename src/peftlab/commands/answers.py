"""``peftlab answers``: an index over stored answers, which answer what a model leaves to others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from peftlab.answer_search.arguments import SEARCHING, add_search, search_of
from peftlab.commands import computing
from peftlab.errors import DataError, UserError
from peftlab.terminal.arguments import add_allow, add_json, folder_to_write
from peftlab.terminal.output import cell, print_json, table

GROUP = "use"
SUMMARY = "search stored answers, for texts that a model leaves to others"
DESCRIPTION = (
    "A folder of answers (.md and .txt files, lines of .jsonl) becomes an index; an index answers questions, or is\n"
    'scored by a file of questions with right answers, objects such as {"text": ..., "answers": [ID, ...]}.'
)
EXAMPLES = (
    "peftlab answers help_pages --out index                     # searched by words",
    "peftlab answers help_pages --out index --model minilm      # by words and by meaning",
    'peftlab answers index "How do I close my account?"',
    "peftlab answers index --evaluate questions.jsonl           # nDCG, MRR and recall",
    "peftlab serve 3f9c2a --fallback index                      # what is out of scope gets stored answers",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder, and what is done with it."""
    add_json(parser)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a folder of answers, or an index of them")
    parser.add_argument("questions", metavar="QUESTION", nargs="*", help="what an index is asked")
    parser.add_argument(
        "--out", metavar="INDEX", type=folder_to_write, help="index the answers in FOLDER, and write that here"
    )
    encoder = parser.add_mutually_exclusive_group()
    encoder.add_argument("--model", metavar="NAME", help="embed answers with this pretrained model, such as minilm")
    encoder.add_argument("--run", metavar="RUN", help="embed answers with the model that this run has fine-tuned")
    parser.add_argument("--evaluate", metavar="FILE", type=Path, help="score the index by questions with right answers")
    add_search(parser)
    add_allow(parser)


def execute(options: argparse.Namespace) -> None:
    """Make an index, ask it, or score it."""
    asked = [bool(options.out), bool(options.questions), bool(options.evaluate)]
    if sum(asked) != 1:
        raise UserError("answers takes --out INDEX to make an index; or QUESTIONs or --evaluate FILE to use one")
    if not options.out and (options.model or options.run):
        raise UserError("--model and --run: an index knows its encoder. They belong to --out INDEX")
    if options.out and (idle := [name for name in SEARCHING if getattr(options, name) is not None]):
        raise UserError(
            f"--{idle[0].replace('_', '-')}: it says how an index is searched, and --out makes one. Name it to ask"
        )
    with computing():
        from peftlab.use import answer_encoders
    if options.out:
        _make(options, answer_encoders)
        return
    fallback = answer_encoders.open_fallback(search_of(options, options.folder), options.allow)
    assert fallback is not None
    if options.evaluate:
        _score(options, fallback)
        return
    answered = [(question, fallback.answers(question)) for question in options.questions]
    if options.json:
        document = [{"text": question, "answers": found} for question, found in answered]
        print_json({"retriever": fallback.retriever, "questions": document})
        return
    for question, found in answered:
        rows = [[cell(one["score"]), one["id"], one["text"].split("\n")[0]] for one in found]
        print(f"{question}\n{table(rows, indent='  ') if rows else '  -'}")


def _make(options: argparse.Namespace, encoders: Any) -> None:
    from peftlab.answer_search.stored import stored_answers

    answers = stored_answers(options.folder)
    encoder = None
    if options.model:
        encoder = encoders.pretrained_encoder(options.model)
    elif options.run:
        encoder = encoders.run_encoder(options.run, options.allow)
    index = encoders.make_index(answers, encoder)
    index.write(options.out)
    if options.json:
        print_json({"index": str(options.out), "answers": len(answers), "retrievers": list(index.retrievers)})
    else:
        print(f"{options.out}: {len(answers):,} answers, searched by {', '.join(index.retrievers)}")


def _score(options: argparse.Namespace, fallback: Any) -> None:
    from peftlab.answer_search.ranking import scores_of

    texts, right = _questions(options.evaluate, {one.id for one in fallback.index.answers})
    rankings = [[one["id"] for one in fallback.answers(text)] for text in texts]
    scores = scores_of(rankings, right, fallback.top_k)
    unanswered = sum(not ranking for ranking in rankings)
    if options.json:
        print_json(
            {"questions": len(texts), "retriever": fallback.retriever, "unanswered": unanswered, "scores": scores}
        )
        return
    print(f"{len(texts):,} questions, {fallback.retriever}, {unanswered:,} without an answer")
    print(table([[name, f"{value:.4f}"] for name, value in scores.items()]))


def _questions(file: Path, ids: set[str]) -> tuple[list[str], list[set[str]]]:
    """Return the texts of questions, and the ids of the right answers to each.

    Raises:
        DataError: a line holds no such question, or names an answer that the index lacks.
    """
    from peftlab.use.inputs import objects

    texts, right = [], []
    for number, one in enumerate(objects(str(file)), start=1):
        if isinstance(one, DataError):
            raise DataError(f"{file}:{number}: {one}")
        text, answers = one.get("text"), one.get("answers")
        if not isinstance(text, str) or not isinstance(answers, list) or not answers:
            raise DataError(f'{file}:{number}: expected {{"text": "...", "answers": ["ID", ...]}}, one answer or more')
        if missing := [answer for answer in answers if answer not in ids]:
            raise DataError(f"{file}:{number}: the index has no answer '{missing[0]}'")
        texts.append(text)
        right.append(set(answers))
    if not texts:
        raise DataError(f"{file}: it holds no question")
    return texts, right
