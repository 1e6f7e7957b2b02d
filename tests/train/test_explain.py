"""``peftlab explain`` on a finished run: what it prints, keeps and writes, and that the record stays what it was."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

import peftlab as package
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.use.check import check
from peftlab.use.ensembles.averaging import average

TEXT = "Marie Curie moved from Warsaw to <b>Paris</b> ."
FEW = ["--examples", "6", "--steps", "20"]


@pytest.fixture
def copy(finished) -> Path:
    """A copy of the finished run, which finds entities."""
    return Path(shutil.copytree(finished.folder, "copy"))


@pytest.mark.slow
def test_a_text_and_its_page(peftlab, copy):
    options = ["--how", "ig,occlusion,attention,rollout", "--json", "--html", "why.html"]
    code, out, err = peftlab("explain", copy, TEXT, *options)
    assert code == 0, err
    document = json.loads(out)
    tag, _, word = document["target"].partition("@")
    assert tag[:2] in ("B-", "I-")
    words = [one["text"] for one in document["words"]]
    assert words[:3] == ["Marie", "Curie", "moved"]
    assert [(one["how"], one["baseline"]) for one in document["maps"]] == [
        *[(how, "mask") for how in ("ig", "occlusion", "attention", "rollout")],
        *[(how, "pad") for how in ("ig", "occlusion")],
    ]
    for one in document["maps"]:
        assert len(one["values"]) == len(words)
        assert -0.01 <= one["faithfulness"]["sufficiency"] <= 1.01
        assert 0 <= one["beaten"] <= 1
    assert max(one["beaten"] for one in document["maps"]) > 0.8
    gradients = document["maps"][0]
    assert abs(gradients["gap"]) <= 0.01 * abs(gradients["full"] - gradients["empty"])
    assert any("it is no explanation" in note for note in document["notes"])
    assert any("Do not compare models" in note for note in document["notes"])

    page = Path("why.html").read_text(encoding="utf-8")
    assert "&lt;" in page
    assert "<b>Paris" not in page
    assert "default-src 'none'" in page
    assert page.count('<figure class="highlighted">') == 6
    assert ">Marie</span> <span" in page
    assert f"{gradients['values'][0]:+.4f}" in page  # in a table, for who sees no colours
    assert f'title="{gradients["values"][0]:+.4f}"' in page

    code, out, _ = peftlab("explain", copy, TEXT, "--target", f"{tag[2:]}@{words[int(word)]}", "--baseline", "pad")
    assert code == 0
    assert f"target: {tag}@{word}" in out
    assert "Integrated gradients, pad baseline" in out
    assert "better than" in out
    from_python = package.load(copy).explain(TEXT, f"{tag}@{word}", baseline="pad")
    assert from_python.maps[0].values == pytest.approx(document["maps"][4]["values"])


@pytest.mark.slow
def test_faithfulness_is_kept_beside_the_record(peftlab, copy, finished):
    how = ["--how", "ig,occlusion,shapley,attention", "--samples", "4"]
    code, out, err = peftlab("explain", copy, "--faithfulness", *FEW, *how, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["examples"], document["of"], document["baseline"]) == (6, 16, "mask")
    assert [one["how"] for one in document["outcomes"]] == ["ig", "occlusion", "shapley", "attention"]
    for one in document["outcomes"]:
        above = one["above_random"]
        assert above["low"] <= above["value"] <= above["high"]
        assert (one["complete"] is None) == (one["how"] in ("occlusion", "attention"))
    again = json.loads(peftlab("explain", copy, "--faithfulness", *FEW, *how, "--json")[1])
    assert [one["above_random"] for one in again["outcomes"]] == [one["above_random"] for one in document["outcomes"]]
    assert json.loads((copy / "explanation.json").read_text()) == [document, again]
    assert RunRecord.load(copy).data == finished.data
    assert "explanation.json" not in str(check(RunFolder(RunRecord.load(copy))).causes)


@pytest.mark.exhaustive
def test_runs_of_other_seeds_are_explained_alike(peftlab, run_tiny, capsys):
    for seed in (1, 2):
        run_tiny(f"seed={seed}", f"run_dir=seeds/{seed}")
    capsys.readouterr()
    code, out, err = peftlab("explain", "seeds/1", "--faithfulness", "--seeds", *FEW, "--how", "ig", "--json")
    assert code == 0, err
    (stable,) = json.loads(out)["stability"]
    assert sorted(stable["seeds"]) == [1, 2]
    assert 0 < stable["correlation"]["value"] <= 1
    code, out, _ = peftlab("explain", "seeds/1", "--faithfulness", *FEW, "--how", "ig,occlusion")
    assert "above random" in out.splitlines()[-4]


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "explain takes a TEXT, --object JSON or --faithfulness, one of them"),
        ([TEXT, "--faithfulness"], "one of them"),
        ([TEXT, "--seeds"], "--seeds acts on many texts: add --faithfulness"),
        ([TEXT, "--most-words", "5"], "--most-words acts on many texts: add --faithfulness"),
        ([TEXT, "--samples", "9"], "--samples acts on --how shapley, and --how is ig"),
        (["--faithfulness", "--target", "PER@0"], "leave --target and --html out"),
        (["--object", "[1]"], "expected a JSON object"),
        ([TEXT, "--how", "occlusions"], "there is no such explainer. Did you mean 'occlusion'? Allowed: ig, occl"),
        ([TEXT, "--target", "PERS@0"], "there is no tag PERS. Did you mean 'PER'? Allowed: LOC, ORG, PER, O, B-LOC"),
        ([TEXT, "--target", "PER"], "a word's tag is meant by TAG@WORD, such as "),
        ([TEXT, "--target", "PER@99"], "there is no such word: the model sees the words 0 to "),
        ([TEXT, "--target", "PER@b"], "there are 2 such words: write its index, from 0"),
        ([TEXT, "--target", "PER@0", "--baseline", "delete"], "which a deletion moves. Allowed: mask, pad"),
        (["--faithfulness", "--seeds"], "no completed run beside it differs in its seed alone"),
        (["--faithfulness", "--most-words", "2"], "no example of the test split can be explained: "),
    ],
)
def test_what_cannot_be_explained(peftlab, finished, options, message):
    code, _, err = peftlab("explain", finished.folder, *options)
    assert code == 2
    assert message in err


@pytest.mark.slow
def test_a_model_that_writes(peftlab, finished_writer):
    code, out, err = peftlab("explain", finished_writer.folder, "what is the capital", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["target"].endswith("@0")
    assert "capital" in [one["text"] for one in document["words"]]
    assert {one["baseline"] for one in document["maps"]} == {"pad"}  # its tokenizer has no mask


FILLERS = ["is", "in", "to", "by", "from", "than", "said", "paris", "rome", "york"]
DECIDING = ["moved", "hired", "happened"]


def planted(count, seed):
    """Return texts of random words, of which one that is put among them alone decides the label, as CSV.

    A quarter has none, and a label of its own. Without it, a model need not know all three words: one label may be
    what is left when the two others are not there.
    """
    draw = random.Random(seed)
    rows = ["text,label"]
    for _ in range(count):
        words = draw.choices(FILLERS, k=draw.randint(6, 10))
        decides = draw.randrange(len(DECIDING) + 1)
        words[draw.randrange(len(words))] = [*DECIDING, "said"][decides]
        rows.append(f"{' '.join(words)},{'abcd'[decides]}")
    return "\n".join(rows) + "\n"


@pytest.mark.exhaustive
def test_a_planted_word_is_found_first(run_tiny):
    for seed, (name, count) in enumerate({"train": 400, "dev": 40, "test": 64}.items()):
        Path(f"{name}.csv").write_text(planted(count, seed))
    data = ["task=classification", "data=csv", f"data.path={Path.cwd()}", "data.batch_size=16"]
    record = run_tiny(*data, "peft=full", "optimizer.lr=3e-3", "budget.max_steps=150")
    run = package.load(record.folder)
    rows = [row.split(",") for row in Path("test.csv").read_text().splitlines()[1:]]
    found = []
    for text, label in [row for row in rows if row[1] != "d"][:40]:
        one = run.explain(text, label, baseline="mask")
        first = one.words[max(range(len(one.words)), key=one.maps[0].values.__getitem__)]
        found.append(first.text == DECIDING["abc".index(label)])
    assert len(found) == 40
    assert sum(found) >= 38


@pytest.mark.slow
def test_an_ensemble_is_explained_as_one_model(finished, run_once):
    members = [package.load(record.folder) for record in (finished, run_once("finished_1", "seed=1"))]
    ensemble = average(members, temperature=1.0)
    one = ensemble.explain(TEXT, "PER@0", how=("ig", "occlusion", "shapley", "attention"), baseline="pad")
    assert [each.how for each in one.maps] == ["ig", "occlusion", "shapley"]
    assert "returns no attention" in one.left_out["attention"]
    gradients = one.maps[0]
    assert abs(gradients.gap) <= 0.02 * abs(gradients.full - gradients.empty)
    assert gradients.full - gradients.empty != 0


@pytest.mark.parametrize("method", ["prefix_tuning", "prompt_tuning"])
@pytest.mark.slow
def test_virtual_tokens_are_no_words(peftlab, run_once, method, capsys):
    run = run_once(f"explained_{method}", f"peft={method}", "budget.max_steps=12")
    capsys.readouterr()
    code, out, err = peftlab(
        "explain", run.folder, TEXT, "--target", "PER@0", "--how", "ig,shapley,attention", "--json"
    )
    assert code == 0, err
    document = json.loads(out)
    assert any("virtual tokens before every text" in note for note in document["notes"])
    assert not document["left_out"]
    for one in document["maps"]:
        assert len(one["values"]) == len(document["words"])
        if one["how"] != "attention":
            assert abs(one["gap"]) <= 0.02 * abs(one["full"] - one["empty"])
