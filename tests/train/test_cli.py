"""The command `peftlab`, in this process: what it prints where, and its exit codes."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tests.applications import write_applications

from peftlab import cli
from peftlab.commands import predict
from peftlab.composing.compose import conf_dir
from peftlab.report import archive
from peftlab.report.drawing.drawn import Drawn
from peftlab.sweep.board import Board
from peftlab.use import finished as finished_run

ROOT = conf_dir().parent
PAGES = [page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]


@pytest.fixture
def run_id(finished):
    """The same run below ``runs/``; the start of its id."""
    folder = Path("runs") / "mine" / finished.data["run_id"]
    shutil.copytree(finished.folder, folder)
    return folder.name[:4]


class TestRuns:
    @pytest.mark.slow
    def test_the_table(self, peftlab, run_id, finished):
        code, out, err = peftlab("runs")
        head, row = out.splitlines()
        assert (code, err) == (0, "")
        assert head.split() == [
            "id",
            "name",
            "status",
            "metric",
            "validation",
            "test",
            "trainable",
            "seconds",
            "started",
        ]
        assert row.split()[:4] == [finished.data["run_id"], "ner-files-lora", "completed", "entity_f1"]

    def test_json(self, peftlab, run_id):
        (row,) = json.loads(peftlab("runs", "--json")[1])
        assert row["id"].startswith(run_id)

    def test_a_broken_record_is_a_line(self, peftlab, run_id):
        Path("runs/mine/000").mkdir()
        Path("runs/mine/000/record.json").write_text("{")
        code, out, _ = peftlab("runs")
        assert code == 0
        assert out.splitlines()[-1].startswith("000: broken: ")
        assert len(out.splitlines()) == 3

    def test_none(self, peftlab):
        assert peftlab("runs") == (0, "", "no runs\n")
        assert peftlab("runs", "--json") == (0, "[]\n", "")


class TestEvaluate:
    @pytest.mark.slow
    def test_equal(self, peftlab, run_id):
        code, out, err = peftlab("evaluate", run_id)
        assert code == 0
        assert "equal to the record to the last digit" in out
        assert re.search(r"^test +entity_f1 +(0\.\d+) +\1 +equal$", out, re.MULTILINE)
        assert "precision  recall" in err

    @pytest.mark.slow
    def test_json_is_all_there_is_on_stdout(self, peftlab, run_id, finished):
        code, out, _ = peftlab("evaluate", run_id, "--split", "test", "--json")
        document = json.loads(out)
        assert (code, document["equal"], document["elsewhere"], document["lost"]) == (0, True, {}, {})
        recorded = {m["name"]: m["value"] for m in finished.data["metrics"] if m["split"] == "test"}
        assert {score["name"]: score["value"] for score in document["scores"]} == recorded
        assert {"name", "split", "scorer", "value", "recorded", "equal"} == document["scores"][0].keys()

    @pytest.mark.slow
    @pytest.mark.parametrize("cpu", [None, "another"])
    def test_another_score_than_the_recorded_one_is_exit_code_1(self, peftlab, run_id, cpu):
        (file,) = Path("runs").rglob("record.json")
        document = json.loads(file.read_text())
        for score in document["metrics"]:
            score["value"] += 1e-9 if (score["name"], score["split"]) == ("loss", "test") else 0
        document["environment"]["cpu"] = cpu or document["environment"]["cpu"]
        file.write_text(json.dumps(document))
        code, out, _ = peftlab("evaluate", run_id, "--split", "test")
        assert code == 1
        assert ("not equal to the record, and the surroundings are not those of the run" in out) == bool(cpu)
        code, out, _ = peftlab("evaluate", run_id, "--split", "test", "--json")
        assert (code, json.loads(out)["equal"]) == (1, False)

    @pytest.mark.slow
    def test_new_data(self, peftlab, run_id, tiny_data):
        code, out, _ = peftlab("evaluate", run_id, "--data", tiny_data / "dev.txt", "--out", "kept", "--threads", "1")
        assert code == 0
        assert re.search(r"^test +entity_f1 +- +0\.\d+$", out, re.MULTILINE)
        assert len(Path("kept/test.jsonl").read_text().splitlines()) == 16


class TestPredict:
    @pytest.mark.slow
    def test_for_people(self, peftlab, run_id):
        code, out, _ = peftlab("predict", run_id, "Marie Curie moved from Warsaw to Paris.", "")
        lines = out.splitlines()
        assert (code, lines[0], lines[-1]) == (0, "Marie Curie moved from Warsaw to Paris.", "  -")
        assert re.search(r"^  LOC +\d+ +\d+ +Paris +[01]\.\d{4}$", out, re.MULTILINE)

    @pytest.mark.slow
    def test_a_notice_is_told_once_and_beside_the_answers(self, peftlab, run_id):
        (folder,) = Path("runs/mine").iterdir()
        config = folder / "config.yaml"  # no part of the identity
        config.write_text(config.read_text().replace("notice: null", "notice: not for clinical use"))
        _, out, err = peftlab("predict", run_id, "Rome", "Paris")
        assert err.count("notice: not for clinical use") == 1
        assert "notice" not in out
        assert "> **Notice**: not for clinical use" in peftlab("card", run_id)[1]

    @pytest.mark.slow
    def test_a_line_of_json_a_text(self, peftlab, run_id):
        Path("texts.txt").write_text("\ufeffParis\n\nRome and 東京\r\n", encoding="utf-8")
        code, out, _ = peftlab("predict", run_id, "--file", "texts.txt", "--json")
        answers = [json.loads(line) for line in out.splitlines()]
        assert (code, [answer["text"] for answer in answers]) == (0, ["Paris", "", "Rome and 東京"])
        assert "東京" in out

    @pytest.mark.slow
    def test_stdin(self, peftlab, run_id, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.StringIO("Paris\nRome\n"))
        assert len(peftlab("predict", run_id, "--file", "-", "--json")[1].splitlines()) == 2

    @pytest.mark.slow
    def test_text_that_is_no_unicode_is_mended_and_told(self, peftlab, run_id):
        code, out, err = peftlab("predict", run_id, "caf\udce9 Paris", "--json")
        assert (code, json.loads(out)["text"]) == (0, "caf\ufffd Paris")
        assert "the texts have odd characters: halves of characters, read as U+FFFD: 1" in err
        Path("in.jsonl").write_text('{"text": "\\ud83d Paris \\ud83d\\ude00", "id\\udfff": ["\\udc00"]}\n')
        code, out, err = peftlab("predict", run_id, "--jsonl", "in.jsonl")
        (answer,) = [json.loads(line) for line in out.splitlines()]
        assert (code, answer["text"], answer["id\ufffd"]) == (0, "\ufffd Paris \U0001f600", ["\ufffd"])
        assert [answer["text"][e["start"] : e["end"]] for e in answer["entities"]] == [
            e["text"] for e in answer["entities"]
        ]
        assert "read as U+FFFD: 3" in err

    @pytest.mark.slow
    def test_other_keys_are_passed_on(self, peftlab, run_id, monkeypatch):
        monkeypatch.setattr(predict, "CHUNK", 1)
        words = ["Marie", "Curie", "moved", "from", "Warsaw", "to", "Paris", "."]
        objects = [{"n": 1, "text": "Marie Curie moved from Warsaw to Paris."}, {"words": words, "n": {"m": 2}}]
        Path("in.jsonl").write_text("\n".join(map(json.dumps, objects)))
        code, out, _ = peftlab("predict", run_id, "--jsonl", "in.jsonl")
        answers = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        last = [answer.pop("entities")[-1] for answer in answers]
        assert answers == objects
        found = [(entity["type"], entity["start"], entity["end"], entity["text"]) for entity in last]
        assert found == [("LOC", 33, 38, "Paris"), ("LOC", 6, 7, "Paris")]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "line",
        ["Paris", '"Paris"', "{}", '{"text": 1}', '{"words": "Paris"}', '{"words": [1]}', '{"text": "a", "words": 1}'],
    )
    def test_a_bad_line_is_an_error_in_its_place(self, peftlab, run_id, line):
        Path("in.jsonl").write_text('{"text": "Paris"}\n' + line + '\n{"text": "Rome"}\n')
        code, out, err = peftlab("predict", run_id, "--jsonl", "in.jsonl")
        first, bad, last = [json.loads(line) for line in out.splitlines()]
        assert (code, first["text"], last["text"]) == (1, "Paris", "Rome")
        assert first.keys() == last.keys() == {"text", "entities"}
        assert bad["error"].startswith("in.jsonl:2: ")
        assert err == "error: 1 of 3 lines have no answer; each says why\n"

    @pytest.mark.parametrize("before", [[], ["--json"]])
    @pytest.mark.parametrize("between", [[], ["--json"]])
    @pytest.mark.parametrize("after", [[], ["--json"], ["--", "-x", "--json", "- item", "-1"]])
    def test_options_stand_anywhere(self, monkeypatch, before, between, after):
        parsed = cli.make_parser().parse_args(["predict", *before, "RUN", *between, "Rome", "- a", "-3", *after])
        more = after[1:] if "--" in after else []
        assert (parsed.run, parsed.texts) == ("RUN", ["Rome", "- a", "-3", *more])
        assert parsed.json == ("--json" in [*before, *between] or after == ["--json"])

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ("compare A --json B", {"runs": ["A", "B"], "json": True}),
            ("compare --json -- A -B", {"runs": ["A", "-B"]}),
            ("export --json RUN DIR", {"run": "RUN", "folder": Path("DIR"), "json": True}),
            ("export RUN --json DIR", {"run": "RUN", "folder": Path("DIR")}),
            ("runs --json DIR", {"folder": "DIR", "json": True}),
            ("runs DIR --json", {"folder": "DIR", "json": True}),
            ("runs --json", {"folder": None, "json": True}),
            ("evaluate --data D RUN --split test --split validation", {"run": "RUN", "split": ["test", "validation"]}),
            ("evaluate --dat=D --thr 2 RUN", {"run": "RUN", "data": "D", "threads": 2}),
            ("predict --file - RUN", {"run": "RUN", "file": "-", "texts": []}),
            ("reproduce --spread 0.5 RUN --out O", {"run": "RUN", "spread": 0.5, "out": Path("O")}),
            ("methods --markdown lora --model minilm", {"method": "lora", "model": "minilm", "markdown": True}),
        ],
    )
    def test_of_every_command(self, arguments, expected):
        parsed = vars(cli.make_parser().parse_args(arguments.split()))
        assert parsed.items() >= expected.items()

    @pytest.mark.parametrize(
        "arguments",
        [
            *("predict RUN --fiel x", "compare A", "export --json DIR", "predict RUN --file"),
            *("evaluate RUN --threads 0", "evaluate RUN --threads -1", "fairness RUN --groups names --seed -1"),
            *("diff RUN --seed -1", "clean RUN --limit -1"),
        ],
    )
    def test_what_is_no_option_is_refused(self, arguments, capsys):
        with pytest.raises(SystemExit) as end:
            cli.make_parser().parse_args(arguments.split())
        assert end.value.code == 2
        assert "usage: peftlab" in capsys.readouterr().err

    @pytest.mark.slow
    def test_what_is_not_seen_is_told_once(self, peftlab, run_id, monkeypatch):
        monkeypatch.setattr(predict, "CHUNK", 1)
        code, out, err = peftlab("predict", run_id, "Rome", "in \u200b", "\u200b")
        assert code == 0
        assert out.splitlines()[-1] == "  (1 emptied words)"
        assert err == "not seen of the input (data.max_tokens=64): 2 words without a token\n"
        answers = [json.loads(line) for line in peftlab("predict", "--json", run_id, "Rome", "\u200b")[1].splitlines()]
        assert [answer.get("emptied_words") for answer in answers] == [None, 1]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "line", ['{"text": "Rome", "text_pair": "Paris"}', '{"text": null}', '{"words": ["a", 1]}']
    )
    def test_another_form_than_that_of_the_run(self, peftlab, run_id, line):
        Path("in.jsonl").write_text('{"words": []}\n{"text": ""}\n' + line + "\n")
        code, out, err = peftlab("predict", run_id, "--jsonl", "in.jsonl")
        answers = [json.loads(line) for line in out.splitlines()]
        assert (code, [sorted(answer) for answer in answers[:2]]) == (1, [["entities", "words"], ["entities", "text"]])
        assert answers[2] == json.loads(line) | {"error": answers[2]["error"]}
        assert answers[2]["error"].startswith("in.jsonl:3: ")
        assert err == "error: 1 of 3 lines have no answer; each says why\n"

    @pytest.mark.slow
    def test_a_bad_line_of_texts(self, peftlab, run_id):
        Path("texts.txt").write_bytes(b"Paris\n\xff\nRome\n")
        code, out, err = peftlab("predict", run_id, "--file", "texts.txt")
        lines = out.splitlines()
        assert (code, lines[0], "Rome" in lines) == (1, "Paris", True)
        assert "  error: texts.txt:2: byte 0xff is not UTF-8. Save the file as UTF-8." in lines
        assert err == "error: 1 of 3 lines have no answer; each says why\n"


class TestExport:
    @pytest.mark.slow
    def test_for_people_and_as_json(self, peftlab, run_id):
        code, out, _ = peftlab("export", run_id, "first")
        assert code == 0
        assert out.startswith("first: its logits on the validation split differ by at most ")
        document = json.loads(peftlab("export", run_id, "second", "--json")[1])
        assert document["folder"] == "second"
        assert 0 <= document["largest_difference"] < 1e-4
        assert code == 0


@pytest.mark.parametrize("arguments", [["predict", "RUN", "Paris"], ["export", "RUN", "out"], ["evaluate", "RUN"]])
def test_a_run_that_was_changed_is_not_used(peftlab, run_id, arguments):
    (file,) = Path("runs").rglob("adapter_model.safetensors")
    file.write_bytes(file.read_bytes() + b"\0")
    code, out, err = peftlab(*(run_id if argument == "RUN" else argument for argument in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "adapter/adapter_model.safetensors is not what the run has left there" in err


class TestReproduce:
    @pytest.mark.slow
    def test_what_is_recorded_is_checked(self, peftlab, run_id):
        code, out, err = peftlab("reproduce", run_id, "--check-only")
        assert (code, err) == (0, "")
        assert out.startswith("identical: all that decides the result is the same, and the folder agrees with its rec")
        assert "trained again: no" in out

    @pytest.mark.slow
    def test_an_edited_score_is_exit_code_1(self, peftlab, run_id, finished):
        (file,) = Path("runs").rglob("record.json")
        document = json.loads(file.read_text())
        for score in document["metrics"]:
            score["value"] = 0.99 if score["name"] == "entity_f1" and score["split"] == "test" else score["value"]
        file.write_text(json.dumps(document))
        code, out, _ = peftlab("reproduce", run_id, "--check-only", "--json")
        verdict = json.loads(out)
        assert (code, verdict["verdict"], verdict["again"]) == (1, "different", None)
        (cause,) = verdict["causes"]
        assert (cause["kind"], cause["then"]) == ("edited", 0.99)
        assert json.loads((file.parent / "reproduction.json").read_text()) == [verdict]

    @pytest.mark.slow
    def test_json_is_all_there_is_on_stdout(self, peftlab, run_id):
        code, out, err = peftlab("reproduce", run_id, "--json", "--out", "again")
        verdict = json.loads(out)
        assert (code, verdict["verdict"], verdict["again"]) == (0, "identical", "again")
        assert "precision  recall" in err


class TestArchive:
    @pytest.mark.usefixtures("run_id")
    def test_from_hand_to_hand(self, peftlab):
        code, out, err = peftlab("archive", "runs", "--out", "a.zip")
        assert (code, err) == (0, "")
        assert out.startswith("a.zip: 1 runs, ")
        code, verified, _ = peftlab("verify", "a.zip")
        assert (code, out.splitlines()[1]) == (0, verified.splitlines()[1])
        assert "all as the manifest lists them" in verified
        assert "signature: none: whoever changes a file can write the manifest anew" in verified

    def test_an_extra_file_is_exit_code_1(self, peftlab, run_id):
        peftlab("archive", run_id, "--out", "a.zip", "--json")
        with zipfile.ZipFile("a.zip", "a") as opened:
            opened.writestr("more\x1b[2J.json", "{}")
        code, out, _ = peftlab("verify", "a.zip")
        assert (code, out.splitlines()[0]) == (1, "more\\x1b[2J.json is not in the manifest")
        document = json.loads(peftlab("verify", "a.zip", "--json")[1])
        assert (document["holds"], [fault["member"] for fault in document["faults"]]) == (False, ["more\x1b[2J.json"])

    def test_a_file_that_is_not_as_recorded_is_told(self, peftlab, run_id):
        (file,) = Path("runs").rglob("test.jsonl")
        file.write_text(file.read_text() + "{}\n")
        code, out, err = peftlab("archive", run_id, "--out", "a.zip", "--json")
        assert (code, json.loads(out)["doubts"][0]["member"][-22:]) == (0, "predictions/test.jsonl")
        assert "predictions/test.jsonl is not what" in err
        assert peftlab("verify", "a.zip")[0] == 1

    @pytest.mark.slow
    def test_a_run_in_it_is_trained_again(self, peftlab, run_id):
        peftlab("archive", run_id, "--out", "a.zip")
        shutil.rmtree("runs")
        code, out, _ = peftlab("reproduce", "a.zip", "--out", "again", "--json")
        verdict = json.loads(out)
        assert (code, verdict["verdict"], verdict["again"]) == (0, "identical", "again")
        assert verdict["run"].startswith(f"a.zip:{run_id}")
        assert peftlab("verify", "a.zip")[0] == 0


class TestCard:
    @pytest.mark.slow
    def test_printed_written_and_as_json(self, peftlab, run_id, finished):
        code, out, err = peftlab("card", run_id)
        assert (code, err) == (0, "")
        data = ModelCard(out).data
        recorded = {(m["split"], m["value"]) for m in finished.data["metrics"] if m["name"] == "entity_f1"}
        assert {(r.dataset_split, r.metric_value) for r in data.eval_results if r.metric_type == "f1"} == recorded
        assert re.search(r"^\| test \| entity_f1 \| 0\.\d{4} \| .* \| 0\.\d{4} to [01]\.\d{4} \|$", out, re.MULTILINE)
        assert peftlab("card", run_id, "--out", "README.md") == (0, "README.md\n", "")
        assert Path("README.md").read_text() == out
        document = json.loads(peftlab("card", run_id, "--json")[1])
        assert (document["text"], document["metadata"]["pipeline_tag"]) == (out, "token-classification")
        code, out, err = peftlab("card", run_id, "--out", "README.md")
        assert (code, out, err.startswith("error: 'README.md' is there already")) == (2, "", True)

    @pytest.mark.slow
    def test_of_a_run_in_an_archive_it_is_the_same(self, peftlab, run_id):
        peftlab("archive", run_id, "--out", "a.zip")
        assert peftlab("card", "a.zip") == peftlab("card", run_id)

    @pytest.mark.slow
    def test_scores_that_do_not_follow_are_refused_and_those_that_nothing_confirms_left_out(self, peftlab, run_id):
        (file,) = Path("runs").rglob("test.jsonl")
        (record,) = Path("runs").rglob("record.json")
        before = record.read_text()
        document = json.loads(before)
        for score in document["metrics"]:
            score["value"] = 0.99 if score["name"] == "entity_f1" else score["value"]
        record.write_text(json.dumps(document))
        code, out, err = peftlab("card", run_id)
        assert (code, out) == (2, "")
        assert "validation entity_f1 is not what follows from its predictions" in err
        record.write_text(before)
        file.write_text(file.read_text().replace('"predicted"', '"gold", "predicted"', 1))
        assert "predictions/test.jsonl is not what its record lists" in peftlab("card", run_id)[2]
        file.unlink()
        code, out, _ = peftlab("card", run_id)
        assert code == 0
        assert "The scores of the run are left out: predictions/test.jsonl, which could confirm them, is gone." in out
        assert ModelCard(out).data.eval_results is None

    def test_only_of_what_has_finished_and_with_its_own_configuration(self, peftlab, run_id):
        (file,) = Path("runs").rglob("config.yaml")
        before = file.read_text()
        file.write_text(before.replace("seed: 0", "seed: 1"))
        assert "config.yaml is not the configuration of its record" in peftlab("card", run_id)[2]
        file.write_text(before)
        (record,) = Path("runs").rglob("record.json")
        record.write_text(record.read_text().replace('"status": "completed"', '"status": "interrupted"'))
        assert "its status is 'interrupted', and only a completed run has" in peftlab("card", run_id)[2]


class TestCompare:
    @pytest.mark.slow
    def test_the_table(self, peftlab, run_id, finished):
        (folder,) = Path("runs/mine").iterdir()
        other = Path(shutil.copytree(folder, "runs/mine/other"))
        config = (other / "config.yaml").read_text()
        (other / "config.yaml").write_text(config.replace("seed: 0", "seed: 1"))
        code, out, err = peftlab("compare", run_id, "other")
        assert (code, err) == (0, "")
        assert out.splitlines()[0].split() == [str(folder), str(other)]
        assert re.search(r"^config: seed +0 +1$", out, re.MULTILINE)
        assert re.search(r"^test entity_f1 +(0\.\d{4}) +\1 +\+0\.0000$", out, re.MULTILINE)
        assert "minus the first: +0.0000" in out.splitlines()[-1]
        assert "environment: " not in out

    def test_json(self, peftlab, run_id, finished):
        code, out, _ = peftlab("compare", run_id, run_id, "--json")
        document = json.loads(out)
        assert code == 0
        assert {section: document[section] for section in ("config", "data", "environment", "packages", "code")} == {
            section: {} for section in ("config", "data", "environment", "packages", "code")
        }
        assert [score["difference"] for score in document["scores"]] == [0.0] * len(finished.data["metrics"])
        assert document["cost"]["steps"] == [60, 60]
        assert (document["paired"]["lost"], document["paired"]["won"]) == (0, 0)


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["evaluate", "nothing"], "error: 'nothing' is neither a run folder"),
            (["evaluate", "RUN", "--data", "nowhere"], "error: 'nowhere': there is no such file"),
            (["predict", "RUN"], "error: predict takes texts, --file FILE, --jsonl FILE or --chat"),
            (
                ["predict", "RUN", "a text", "--file", "b"],
                "error: predict takes texts, --file FILE, --jsonl FILE or --chat",
            ),
            (["predict", "RUN", "--file", "nowhere"], "error: nowhere: cannot be read (No such file or directory)"),
            (["export", "RUN", "runs"], "error: 'runs' is there already and not empty"),
            (["reproduce", "RUN", "--out", "runs"], "error: 'runs' is there already and not empty"),
            (["compare", "RUN", "nothing"], "error: 'nothing' is neither a run folder"),
            (["runs", "nowhere"], "error: 'nowhere' is no folder"),
        ],
    )
    def test_are_one_message_and_exit_code_2(self, peftlab, run_id, arguments, message):
        code, out, err = peftlab(*(run_id if argument == "RUN" else argument for argument in arguments))
        assert (code, out) == (2, "")
        assert err.startswith(message)
        assert err.count("\n") == 1

    @pytest.mark.parametrize("arguments", [[], ["runz"], ["evaluate"], ["evaluate", "RUN", "--split", "train"]])
    def test_of_the_command_line_are_exit_code_2(self, peftlab, arguments):
        code, out, err = peftlab(*arguments)
        assert (code, out) == (2, "")
        assert "usage: peftlab" in err

    def test_an_interruption(self, peftlab, run_id, monkeypatch):
        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(finished_run, "load", interrupted)
        assert peftlab("predict", run_id, "Paris")[0] == 130


class TestClean:
    def test_of_a_run_what_its_predictions_say(self, peftlab, run_id, finished):
        code, out, _ = peftlab("clean", run_id, "--json", "--csv", "errors.csv")
        rows = json.loads(out)
        assert (code, {row["reason"] for row in rows}) == (0, {"label error"})
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
        for split in ("validation", "test"):
            scores = [row["score"] for row in rows if row["split"] == split]
            assert scores == sorted(scores)
            assert 0 < len(scores) < 16
        assert len(Path("errors.csv").read_text().splitlines()) == len(rows) + 1
        kept = (finished.folder / "predictions" / "test.jsonl").read_text().splitlines()
        gold = {row["id"]: row["gold"] for row in map(json.loads, kept)}
        for row in rows:
            tags = [pair.rpartition(":")[2] for pair in row["gold"].split()]
            assert row["split"] == "validation" or set(tags) <= {*gold[row["id"]]}

    def test_the_table_says_how_much_more_there_is(self, peftlab, run_id):
        head, row, counts, more = peftlab("clean", run_id, "--limit", "1", "--split", "test")[1].splitlines()
        assert head.split() == ["rank", "id", "reason", "score", "gold", "suggested", "text"]
        assert row.startswith("1     test:")
        assert re.fullmatch(r"label error in test: \d+", counts)
        assert re.fullmatch(r"\d+ more: --limit 0 shows all, --csv FILE writes them", more)

    def test_a_folder_with_an_equals_sign_is_a_run_and_without_predictions_nothing_is_said_of_it(
        self, peftlab, finished, tmp_path
    ):
        shutil.copytree(finished.folder, tmp_path / "lr=1")
        assert peftlab("clean", "lr=1", "--json")[0] == 0
        shutil.rmtree(tmp_path / "lr=1" / "predictions")
        code, _, err = peftlab("clean", "lr=1")
        assert (code, "holds no predictions, neither" in err) == (2, True)

    @pytest.mark.slow
    @pytest.mark.parametrize("limit", ["train_examples=2", "per_class=1"])
    def test_of_data_all_that_needs_no_training(self, limit, peftlab, tiny_model, tmp_path):
        rows = ["a b c", "a b c", "d e f", "d e f", "\u200b", "one two three four five six seven", "plain"]
        labels = ["x", "x", "x", "y", "x", "y", "y"]
        for file, content in {
            "train": zip(rows, labels, strict=True),
            "dev": [("plain", "x")],
            "test": [("z", "y")],
        }.items():
            lines = [f"{text},{label}" for text, label in content]
            (tmp_path / f"{file}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
        chosen = [
            "task=classification",
            "data=csv",
            f"data.path={tmp_path}",
            "data.max_tokens=8",
            "data.duplicates=drop",
        ]
        chosen += ["model=folder", f"model.path={tiny_model}", f"budget.{limit}"]
        code, out, err = peftlab("clean", *chosen, "--json")
        assert code == 0, err
        assert [(row["id"], row["reason"]) for row in json.loads(out)] == [
            ("train:2", "conflict"),
            ("train:3", "conflict"),
            ("train:1", "duplicate"),
            ("train:6", "leak"),
            ("train:4", "empty"),
            ("train:5", "unread"),
        ]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["ID", "data=csv"], "clean takes one RUN, or overrides that choose data"),
            (["data=csv", "--split", "test"], "--split is for label errors, which a RUN finds: name one"),
            (["data=csv", "--score", "normalized_margin"], "--score is for label errors"),
            (["ID", "--folds", "3"], "--folds 3: only the training split has folds: --split train"),
            (["ID", "--csv", "runs"], "argument --csv: 'runs' is a folder; name a file"),
            (["ID", "--csv", __file__], "is there already; it may have been edited"),
            (["ID", "--split", "train", "--folds", "1"], "--folds 1: at least 2 are needed"),
        ],
    )
    def test_what_is_refused(self, peftlab, run_id, arguments, message):
        code, out, err = peftlab("clean", *(run_id if word == "ID" else word for word in arguments))
        assert (code, out) == (2, "")
        assert message in err

    @pytest.mark.slow
    def test_probabilities_that_were_not_kept_are_computed_again(self, peftlab, run_id, finished):
        rows = json.loads(peftlab("clean", run_id, "--split", "test", "--json")[1])
        (folder,) = Path("runs/mine").iterdir()
        config = folder / "config.yaml"  # no part of the identity
        config.write_text(config.read_text().replace("top_k: null", "top_k: 1"))
        file = folder / "predictions" / "test.jsonl"
        file.write_text(re.sub(r'"probabilities": \[.*?\], "group"', '"probabilities": [], "group"', file.read_text()))
        again = json.loads(peftlab("clean", run_id, "--split", "test", "--json")[1])
        assert again == rows


def commands() -> list[str]:
    """Return the documented commands of `peftlab`, each once."""
    blocks = [block for page in PAGES for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)]
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    lines = [line.partition("&& ")[2] if line.startswith("cd ") else line for line in lines]
    return list(dict.fromkeys(line for line in lines if line.startswith("peftlab ")))


def own_key(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an SSH key in a home of the reader's, and the files of public keys that the documents name."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    key = Path(".ssh/id_ed25519").absolute()
    key.parent.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    shutil.copy(f"{key}.pub", "id_ed25519.pub")
    Path("allowed_signers").write_text(f"me@example.org {Path('id_ed25519.pub').read_text()}")
    return key


def trains(line: str) -> bool:
    return line.split()[1] == "train" or "--split train" in line


def takes_long(line: str) -> bool:
    """Return whether a command trains a run to its end, attacks one, or makes it smaller."""
    words = line.split()
    return (
        words[1] in ("continue", "resume", "robustness", "reproduce", "audit", "compress", "scorecard")
        and "--check-only" not in words
    )


LACKING = {
    "terms=": "fewer than two groups",
    "entities=": "fewer than two groups",
    "column=dialect": "no columns besides text and label",
    "column:source": "no columns besides text and label",
    "--how swag": "kept no moments of its weights",
    "what a day": "every word is predicted O",
    "--examples 200 --seeds": "differs in its seed alone",
    "--initial 2000": "so that none are left to ask about",
    "--best 5": "there are 1 completed runs",
    "drop_layers=2": "the model has 2 layers",
    "drop_layers=3": "the model has 2 layers",
    "--reference 8b1e": "this is the run itself",
    "peftlab recommend": "only task=retrieval ranks all items",
    "--fallback": "it has not learnt what is",
    "watch 3f9c": "the run gives no text exactly one label",
    "watch 5d2e": "the run gives no text exactly one label",
}
"""What the tiny run has not that a documented command is about: the command says so."""


# `tests/unit/catalogue/test_method_table.py` runs the one that counts what every method trains; those that train are
# run by `tests/slow/test_documents.py` and `tests/slow/test_clean.py`
@pytest.mark.one_in(5, "exhaustive")
@pytest.mark.one_in(15, "slow")
@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=pytest.mark.slow) if takes_long(line) else line
        for line in commands()
        if line != "peftlab methods" and not trains(line)
    ],
)
def test_every_documented_command_works(
    request, peftlab, finished, tiny_data, tiny_texts, tiny_model, monkeypatch, line
):
    for name in ("3f9c2a71d0be", "8b1e0d55c2f4", *(["8a41d7c0ffee"] if "8a41d7" in line else [])):
        shutil.copytree(finished.folder, f"runs/ner_lora/{name}")
    if "5d2e" in line:
        shutil.copytree(request.getfixturevalue("finished_writer").folder, "runs/instruct_lora/5d2e8c01a7b3")
        monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
        Path("questions.jsonl").write_text('{"text": "who ?"}\n')
    Path("my_answers.jsonl").write_text("".join(f'{{"prompt": "{n} ?", "answer": "{n}"}}\n' for n in range(40)))
    if line.startswith("peftlab resume"):
        record = Path("runs/ner_lora/3f9c2a71d0be/record.json")
        record.write_text(record.read_text().replace('"status": "completed"', '"status": "interrupted"'))
    Board("ner_lora", Path("sweeps/ner_lora"), ["train", "-m"], {"selection.value": "max"}, slots=1).end()
    shutil.copy(tiny_data / "test.txt", "new.conll")
    shutil.copy(tiny_texts / "train.csv", "my_texts.csv")
    Path("texts.txt").write_text("Paris\n")
    shutil.copy(tiny_texts / "train.csv", "tickets.csv")
    Path("tickets.jsonl").write_text('{"text": "Paris"}\n')
    words = shlex.split(line)[1:]
    if words[0] in ("serve", "load") and "--write-alerts" not in words:  # until they are ended: tests of their own do
        cli.make_parser().parse_args(words)
        return
    if words[0] == "report":  # tests/slow/test_report.py has its figures written
        monkeypatch.setattr(Drawn, "write", lambda *_: None)
    if ".zip" in line or words[0] == "report":
        shutil.copytree(finished.folder, "sweeps/ner_lora/41aa00000000")
        signed = own_key(monkeypatch) if "--key" in line or "--allowed-signers" in line else None
        archive.write(["sweeps/ner_lora"], "ner.zip" if signed is None else "signed.zip", key=signed)
        Path(words[words.index("--out") + 1] if "--out" in words else "none").unlink(missing_ok=True)
    if words[0] == "clean" and "=" in words[1]:  # data, read with the tokenizer of a model
        words += ["model=folder", f"model.path={tiny_model}", "data.max_tokens=64"]
    if "--shadows" in words:
        words += ["--shadows", "6"]  # the fewest there may be; of an option that is given twice, the last one counts
    if words[0] == "fairness" and "names" in words:
        words += ["--names", "4"]
    if words[0] == "active":  # a round on tiny data, whatever the configuration
        data = ["files", tiny_data] if "ner" in line else ["csv", tiny_texts, "task=classification"]
        words = [word for word in words if "=" not in word] + [f"data={data[0]}", f"data.path={data[1]}", *data[2:]]
        words += ["model=folder", f"model.path={tiny_model}", "budget.max_steps=1", "logger=[]", "trainer=cpu"]
        words += ["--rounds", "1", *(["--seeds", "1"] if "--seeds" in line else [])]
        Path("pool.csv").write_text("text\nParis\n")
    if words[0] == "scorecard":  # of tiny runs; one is built before it answers
        write_applications(Path("applications.csv"))
        write_applications(Path("new_applications.csv"), count=3)
        tiny = ["model=folder", f"model.path={tiny_model}", "budget.max_steps=1", "trainer=cpu"]
        tiny += ["data.max_tokens=64", "--folds", "2"]
        if "--predict" in words:
            building = next(shlex.split(other)[1:] for other in commands() if "--out credit" in other)
            assert peftlab(*building, *tiny)[0] == 0
        else:
            words += tiny
    if words[0] == "data":  # without a network
        here = {"conll2003": [tiny_data, "data=files"], "minilm": [tiny_model]}
        words = [other for word in words for other in here.get(word, [word])]
    if words[0] == "label":
        rules = {"move": "moved", "hire": "hired", "report": "said", "compare": "than", "nothing": "happened"}
        Path("my_rules.yaml").write_text("".join(f"{label}: {{any: [{word}]}}\n" for label, word in rules.items()))
        Path("my_names.yaml").write_text("LOC: {any: [Paris, Rome]}\nPER: {any: [Anna]}\n")
        Path("my_rules.py").write_text(
            "from peftlab.weak_supervision import labelling_function\n"
            "@labelling_function\ndef shouting(text):\n    return 'report' if text.text.isupper() else None\n"
        )
        Path("my_sentences.jsonl").write_text('{"tokens": ["Anna", "saw", "Paris"]}\n' * 3)
        shutil.copy(tiny_texts / "dev.csv", "dev.csv")
    if words[0] == "answers":
        Path("help_pages").mkdir()
        Path("help_pages/accounts.md").write_text("How to close an account.\n")
        Path("questions.jsonl").write_text('{"text": "close it", "answers": ["accounts.md"]}\n')
        if words[1] == "index":
            peftlab("answers", "help_pages", "--out", "index")
    if words[0] == "watch":
        Path("watch.yaml").write_text("correction: none")
        Path("answers.jsonl").write_text('{"at": "2026-03-01", "text": "Paris", "opinion": "good"}\n')
    if words[0] == "mask":
        shutil.copy("my_texts.csv", "tickets.csv")
        shutil.copytree(tiny_texts, "texts")
        if "--key" in words:
            peftlab("mask", "--new-key", "secret.key")
    if "names.txt" in line:
        Path("names.txt").write_text("female | male\nAnna | Otto\n")
    if "mine.txt" in line:
        Path("mine.txt").write_text("{name} came home .\nI met {name} .\n")
    if words[0] in ("ensemble", "fairness") and "sweeps/ner_lora" in words:
        shutil.copytree(finished.folder, "sweeps/ner_lora/41aa00000000")
    code, out, err = peftlab(*words)
    if lacking := [message for part, message in LACKING.items() if part in line]:
        assert code == 2
        assert any(message in err for message in lacking), err
    else:
        assert code == 0, err
        assert out


def test_the_documentation_shows_every_command():
    parser = cli.make_parser()
    (choices,) = [action.choices for action in parser._actions if action.choices]
    assert {line.split()[1] for line in commands()} == set(choices)


@pytest.mark.slow
def test_a_command_does_without_the_modules_of_the_others():
    code = "import sys; from peftlab import cli; cli.make_parser(['runs']); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name for name in ended.stdout.split() if name.startswith("peftlab.commands.")}
    assert imported == {"peftlab.commands.runs"}
