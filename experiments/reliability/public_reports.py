"""Situations from public reports about other programs, tried here: is anything silently wrong, and does a refusal help?

python experiments/reliability/public_reports.py [NAME ...]

Each function below is one: its docstring names the reports and says what was wrong there; it makes inputs of its own,
runs a tiny BERT for a few steps, and asserts the right value. A table is printed; the exit code is 1 where a situation
is not right. NAMES choose some of them.
"""

# ruff: noqa: PT017, PT018

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import peftlab
from conftest import make_model, sentences, texts
from peftlab.errors import UserError

CLASSES = "text,label\n" + "".join(f"the report was read {n},pos\nnothing happened {n},neg\n" for n in range(12))
SPLITS = {"validation": "new york,pos\nrome,neg\n", "test": "paris,pos\nnothing,neg\n"}
TAGGED = "Ada B-PER\nmoved O\nto O\nRome B-LOC\n\nnothing O\n\n"


class Place:
    """A folder for one situation, and what peftlab has told there."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.told = ""
        folder.mkdir()

    def write(self, **files: str) -> Path:
        """Write data files, ``train_csv="..."`` to ``data/train.csv``; return their folder."""
        for name, text in files.items():
            path = self.folder / "data" / ".".join(name.rsplit("_", 1))
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        return self.folder / "data"

    def csv(self, train: str = CLASSES) -> list[str]:
        """Write CSV files with `train`; return the overrides for them."""
        header = train.splitlines()[0] + "\n"
        self.write(train_csv=train, **{f"{split}_csv": header + rows for split, rows in SPLITS.items()})
        return ["task=classification", "data=csv"]

    def columns(self, train: str = TAGGED * 4) -> list[str]:
        self.write(train_txt=train, dev_txt=TAGGED, test_txt=TAGGED)
        return ["task=ner", "data=files"]

    def run(self, *overrides: str, name: str = "run") -> Any:
        """Train two steps; return the record."""
        fixed = ["model=folder", f"model.path={self.model}", "trainer=cpu", "trainer.precision=32-true"]
        fixed += ["trainer.threads=1", "logger=[]", "callbacks=[]", "budget=smoke", "budget.max_steps=2"]
        fixed += ["data.batch_size=4", f"data.path={self.folder / 'data'}", f"run_dir={self.folder / name}", "peft.r=2"]
        heard = io.StringIO()
        handler = logging.StreamHandler(heard)
        logging.getLogger("peftlab").addHandler(handler)
        try:
            return peftlab.run(*fixed, *overrides)
        finally:
            logging.getLogger("peftlab").removeHandler(handler)
            self.told = heard.getvalue().replace(str(self.folder), "")

    def refused(self, *overrides: str) -> str:
        """Return the message of the refusal."""
        try:
            record = self.run(*overrides, name="refused")
        except UserError as error:
            return str(error).replace(str(self.folder), "")
        raise AssertionError(f"accepted: {record.data['data']['splits']}, {record.data['data']['labels']}")

    def predictions(self, split: str = "test", name: str = "run") -> list[dict[str, Any]]:
        lines = (self.folder / name / "predictions" / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]


# Data ---------------------------------------------------------------------------------------------------------------


def json_keys_twice(at: Place) -> None:
    """im-anishraj/arnio#1708, ajschumacher/mergic#38: of a key that an object has twice, the last silently wins."""
    rows = '{"text": "the report", "label": "pos"}\n{"text": "nothing", "label": "neg"}\n' * 8
    at.write(train_jsonl=rows + '{"text": "first", "label": "pos", "text": "last"}\n', dev_jsonl=rows, test_jsonl=rows)
    said = at.refused("task=classification", "data=json_lines")
    assert "train.jsonl:17" in said, said


def header_twice(at: Place) -> None:
    """whitfin/s3-concat#3, ckan/datapusher#74: files put together by cat have the header among the rows."""
    given = at.csv(CLASSES + CLASSES)
    try:
        labels = at.run(*given).data["data"]["labels"]
    except UserError as error:
        assert "train.csv:26" in str(error), error
    else:
        assert labels == ["neg", "pos"], labels


