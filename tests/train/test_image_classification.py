"""Runs on pictures: trained, resumed, used and refused."""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

import peftlab
from peftlab import cli
from peftlab.answer_search.arguments import Settings
from peftlab.composing.compose import conf_dir
from peftlab.data.module import DataModule
from peftlab.errors import ConfigError, DataError, UserError
from peftlab.images.recipe import recipe_of
from peftlab.serving.models.models import Models
from peftlab.use.answer_encoders import fall_back
from peftlab.use.ensembles.members import check_members

CHANGED = [f"task.changes.{option}" for option in ("crop=0.5", "flip=both", "jitter=0.2", "erase=0.5")]


@pytest.fixture
def train(tiny_run, tiny_pictures, language_model):
    def make(*overrides, run_dir="run", family="vit"):
        given = ["task=image_classification", "data=pictures", f"data.path={tiny_pictures}", f"run_dir={run_dir}"]
        return peftlab.run(*tiny_run, *given, f"model.path={language_model(family)}", *overrides).data

    return make


@pytest.mark.slow
def test_a_run_and_how_it_is_used(train, tiny_pictures, capsys):
    record = train("peft=lora", "task.size=24", "task.label_smoothing=0.1", "budget.max_steps=3", *CHANGED)
    assert record["data"]["labels"] == ["green", "red"]
    run = peftlab.load("run")
    assert run.evaluate().equal
    rows = [json.loads(line) for line in Path("run/predictions/test.jsonl").read_text().splitlines()]
    assert {row["input"] for row in rows} == {f"{label}/{n}.png" for label in ("green", "red") for n in range(10)}

    file = tiny_pictures / "test" / "red" / "0.png"
    (answer,) = run.predict([{"path": str(file)}])
    assert answer["predicted"] in ("green", "red")
    Path("asked.jsonl").write_text(json.dumps({"path": str(file)}) + "\n" + json.dumps({"path": "no.png"}) + "\n")
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        cli.main(["predict", "run", "--jsonl", "asked.jsonl"])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == answer
    assert "asked.jsonl:2: no.png: there is no such file" in second["error"]
    folder = Path(shutil.copytree(file.parent, "beside"))
    (folder / "notes.txt").write_text("of other things")
    cli.main(["predict", "run", str(file), str(folder), "--json"])
    printed = map(json.loads, capsys.readouterr().out.splitlines())
    assert [one["path"] for one in printed] == [str(file), *map(str, sorted(folder.glob("*.png")))]

    served = Models(["m=run"])
    sent = {"content": base64.b64encode(file.read_bytes()).decode(), "name": "mine"}
    (reply,) = served.answers([served.read("m", sent)])
    assert reply == {"name": "mine"} | {key: value for key, value in answer.items() if key != "path"}
    for refused in ({"path": str(file)}, str(file), {"content": 7}):
        with pytest.raises(DataError, match="files of the server are not read"):
            served.read("m", refused)


@pytest.mark.slow
def test_what_is_said_of_scope_belongs_to_a_file_whatever_it_is_called(train, tiny_pictures):
    record = train("budget.max_steps=1", "out_of_scope=energy", "out_of_scope.conformal={alpha: 0.2, kind: aps}")
    run = peftlab.load("run")
    measured = run.evaluate().scope
    assert measured == {key: record["out_of_scope"][key] for key in measured}
    files = sorted(tiny_pictures.glob("test/*/*.png"))
    named = run.predict([{"path": str(file)} for file in files])
    sent = run.predict([{"content": base64.b64encode(file.read_bytes()).decode()} for file in files])
    assert [one["labels"] for one in sent] == [one["labels"] for one in named]
    sizes = Counter(str(len(one["labels"])) for one in named)
    assert sizes == record["out_of_scope"]["conformal"]["sizes"]
    with pytest.raises(UserError, match="by the words of a text, and task=image_classification takes files"):
        fall_back(run, Settings(Path("index")))


@pytest.mark.slow
def test_what_cannot_be_read_ends_it_before_it_begins(train, tiny_pictures, tmp_path):
    shutil.copytree(tiny_pictures, tmp_path / "broken")
    for n in range(3):
        path = tmp_path / "broken" / "dev" / "red" / f"{n}.png"
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"cannot use 3 files(.*\n.*red/\d\.png: is no whole picture){3}"):
        train(f"data.path={tmp_path / 'broken'}")
    assert not Path("run").exists()


@pytest.mark.slow
def test_what_does_not_go_with_pictures(train):
    for overrides, message in (
        (["augment=[mask]"], "does not say which words"),
        (["data.mask_pii={kinds:[email]}"], "examples of the class Picture cannot be masked"),
        (["model.pooling=mean"], "reads what its architecture says"),
        (["peft=head", "trainer.cache_activations=true"], "are no tokens, by which activations are kept"),
        (["regularizer=[reweight]"], "does not say which words"),
        (["task.background=wite"], "Name one of CSS, or #rrggbb"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(*overrides)


@pytest.mark.slow
def test_changes_are_the_same_whatever_divides_or_interrupts_the_training(train, monkeypatch):
    """Loading processes, and a stop in mid-epoch, change no bit of the trail."""
    options = ["peft=lora", "budget.max_steps=10", "trainer.checkpoint_every=1", *CHANGED]
    train(*options)
    trail = Path("run/trail.jsonl").read_bytes()
    train(*options, "data.workers=2", run_dir="workers")
    assert Path("workers/trail.jsonl").read_bytes() == trail

    class Stop(Exception):
        pass

    taken = []
    serve = DataModule.transfer_batch_to_device

    def stopping(self, *args, **keywords):
        taken.append(1)
        if len(taken) == 5:
            raise Stop
        return serve(self, *args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(DataModule, "transfer_batch_to_device", stopping)
        with pytest.raises(Stop):
            train(*options, run_dir="parts")
    train(*options, run_dir="parts")
    assert Path("parts/trail.jsonl").read_bytes() == trail
    train(*options, "task.changes.flip=null", run_dir="other")
    assert Path("other/trail.jsonl").read_bytes() != trail
    check_members([peftlab.load("run"), peftlab.load("other")])  # an ensemble may have seen pictures changed otherwise


@pytest.mark.exhaustive
def test_every_family_is_exported_as_it_has_seen_pictures(train, tiny_pictures):
    from transformers import AutoImageProcessor

    for family in ("vit", "dinov2", "siglip", "convnext"):
        train("peft=lora", "task.size=24", "budget.max_steps=2", run_dir=family, family=family)
        run = peftlab.load(family)
        assert run.export(f"{family}_exported").largest_difference < 1e-5
        processor = AutoImageProcessor.from_pretrained(f"{family}_exported")
        with Image.open(tiny_pictures / "test" / "red" / "0.png") as picture:
            theirs = processor(images=picture, return_tensors="np")["pixel_values"]
        assert theirs.shape == (1, 3, 24, 24)
        assert recipe_of(processor.to_dict()).edge == recipe_of(run.processor.transform.to_dict(), 24).edge


@pytest.mark.exhaustive
def test_every_regulariser_trains_on_pictures_or_says_why_not(train):
    of_runs = {"distil", "lwf", "ewc", "der"}
    of_words = {"group_dro", "reweight", "rdrop"}
    for name in sorted(path.stem for path in (conf_dir() / "regularizer").glob("*.yaml")):
        if name in of_words:
            with pytest.raises(ConfigError, match=r"which words|no dropout is active"):
                train(f"regularizer=[{name}]", run_dir=name)
        elif name not in of_runs:
            assert train(f"regularizer=[{name}]", "budget.max_steps=2", run_dir=name)["status"] == "completed"
