"""What peftlab does with a drawn input, held against what is right: whatever differs is a fault of a kind.

A run of two steps is trained, and then used in every way: predictions of the validation and the test split are read,
the run is evaluated anew, on its own data and on a file, predicts texts one by one and together, from Python and by the
command, and is exported and read by transformers. Nothing here asks peftlab what would have been right.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import sys
import traceback
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from fuzz_inputs import NOT_MERGED, Example, Input, quoted

TOLERANCE = 1e-3
"""The most that a probability may differ, of an exported model or in another batch; of bf16 ten times that."""

PLACE = re.compile(r"\b(data|task|peft|trainer|budget|optimizer|model|name|seed|adapter|run_dir)\b *[.=:]")
"""What names a key."""


@dataclass
class Outcome:
    """What became of an input."""

    verdict: str = "ok"
    """ok, refused, or FAULT."""
    faults: list[tuple[str, str]] = field(default_factory=list)
    """The kind of each, and what it was."""
    said: str = ""
    """The message of a refusal."""

    def fault(self, kind: str, detail: str) -> None:
        self.faults.append((kind, detail[:600]))
        self.verdict = "FAULT"


class Trial:
    """One input in a folder of its own."""

    def __init__(self, one: Input, folder: Path, model: Path) -> None:
        self.one, self.folder, self.model = one, folder, model
        self.outcome = Outcome()
        self.data = folder / "data"
        self.tolerance = TOLERANCE * (10 if one.settings.get("bf16") else 1)

    def judge(self) -> Outcome:
        """Do it all; return what became of it."""
        self._write()
        os.chdir(self.folder)
        record = self._train()
        if record is not None:
            self._use(record)
        return self.outcome

    def overrides(self) -> list[str]:
        one = self.one
        path = self.data / one.names["train"] if one.settings.get("single_file") else self.data
        fixed = ["model=folder", f"model.path={self.model}", "trainer=cpu", "trainer.threads=1", "logger=[]"]
        if not one.settings.get("bf16"):
            fixed.append("trainer.precision=32-true")
        fixed += ["callbacks=[]", "budget=smoke", "budget.max_steps=2", f"data.path={quoted(str(path))}"]
        if "name" not in one.odd:
            fixed.append("run_dir=run")
        return [*fixed, *one.overrides]

    def _write(self) -> None:
        for name, content in self.one.files.items():
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    # Training ----------------------------------------------------------------------------------------------------

    def _train(self) -> Any:
        """Train; return the record, or None after a refusal or a fault."""
        import peftlab
        from peftlab.errors import UserError

        one, outcome = self.one, self.outcome
        try:
            record = peftlab.run(*self.overrides())
        except UserError as error:
            outcome.said = str(error)
            outcome.verdict = "refused"
            self._check_refusal(outcome.said)
            return None
        except Exception as error:  # noqa: BLE001  # a fault is what is looked for
            self._trace("train", error)
            return None
        if one.must:
            outcome.fault("accepted though wrong", ", ".join(one.must))
            return None
        return record

    def _check_refusal(self, said: str) -> None:
        one, outcome = self.one, self.outcome
        due = [*one.must.values(), *one.may.values()]  # of several mistakes the first is told
        if not any(re.search(pattern, said, re.DOTALL) for pattern in due):
            wrong = "".join(f"{reason}: no /{pattern}/ in: " for reason, pattern in one.must.items())
            outcome.fault("misleading refusal" if wrong else "valid input refused", wrong + said)
        if not PLACE.search(said) and not any(Path(name).name in said for name in one.files):
            outcome.fault("message without place", said)
        if len(said.replace(str(self.folder), "").splitlines()) > 3:
            outcome.fault("message of many lines", said)
        if left := [path.name for path in self.folder.iterdir() if path.name != "data"]:
            outcome.fault("left behind by a refusal", ", ".join(left))

    def _trace(self, phase: str, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/peftlab/" in frame.filename]
        at = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
        self.outcome.fault("traceback", f"{phase}: {type(error).__name__} at {at}: {error}")
        traceback.print_exception(error)

    @contextlib.contextmanager
    def _phase(self, phase: str) -> Iterator[None]:
        """Around a use of a run that has to work: whatever is raised is a fault."""
        from peftlab.errors import UserError

        try:
            yield
        except UserError as error:
            self.outcome.fault("valid use refused", f"{phase}: {error}")
        except Exception as error:  # noqa: BLE001
            self._trace(phase, error)

    # What was trained -----------------------------------------------------------------------------------------------

    def _use(self, record: Any) -> None:
        import peftlab

        folder = Path(record.folder)
        self._check_rows(record.data["data"]["splits"])
        self._check_labels(record.data["data"]["labels"], folder)
        for split in ("validation", "test"):
            with self._phase(f"predictions of {split}"):
                self._check_predictions(split, folder / "predictions" / f"{split}.jsonl")
        with self._phase("groups"):
            self._check_groups(folder / "predictions")
        run = None
        with self._phase("load"):
            run = peftlab.load(folder)
        if run is None:
            return
        answers = self._predict(run)
        self._refuse_other_forms(run)
        with self._phase("evaluate"):
            evaluation = run.evaluate()
            if evaluation.equal is not True:
                differ = [f"{s.split} {s.name}: {s.value} for {s.recorded}" for s in evaluation.scores if not s.equal]
                self.outcome.fault("evaluate differs from the record", "; ".join(differ) or "nothing to compare")
        if self.one.settings["again"]:
            self._run_again(record)
        if self.one.settings["permuted"]:
            self._begin_with_its_adapter(folder, answers)
        if self.one.settings["new data"] and "test" in self.one.names:
            self._evaluate_new(run, record)
        if self.one.settings["command"]:
            self._command(folder)
        if self.one.settings["export"]:
            self._export(run, answers)

    def _kept(self, split: str) -> dict[int, Example]:
        """Return the rows of a file that are trained or scored on, by their number."""
        rows = self.one.rows[split]
        kept = dict(enumerate(rows))
        if not self.one.settings.get("drop"):
            return kept
        groups: dict[Any, list[int]] = {}
        for n, row in enumerate(rows):
            groups.setdefault((tuple(row.text), row.pair), []).append(n)
        for members in groups.values():
            agree = all(rows[n].gold == rows[members[0]].gold for n in members)
            for n in members[1:] if agree else members:
                del kept[n]
        return kept

    def _check_rows(self, splits: dict[str, Any]) -> None:
        """Every row that was written is trained or scored on, or counted as dropped."""
        shares = self.one.settings.get("shares", {})
        for file in self.one.rows:
            parts = [file, *(shares if file == "train" else [])]
            rows = sum(splits[part]["rows"] for part in parts)
            dropped = sum(sum(splits[part]["dropped"].values()) for part in parts)
            written, kept = len(self.one.rows[file]), len(self._kept(file))
            if rows + dropped != written:
                self.outcome.fault("rows lost", f"{file}: {written} written, {rows} used, {dropped} dropped")
            elif rows != kept:
                self.outcome.fault("rows lost", f"{file}: {rows} used, not {kept}")

    def _labels(self) -> set[str]:
        rows = self._kept("train").values()
        if self.one.task == "classification":
            return {str(row.gold) for row in rows}
        return {tag[2:] for row in rows for tag in row.gold if tag != "O"}

    def _check_labels(self, labels: list[str], folder: Path) -> None:
        if self.one.settings.get("golds unknown"):
            return
        written = self._labels()
        tags = {"O", *(f"{letter}-{label}" for label in written for letter in "BI")}
        if set(labels) != (written if self.one.task == "classification" else tags):
            self.outcome.fault("labels changed", f"record: {_differ(labels, written)}")
        kept = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["data"]["labels"]
        kept = [str(each).replace("\\${", "${") if "${" in str(each) else each for each in kept]
        if set(kept) != {label.replace("\\${", "${") for label in written}:
            self.outcome.fault("labels changed", f"config.yaml: {_differ(kept, written)}")

    def _check_predictions(self, split: str, file: Path, whole: bool = True) -> None:
        """Each row is predicted once, with its text and gold as they were written."""
        answers = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
        source = split if split in self.one.rows else "train"
        kept = self._kept(source) if whole else dict(enumerate(self.one.rows[source]))
        if source == split and len(answers) != len(kept):
            self.outcome.fault("rows lost", f"predictions of {split}: {len(answers)} of {len(kept)}")
        labels = self._labels()
        unordered = [(self._shown(row), row.gold) for row in kept.values()]
        for answer in answers:
            shown, gold = answer["input"], answer["gold"]
            if self.one.settings.get("golds unknown"):
                continue
            if self.one.kind == "folders":  # read in the order of their names
                if (shown, gold) not in unordered:
                    self.outcome.fault("texts changed", f"{split}: {shown!r} with {gold!r} was not written")
                continue
            row = kept.get(int(answer["id"].partition(":")[2]))
            if row is None or shown != self._shown(row):
                self.outcome.fault("texts changed", f"{answer['id']}: {shown!r}, not {row and self._shown(row)!r}")
            if row is not None and gold != row.gold:
                self.outcome.fault("labels changed", f"{answer['id']}: gold {gold!r}, not {row.gold!r}")
            predicted = {answer["predicted"]} if isinstance(gold, str) else {t[2:] for t in answer["predicted"]} - {""}
            if not predicted <= labels:
                self.outcome.fault("labels changed", f"{answer['id']}: predicted {predicted - labels}")

    def _check_groups(self, predictions: Path) -> None:
        """No group of what is held out is in two splits."""
        rows = self._kept("train")
        if "groups" not in self.one.odd:
            return
        splits: dict[str, set[int]] = {"train": set(rows)}
        for split in self.one.settings["shares"]:
            lines = (predictions / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
            splits[split] = {int(json.loads(line)["id"].partition(":")[2]) for line in lines if line}
            splits["train"] -= splits[split]
        groups = [{rows[n].group for n in numbers} for numbers in splits.values()]
        if sum(map(len, groups)) > len(set().union(*groups)):
            self.outcome.fault("groups divided", str(dict(zip(splits, groups, strict=True))))

    def _shown(self, row: Example) -> Any:
        return row.text if row.pair is None else [row.text, row.pair]

    # Its use --------------------------------------------------------------------------------------------------------

    def _predict(self, run: Any) -> list[dict[str, Any]]:
        one, outcome = self.one, self.outcome
        answers: list[dict[str, Any]] = []
        with self._phase("predict"):
            answers = run.predict(one.texts)
        if not answers:
            return []
        if len(answers) != len(one.texts):
            outcome.fault("predictions lost", f"{len(answers)} answers to {len(one.texts)} texts")
        for given, answer in zip(one.texts, answers, strict=False):
            self._check_answer(given, answer)
        with self._phase("predict one by one"):
            for given, together in zip(one.texts, answers, strict=True):
                alone = run.predict([given])[0]
                if one.task == "ner":
                    self._check_kin(run, given, alone)
                if difference := self._difference(alone, together):
                    outcome.fault("alone and in a batch differ", f"{given!r}: {difference}")
        return answers

    def _check_answer(self, given: Any, answer: dict[str, Any]) -> None:
        wanted = given if isinstance(given, dict) else {"text" if isinstance(given, str) else "words": given}
        for key, value in wanted.items():
            if not any(_whole(answer.get(name)) == _whole(value) for name in (key, f"given_{key}")):
                self.outcome.fault("predict changes what it is given", f"{key}: {value!r} became {answer.get(key)!r}")
        labels = self._labels()
        if "entities" in answer:
            text, words = answer.get("text"), answer.get("words")
            for entity in answer["entities"]:
                start, end = entity["start"], entity["end"]
                if not self.one.settings.get("golds unknown") and entity["type"] not in labels:
                    self.outcome.fault("labels changed", f"predict: {entity['type']!r}")
                whole = text[start:end] if words is None else " ".join(words[start:end])
                if not 0 <= start < end <= len(text if words is None else words) or whole != entity["text"]:
                    self.outcome.fault("offsets wrong", f"{entity} in {text or words!r}")
                elif words is None and (_extends(text, end) or _extends(text, start)):
                    self.outcome.fault("a mark is cut off its letter", f"{entity} in {text!r}")
        elif set(answer["probabilities"]) != labels and not self.one.settings.get("golds unknown"):
            self.outcome.fault("labels changed", f"predict: {_differ(answer['probabilities'], labels)}")
        elif not math.isclose(sum(answer["probabilities"].values()), 1, abs_tol=1e-2):
            self.outcome.fault("probabilities do not add up", str(answer["probabilities"])[:200])
        cut = self.one.task == "classification" or self.one.settings.get("truncate")
        text = str(wanted.get("text", ""))
        plain = len(re.findall(r"[a-z]+", text))
        if cut and plain > 2 * self.one.settings["max_tokens"] and not any("truncated" in key for key in answer):
            self.outcome.fault(
                "truncation not told", f"a text of {plain} words, {self.one.settings['max_tokens']} tokens"
            )

    def _check_kin(self, run: Any, given: Any, answer: dict[str, Any]) -> None:
        """What is the same to the tokenizer has the same entities: without emptied words, composed or decomposed."""
        if isinstance(given, list) and "\u200b" in given:
            kept = [n for n, word in enumerate(given) if word != "\u200b"]
            without = run.predict([[given[n] for n in kept]])[0]["entities"]
            expected = [(e["type"], kept[e["start"]], kept[e["end"] - 1] + 1) for e in without]
            spans = [(e["type"], e["start"], e["end"]) for e in answer["entities"]]
            if spans != expected:
                self.outcome.fault("an emptied word parts an entity", f"{given}: {spans}, not {expected}")
        if isinstance(given, str) and not any(unicodedata.category(c) == "Cs" for c in given):
            forms = [unicodedata.normalize(form, given) for form in ("NFC", "NFD")]
            if forms[0] != forms[1]:
                composed, decomposed = (
                    [(e["type"], unicodedata.normalize("NFC", e["text"])) for e in one["entities"]]
                    for one in run.predict(forms)
                )
                if composed != decomposed:
                    detail = f"{given!r}: {set(composed) - set(decomposed)} / {set(decomposed) - set(composed)}"
                    self.outcome.fault("composed and decomposed differ", detail)

    def _difference(self, alone: dict[str, Any], together: dict[str, Any]) -> str:
        if "entities" in alone:
            spans = [[(e["type"], e["start"], e["end"]) for e in answer["entities"]] for answer in (alone, together)]
            pairs = zip(alone["entities"], together["entities"], strict=False)
            values = [(a["probability"], b["probability"]) for a, b in pairs]
            if spans[0] != spans[1] and not self.one.settings.get("bf16"):
                return f"{spans[0]} / {spans[1]}"
        else:
            values = [(p, together["probabilities"][label]) for label, p in alone["probabilities"].items()]
        worst = max((abs(a - b) for a, b in values), default=0.0)
        return f"probabilities by {worst:.2g}" if worst > self.tolerance and not self.one.settings.get("bf16") else ""

    def _refuse_other_forms(self, run: Any) -> None:
        from peftlab.errors import UserError

        for given in self.one.wrong_texts:
            try:
                answer = run.predict([given])
            except UserError:
                continue
            except Exception as error:  # noqa: BLE001
                self._trace("predict of another form", error)
            else:
                self.outcome.fault("predict takes another form", f"{given!r}: {str(answer)[:200]}")

    def _evaluate_new(self, run: Any, record: Any) -> None:
        """The test file as new data: the same scores and predictions as the run's own."""
        one = self.one
        with self._phase("evaluate new data"):
            path = self.data / one.names["test"]
            copy = path.rename(path.with_name(f"new{path.suffix}")) if one.kind != "folders" else path
            try:
                evaluation = run.evaluate(data=copy, out=self.folder / "scored")
            finally:
                copy.rename(path)
            self._check_predictions("test", self.folder / "scored" / "test.jsonl", whole=False)
            if one.settings.get("drop"):
                return
            before = {m["name"]: m["value"] for m in record.data["metrics"] if m["split"] == "test"}
            after = {score.name: score.value for score in evaluation.scores}
            differ = [
                f"{name}: {value} for {before[name]}"
                for name, value in after.items()
                if value != before.get(name, value)
            ]
            if differ:
                self.outcome.fault("evaluate of the same file differs", "; ".join(differ))

    def _run_again(self, record: Any) -> None:
        """The same run again is the same run."""
        import peftlab

        with self._phase("the same run again"):
            again = peftlab.run(*self.overrides(), "existing=skip")
            if again.folder != record.folder or again.data["history"] != record.data["history"]:
                self.outcome.fault("the same run is another", f"{again.folder}, {record.folder}")
        with self._phase("reproduce"):
            from peftlab.use.reproduce import reproduce

            verdict = reproduce(record.folder).document()
            if verdict["verdict"] != "identical":
                self.outcome.fault("reproduced otherwise", f"{verdict['verdict']}: {verdict['because']}")

    def _begin_with_its_adapter(self, folder: Path, answers: list[dict[str, Any]]) -> None:
        """A training that begins with the adapter, and has its labels in another order, begins with its answers."""
        import peftlab

        labels = list(reversed(self.one.settings["labels"]))
        given = [each for each in self.overrides() if not each.startswith(("run_dir=", "name="))]
        given += [
            f"adapter={quoted(str(folder / 'adapter'))}",
            f"data.labels=[{','.join(map(quoted, labels))}]",
            "run_dir=second",
        ]
        with self._phase("its adapter, labels in another order"):
            second = peftlab.run(*given, "optimizer.lr=1e-12", "optimizer.weight_decay=0")
            again = peftlab.load(second.folder).predict(self.one.texts)
            for given_text, now, before in zip(self.one.texts, again, answers, strict=True):
                if difference := self._difference(now, before):
                    self.outcome.fault("an adapter's labels are mistaken", f"{given_text!r}: {difference}")

    def _command(self, folder: Path) -> None:
        """`peftlab predict` of a file, of standard input and of JSON lines: one answer a text."""
        one = self.one
        if one.settings.get("pairs"):
            return
        lines = one.settings["lines"]
        file = self.folder / "texts.txt"
        file.write_bytes("".join(line + "\n" for line in lines).encode())
        self._answers(["predict", str(folder), "--json", "--file", str(file)], lines)
        objects = self.folder / "objects.jsonl"
        objects.write_text("".join(json.dumps({"text": line, "n": n}) + "\n" for n, line in enumerate(lines)))
        self._answers(["predict", str(folder), "--jsonl", str(objects)], lines)
        self._answers(["predict", str(folder), "--json", "cut \udce9 off"], ["cut \ufffd off"])
        self._answers(
            ["predict", str(folder), "--json", "--file", "-"], None if one.settings.get("stdin is not UTF-8") else lines
        )

    def _answers(self, arguments: list[str], lines: list[str] | None) -> None:
        """Run the command; `lines` are the texts it has to answer, None where a refusal is right, too."""
        from peftlab import cli

        out, error_out, before = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO(), sys.stdin
        what = " ".join(part for part in arguments if part.startswith("-"))
        sys.stdin = io.TextIOWrapper(io.BytesIO(self.one.stdin), encoding="utf-8")
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error_out):
                cli.main(arguments)
        except SystemExit as end:
            if lines is not None:
                self.outcome.fault("valid use refused", f"{what}: exit code {end.code}: {error_out.getvalue()[-300:]}")
            return
        except Exception as error:  # noqa: BLE001
            self._trace(what, error)
            return
        finally:
            sys.stdin = before
        answers = [json.loads(line) for line in _read(out).split("\n") if line]
        if lines is not None and [_whole(answer["text"]) for answer in answers] != lines:
            self.outcome.fault("predictions lost", f"{what}: {[answer['text'] for answer in answers]!r} for {lines!r}")

    def _export(self, run: Any, answers: list[dict[str, Any]]) -> None:
        from peftlab.errors import UserError

        if self.one.settings["method"] in NOT_MERGED:
            with contextlib.suppress(UserError):
                run.export(self.folder / "exported")
                self.outcome.fault("exported though it cannot be merged", self.one.settings["method"])
            return
        before = len(self.outcome.faults)
        with self._phase("export"):
            run.export(self.folder / "exported")
        if len(self.outcome.faults) > before:
            return
        with self._phase("reading what was exported"):
            self._check_exported(answers)

    def _check_exported(self, answers: list[dict[str, Any]]) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

        folder = self.folder / "exported"
        names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        labels = self._labels()
        if self.one.task == "ner":
            labels = {"O", *(f"{letter}-{label}" for label in labels for letter in "BI")}
        if set(names.values()) != labels and not self.one.settings.get("golds unknown"):
            self.outcome.fault("labels changed", f"exported: {_differ(names.values(), labels)}")
        if self.one.task == "ner":
            AutoModelForTokenClassification.from_pretrained(folder)
            return
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for answer in answers[:2]:
            text, pair = _whole(answer["text"]), answer.get("text_pair")
            if pair is not None and len(text) * len(pair) > 10**7:  # to truncate it, the tokenizer takes gigabytes
                continue
            inputs = tokenizer(
                text, pair, truncation="longest_first", max_length=self.one.settings["max_tokens"], return_tensors="pt"
            )
            with torch.inference_mode():
                probabilities = model(**inputs).logits[0].softmax(-1).tolist()
            worst = max(abs(p - answer["probabilities"][names[str(n)]]) for n, p in enumerate(probabilities))
            if worst > self.tolerance * 3:
                self.outcome.fault("export differs", f"{text!r}: probabilities by {worst:.2g}")


def _read(out: io.TextIOWrapper) -> str:
    out.flush()
    out.seek(0)
    return out.read()


def _whole(value: Any) -> Any:
    """Return `value`; a text with U+FFFD for each lone surrogate, as it may be changed."""
    if isinstance(value, str):
        return "".join("\ufffd" if unicodedata.category(c) == "Cs" else c for c in value)
    return value


def _extends(text: str, at: int) -> bool:
    """Return whether the character there belongs to the one before it: a mark, a joiner or a selector of a variant."""
    if not 0 < at < len(text):
        return False
    begins = text[at - 1].isspace() or unicodedata.category(text[at - 1]) == "Cc"
    return not begins and (unicodedata.category(text[at])[0] == "M" or text[at] == "\u200d")


def _differ(now: Any, written: set[str]) -> str:
    return f"{sorted(map(str, set(now) - written))[:6]} for {sorted(written - set(now))[:6]}"


def judged(one: Input, folder: Path, model: Path) -> Outcome:
    """Return what becomes of an input; `folder` is new."""
    return Trial(one, folder, model).judge()