def column_names_twice(at: Place) -> None:
    """python/cpython#61739, pandas-dev/pandas#9424: of two columns of one name, the last silently wins."""
    said = at.refused(*at.csv("text,text,label\n" + "a,b,pos\nc,d,neg\n" * 8))
    assert "train.csv:1" in said and "2 columns are called 'text'" in said, said


def excel_sep_line(at: Place) -> None:
    """python/cpython#109644, pandas-dev/pandas#47303: Excel's first line, sep=;, is taken for the header."""
    semicolons = CLASSES.replace(",", ";")
    at.write(train_csv="sep=;\n" + semicolons, dev_csv="sep=;\n" + semicolons, test_csv="sep=;\n" + semicolons)
    given = ["task=classification", "data=csv"]
    try:
        assert at.run(*given).data["data"]["splits"]["train"]["rows"] == 24
    except UserError as error:
        assert "delimiter" in str(error) and "sep=" in str(error), error


def json_array(at: Place) -> None:
    """huggingface/datasets#1784, #8086: a file that is one JSON array over many lines, called .json."""
    rows = [{"text": f"the report {n}", "label": "pos" if n % 2 else "neg"} for n in range(8)]
    whole = json.dumps(rows, indent=1)
    at.write(train_json=whole, dev_json=whole, test_json=whole)
    said = at.refused("task=classification", "data=json_lines")
    assert "train.json:1" in said and "array" in said and "line" in said, said


def blank_lines_of_tabs(at: Place) -> None:
    """EmilStenstrom/conllu#54, mead-ml/mead-baseline#289: blank lines hold a tab, and the last sentence has none."""
    tabs = (TAGGED * 4).replace("\n\n", "\n\t\n").rstrip()
    record = at.run(*at.columns(tabs))
    assert record.data["data"]["splits"]["train"]["rows"] == 8, record.data["data"]["splits"]["train"]


def document_starts_without_blank_line(at: Place) -> None:
    """flairNLP/flair#2060: -DOCSTART- is the first word of the document's first sentence (CoNLL-2002, Dutch)."""
    dutch = "".join(f"-DOCSTART- -DOCSTART- O\n{TAGGED}" for _ in range(4)).replace(" O\nto", " N O\nto")
    dutch = "\n".join(" x ".join(line.split(" ")) if line.count(" ") == 1 else line for line in dutch.split("\n"))
    at.write(train_txt=dutch, dev_txt=dutch, test_txt=dutch)
    record = at.run("task=ner", "data=files")
    assert record.data["data"]["splits"]["train"] | {"rows": 8, "words": 20} == record.data["data"]["splits"]["train"]
    assert all("-DOCSTART-" not in row["input"] for row in at.predictions())


def tags_of_another_form(at: Place) -> None:
    """macanv/BERT-BiLSTM-CRF-NER#127, BritishGeologicalSurvey/geo-ner-model#1: tags B_PER; and PER alone."""
    for change in (("B-", "B_"), ("B-", "")):
        said = at.refused(*at.columns((TAGGED * 4).replace(*change)))
        # the column is right: what leads out is how tags are written
        assert "train.txt:1" in said and "B-TYPE" in said and "tag_column" not in said, said


def types_with_hyphens(at: Place) -> None:
    """explosion/spaCy#10960: of B-Multi-tissue_structure only Multi was taken."""
    rows = TAGGED.replace("B-PER", "B-Multi-tissue_structure")
    at.write(train_txt=rows * 4, dev_txt=rows, test_txt=rows)
    record = at.run("task=ner", "data=files")
    assert "B-Multi-tissue_structure" in record.data["data"]["labels"], record.data["data"]["labels"]


def label_studio_columns(at: Place) -> None:
    """HumanSignal/label-studio-converter#3: word, -X-, _ and tag, and a -DOCSTART- line of three columns."""
    rows = "-DOCSTART- -X- O\n" + TAGGED.replace(" ", " -X- _ ")
    at.write(train_txt=rows * 4, dev_txt=rows, test_txt=rows)
    record = at.run("task=ner", "data=files")
    assert record.data["data"]["splits"]["train"]["rows"] == 8


def labels_like_numbers(at: Place) -> None:
    """hydra-ecosystem/hydra#2599, omry/omegaconf#296: 1E234 and 10e2 come back from a configuration as numbers."""
    rows = CLASSES.replace(",pos", ",10e2").replace(",neg", ",1E234")
    at.write(train_csv=rows, dev_csv=rows, test_csv=rows)
    record = at.run("task=classification", "data=csv")
    assert record.data["data"]["labels"] == ["10e2", "1E234"]
    assert set(peftlab.load(record.folder).predict(["the report"])[0]["probabilities"]) == {"10e2", "1E234"}


def interpolations_in_the_data(at: Place) -> None:
    """omry/omegaconf#885: a text that happens to hold ${ is read as a reference, or ends in a parse error."""
    from peftlab.use.reproduce import reproduce

    faults = []
    for n, name in enumerate(["${data.name}", "Dfw%$#${*(d"]):
        rows = CLASSES.replace(",pos", f",{name}")
        at.write(train_csv=rows, dev_csv=rows, test_csv=rows)
        try:
            record = at.run("task=classification", "data=csv", name=f"run{n}")
            assert record.data["data"]["labels"] == [*sorted([name, "neg"])], record.data["data"]["labels"]
            assert reproduce(record.folder).document()["verdict"] == "identical"
        except Exception as error:  # noqa: BLE001
            faults.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")
    assert not faults, "; ".join(faults).replace(str(at.folder), "")


def line_separators_in_texts(at: Place) -> None:
    """volcengine/OpenViking#3984, datalad/datalad#3523: JSON lines are cut at U+2028 and U+0085 within a text."""
    from peftlab.use.reproduce import reproduce

    rows = CLASSES.replace("report was", "report\u2028was").replace("nothing ", "nothing\x85")
    at.write(train_csv=rows, dev_csv=rows, test_csv=rows)
    record = at.run("task=classification", "data=csv")
    assert at.predictions()[0]["input"] == "the report\u2028was read 0"
    verdict = reproduce(record.folder).document()
    assert verdict["verdict"] == "identical", f"{verdict['verdict']}: {verdict['because']}; {verdict['causes']}"


def pairs_of_long_texts(at: Place) -> None:
    """huggingface/tokenizers#2035: of a long pair all the ways to cut it are made, in seconds and gigabytes."""
    from transformers import AutoTokenizer

    from peftlab.tasks.inputs.texts import Text, encode_texts

    tokenizer, seconds = AutoTokenizer.from_pretrained(at.model), []
    for text, pair in (("the " * 3000, None), ("the " * 1500, "the " * 1500)):
        began = time.process_time()
        encode_texts([Text("train:0", text, None, pair)], tokenizer, 128)
        seconds.append(time.process_time() - began)
    assert seconds[1] < 20 * seconds[0], (
        f"{seconds[0]:.3f} s for one text of 3,000 words, {seconds[1]:.3f} s for two of 1,500"
    )


# Adapters -----------------------------------------------------------------------------------------------------------


def rank_pattern_matches_nothing(at: Place) -> None:
    """huggingface/peft#3582: a key of rank_pattern or alpha_pattern that is no layer's name has no effect, unsaid."""
    given = at.csv()
    at.run(*given, "+peft.rank_pattern={query: 3}")
    for key in ("rank_pattern", "alpha_pattern"):
        said = at.refused(*given, f"+peft.{key}={{quary: 3}}")
        assert key in said and "quary" in said, said


def adapter_of_another_base(at: Place) -> None:
    """predibase/lorax#58, #600: an adapter is put on another model of the same shapes than it was trained on."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    given = at.csv()
    record = at.run(*given)
    other = at.folder / "other"
    AutoTokenizer.from_pretrained(at.model).save_pretrained(other)
    model = AutoModel.from_pretrained(at.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(other)
    try:
        at.run(*given, f"adapter={record.folder / 'adapter'}", f"model.path={other}", name="second")
    except UserError as error:
        assert "model" in str(error), error
    else:
        lines = [line for line in at.told.splitlines() if line.startswith("adapter")]
        assert any("trained on" in line or "another model" in line for line in lines), "nothing is told"


def head_read_by_the_library(at: Place) -> None:
    """huggingface/peft#310, huggingface/sentence-transformers#3980: the trained head was not saved, or not restored."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    record = at.run(*at.csv(), "optimizer.lr=0.05")
    text = "the report was read"
    answer = peftlab.load(record.folder).predict([text])[0]["probabilities"]
    base = AutoModelForSequenceClassification.from_pretrained(at.model, num_labels=2)
    model = PeftModel.from_pretrained(base, record.folder / "adapter").eval()
    inputs = AutoTokenizer.from_pretrained(at.model)(text, return_tensors="pt")
    with torch.inference_mode():
        found = model(**inputs).logits[0].softmax(-1).tolist()
    assert max(abs(a - b) for a, b in zip(found, answer.values(), strict=True)) < 1e-5, (found, answer)


def long_text_to_an_exported_model(at: Place) -> None:
    """huggingface/transformers#10081, pysentimiento/robertuito#3: a pipeline with truncation fails on a long text."""
    from transformers import pipeline

    record = at.run(*at.csv(), "data.max_tokens=32")
    peftlab.load(record.folder).export(at.folder / "exported")
    answer = pipeline("text-classification", str(at.folder / "exported"), device="cpu")(
        "nothing " * 500, truncation=True
    )
    assert answer[0]["label"] in ("pos", "neg"), answer


# Hydra --------------------------------------------------------------------------------------------------------------


def override_given_twice(at: Place) -> None:
    """hydra-ecosystem/hydra#3283: of a key that is given twice the last counts; which its maintainers keep."""
    record = at.run(*at.csv(), "seed=1", "seed=2")
    assert record.data["environment"]["seeds"]["global"] == 2


def equals_sign_in_a_value(at: Place) -> None:
    """hydra-ecosystem/hydra#1577, #938: data.path=runs/epoch=9.csv cannot be read; how to write it is not said."""
    at.csv()
    (at.folder / "data").rename(at.folder / "epoch=9")
    said = at.refused("task=classification", "data=csv", f"data.path={at.folder}/epoch=9")
    assert "quotes within quotes" in said, said
    at.run("task=classification", "data=csv", f"data.path='{at.folder}/epoch=9'")


def sweep_dimension_given_twice(at: Place) -> None:
    """hydra-ecosystem/hydra#3106: of seed=0,1 seed=2,3 under -m the first list is silently dropped."""
    import runpy

    given = [*at.csv(), "model=folder", f"model.path={at.model}", f"data.path={at.folder / 'data'}", "trainer=cpu"]
    given += ["budget=smoke", "seed=0,1", "seed=2,3", "sweep.dry_run=true", f"sweep_dir={at.folder / 'sweep'}"]
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["train", "-m", *given]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_module("train", run_name="__main__")
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    said = out.getvalue() + err.getvalue()
    assert code == 2 and "seed is swept more than once" in said, f"exit code {code}: {said[-300:]}"


# Loggers ------------------------------------------------------------------------------------------------------------


def long_values_to_mlflow(at: Place) -> None:
    """Lightning-AI/pytorch-lightning#5892, #19972, mlflow/mlflow#10512: a long parameter ends the logging of all."""
    rows = "text,label\n" + "".join(f"the report {n},{'long name ' * 30}{n}\n" for n in range(40))
    at.write(train_csv=rows, dev_csv=rows, test_csv=rows)
    record = at.run("task=classification", "data=csv", "logger=[mlflow]", "trainer.log_every=1")
    assert "fails" not in at.told, at.told
    files = {path.name: path for path in Path(record.folder, "tracking").rglob("*") if path.is_file()}
    assert {"macro_f1", "loss"} <= files.keys(), sorted(files)
    labels = next(path.read_text() for name, path in files.items() if name.endswith("labels"))
    cut = sum(name in labels for name in record.data["data"]["labels"])
    assert cut == 40 or "are kept" in at.told, (
        f"the parameter {labels[:30]!r}... holds {cut} of 40 labels, and nobody is told"
    )


def lists_to_tensorboard(at: Place) -> None:
    """IDEA-Research/Rex-Omni#64: the configuration holds lists, and TensorBoard's hparams take none."""
    record = at.run(*at.csv(), "logger=[tensorboard]", "trainer.log_every=1", "peft.target=[query,value]")
    assert "fails" not in at.told, at.told
    assert list(Path(record.folder, "tracking", "tensorboard").glob("events*"))


def class_names_in_logged_tables(at: Place) -> None:
    """verl-project/verl#984, BinItAI/visdet#551: names with @ ( = end the logging, or are changed in its files."""
    names = ["mean@1", "timing(s)/gen", "a=b,c", "one|two"]
    rows = "text,label\n" + "".join(f'the report {n},"{name}"\n' for n, name in enumerate(names * 3))
    at.write(train_csv=rows, dev_csv=rows, test_csv=rows)
    record = at.run("task=classification", "data=csv", "logger=[csv,mlflow,tensorboard]", "trainer.log_every=1")
    assert "fails" not in at.told, at.told
    with (record.folder / "tables" / "test" / "classes.csv").open(newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} >= set(names)


# Numerics -----------------------------------------------------------------------------------------------------------


def warm_up_longer_than_the_run(at: Place) -> None:
    """PrimeIntellect-ai/prime-rl#968, Morizeyao/GPT2-Chinese#60: the learning rate stays below the one asked for."""
    given = [*at.csv(), "scheduler.warmup_steps=500", "scheduler.warmup_fraction=null"]
    try:
        at.run(*given)
    except UserError as error:
        assert "scheduler.warmup_steps" in str(error), error
    else:
        said = [line for line in at.told.splitlines() if "warmup_steps" in line or "warm-up" in line]
        assert said, "nothing is told"


def validations_further_apart_than_the_run(at: Place) -> None:
    """Lightning-AI/pytorch-lightning#4406, weecology/DeepForest#1019: no validation, and no best is kept."""
    record = at.run(*at.csv(), "budget.validate_every=50")
    assert record.data["selection"]["step"] == 2, record.data["selection"]
    assert peftlab.load(record.folder).evaluate().equal


def score_that_is_no_number(at: Place) -> None:
    """Lightning-AI/pytorch-lightning#2636: after a NaN in the first validation no checkpoint is better."""
    from peftlab.tasks.task import Selection
    from peftlab.training.keep_best import KeepBest

    best = KeepBest(Selection(metric="macro_f1", mode="max"), at.folder / "best", None)  # type: ignore[arg-type]
    assert not best._better(float("nan"))
    assert best._better(0.1)


def equal_scores(at: Place) -> None:
    """Lightning-AI/pytorch-lightning#17240, RasaHQ/rasa#7286: which of two equally good checkpoints stays is unsaid."""
    record = at.run(*at.csv(), "budget.validate_every=0.2", "optimizer.lr=1e-9", "budget.max_steps=4")
    steps = [event["step"] for event in record.data["history"] if event["event"] == "validated"]
    assert len(steps) > 1 and record.data["selection"]["step"] == steps[0], (steps, record.data["selection"])


def scores_by_batch_size(at: Place) -> None:
    """thunlp/Few-NERD#2, apache/mxnet#9830, guillaumegenthial/tf_metrics#4: F1 is the mean over batches."""
    at.write(train_txt=sentences(24, 0), dev_txt=sentences(13, 1), test_txt=sentences(13, 2))
    scores = []
    for size in (1, 5, 64):
        record = at.run("task=ner", "data=files", f"data.eval_batch_size={size}", name=f"by{size}")
        scores.append({m["name"]: m["value"] for m in record.data["metrics"] if m["split"] == "test"})
    for name, value in scores[0].items():
        assert all(abs(one[name] - value) < 1e-6 for one in scores), (name, scores)


def smoothing_in_validation(at: Place) -> None:
    """pytorch/pytorch#129050, Noble-Lab/casanovo#261: label smoothing, a regulariser, is in the validation loss too."""
    learnt = "text,label\n" + "the report was read 1,pos\n" * 3
    at.write(train_csv=CLASSES, dev_csv=CLASSES, test_csv=learnt)
    for smoothing in (0.0, 0.5):
        given = [f"task.label_smoothing={smoothing}", "optimizer.lr=0.05", "budget.max_steps=12", "logger=[csv]"]
        record = at.run("task=classification", "data=csv", *given, name=f"by{smoothing}")
        with (record.folder / "metrics.csv").open(newline="") as file:
            logged = [float(row["test/loss"]) for row in csv.DictReader(file) if row.get("test/loss")][-1]
        rows = at.predictions("test", record.folder.name)
        gold = [row["probability"] if row["predicted"] == row["gold"] else 1 - row["probability"] for row in rows]
        loss = -sum(map(math.log, gold)) / len(gold)
        assert abs(logged - loss) < 1e-4, f"with {smoothing}: {logged:.4f}, and the cross-entropy is {loss:.4f}"


def schedule_with_a_smaller_last_batch(at: Place) -> None:
    """deepset-ai/FARM#46: the total of steps is rounded down, and the last steps have a learning rate of 0."""
    at.write(train_csv=texts(30, 0), dev_csv=texts(6, 1), test_csv=texts(6, 2))
    given = [
        "data.batch_size=8",
        "trainer.accumulate=3",
        "budget.max_steps=null",
        "budget.max_epochs=2",
        "logger=[csv]",
    ]
    record = at.run("task=classification", "data=csv", *given, "trainer.log_every=1", "scheduler.warmup_fraction=0")
    with (record.folder / "metrics.csv").open(newline="") as file:
        rates = [float(row["train/lr"]) for row in csv.DictReader(file) if row.get("train/lr")]
    assert len(rates) == 8 and rates[-1] > 0 and abs(rates[-1] - rates[0] / 8) < 1e-9, rates


SITUATIONS: list[Callable[[Place], None]] = [
    json_keys_twice,
    header_twice,
    column_names_twice,
    excel_sep_line,
    json_array,
    blank_lines_of_tabs,
    document_starts_without_blank_line,
    tags_of_another_form,
    types_with_hyphens,
    label_studio_columns,
    labels_like_numbers,
    interpolations_in_the_data,
    line_separators_in_texts,
    pairs_of_long_texts,
    rank_pattern_matches_nothing,
    adapter_of_another_base,
    head_read_by_the_library,
    long_text_to_an_exported_model,
    override_given_twice,
    equals_sign_in_a_value,
    sweep_dimension_given_twice,
    long_values_to_mlflow,
    lists_to_tensorboard,
    class_names_in_logged_tables,
    warm_up_longer_than_the_run,
    validations_further_apart_than_the_run,
    score_that_is_no_number,
    equal_scores,
    scores_by_batch_size,
    smoothing_in_validation,
    schedule_with_a_smaller_last_batch,
]


def main(names: list[str]) -> int:
    """Return 1 where a situation is not right."""
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["PEFTLAB_CACHE"] = str(root / "cache")
        model = make_model(root / "model")
        for situation in SITUATIONS:
            if names and situation.__name__ not in names:
                continue
            place = Place(root / situation.__name__, model)
            os.chdir(place.folder)
            result = "right"
            noise = io.StringIO()
            try:
                with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
                    situation(place)
            except AssertionError as error:
                result = f"WRONG: {str(error)[:400]}"
            except Exception as error:  # noqa: BLE001  # whatever it is, it is a result
                where = traceback.extract_tb(error.__traceback__)[-1]
                result = f"WRONG, crash: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"[
                    :500
                ]
            wrong += result != "right"
            reports, _, what = (situation.__doc__ or "").partition(": ")
            print(f"{situation.__name__} ({reports})\n    {what}\n    {result.replace(str(root), '')}", flush=True)
        os.chdir("/")
    print(f"{wrong} not right")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
