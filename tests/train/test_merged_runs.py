"""Finished runs merged in the space of their weights, and models drawn around one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from peftlab.callbacks.swag import MOMENTS
from peftlab.errors import UserError
from peftlab.runs.record import RunRecord
from peftlab.terminal.signals import Interrupted
from peftlab.training import trail
from peftlab.use.ensembles.merging import merge_runs
from peftlab.use.ensembles.swag import Drawing, draws, read_moments
from peftlab.use.ensembles.weights import merged_weights
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

METHODS = ["lora", "pissa", "bitfit", "full"]


@pytest.fixture(scope="module")
def runs(run_once):
    """A run of each of some methods, on the same data, from different seeds."""

    def one(number, name):
        return run_once(f"merged_{name}", f"peft={name}", f"seed={number}", "budget.max_steps=6")

    return {name: load(one(number, name).folder) for number, name in enumerate(METHODS)}


@pytest.fixture(scope="module")
def lora(finished, run_once):
    """Two runs of LoRA that have learnt, from different seeds."""
    return [load(finished.folder), load(run_once("finished_1", "seed=1").folder)]


def weights_of(run):
    return dict(run.adapted().named_parameters())


def test_one_soup_of_several_methods_is_the_mean_of_their_merged_weights(runs):
    soup = merge_runs(list(runs.values()), "soup")
    assert soup.record.derived["how"] == {"how": "soup", "weights": None}
    assert [parent["method"] for parent in soup.record.derived["parents"]] == METHODS
    each = [merged_weights(run) for run in runs.values()]
    for name, weight in weights_of(soup).items():
        mean = np.mean([one[name].double().numpy() for one in each], axis=0)
        np.testing.assert_allclose(weight.detach().numpy(), mean, rtol=1e-6, atol=1e-8)
    assert soup.evaluate().equal is True
    assert merge_runs(list(runs.values()), "soup").folder.path == soup.folder.path


@pytest.mark.exhaustive
def test_the_soup_of_a_soup_and_a_run_is_one_of_three(runs):
    a, b, c = (runs[name] for name in ("lora", "bitfit", "full"))
    both = merge_runs([a, b], "soup")
    nested = weights_of(merge_runs([both, c], "soup", {"weights": [2, 1]}))
    for name, weight in weights_of(merge_runs([a, b, c], "soup")).items():
        torch.testing.assert_close(nested[name], weight)


@pytest.mark.parametrize("how", ["ties", "arithmetic", "dare"])
def test_the_other_rules_leave_the_head_a_mean_and_what_nobody_trained_alone(runs, how):
    pair = [runs["lora"], runs["pissa"]]
    merged, each = weights_of(merge_runs(pair, how, {"scale": 0.3})), [merged_weights(run) for run in pair]
    head = sum(one["classifier.weight"] for one in each) / 2
    torch.testing.assert_close(merged["classifier.weight"], head.detach())
    embeddings = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(merged[embeddings], each[0][embeddings])
    adapted = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.allclose(merged[adapted], (each[0][adapted] + each[1][adapted]) / 2)


def test_a_greedy_soup_never_falls_on_validation_and_says_what_it_tried(lora, runs):
    soup = merge_runs([runs["bitfit"], *lora], "greedy_soup")
    record = RunRecord.load(soup.folder.path)
    told = record.data["greedy_soup"]
    assert (told["metric"], told["split"]) == ("entity_f1", "validation")
    values = {run.record.data["run_id"]: run.record.data["selection"]["value"] for run in [runs["bitfit"], *lora]}
    order = [one["id"] for one in told["tried"]]
    assert [values[one] for one in order] == sorted(values.values(), reverse=True)
    assert told["tried"][0]["kept"]
    assert told["tried"][0]["score"] == pytest.approx(values[order[0]], abs=1e-6)
    kept = [one["score"] for one in told["tried"] if one["kept"]]
    assert kept == sorted(kept)
    assert record.score("validation", "entity_f1") == pytest.approx(kept[-1], abs=1e-6)
    assert all(one["kept"] or one["score"] < kept[0] for one in told["tried"])


@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.parametrize(
    ("kind", "task", "data"),
    [
        (
            "llama",
            "causal_lm",
            ["data=conversations", "data.format.rows.prompt=source", "data.format.rows.answer=target"],
        ),
        ("t5", "seq2seq", ["data=source_target"]),
    ],
)
def test_language_models_keep_their_tied_weights(kind, task, data, run_tiny, language_model, tiny_headlines):
    of_task = [f"model.path={language_model(kind)}", f"task={task}", *data, f"data.path={tiny_headlines}"]
    of_task += ["task.generate.max_new_tokens=4", "budget.max_steps=4", "optimizer.lr=1e-3"]
    made = [run_tiny(*of_task, f"peft={name}", f"run_dir={name}") for name in ("full", "lora")]
    runs = [load(record.folder) for record in made]
    soup = merge_runs(runs, "soup").adapted()
    assert soup.get_input_embeddings().weight is soup.get_output_embeddings().weight
    full, lora = (merged_weights(run) for run in runs)
    assert full.keys() == dict(soup.named_parameters()).keys()
    for name, weight in soup.named_parameters():
        torch.testing.assert_close(weight, (full[name] + lora[name]) / 2)
    greedy = merge_runs(runs, "greedy_soup").record
    assert greedy.score("validation", greedy.data["greedy_soup"]["metric"]) is not None


@pytest.mark.exhaustive
def test_what_was_quantised_is_merged_in_full_precision(run_once):
    pytest.importorskip("bitsandbytes")
    runs = [
        load(run_once(name, "peft=lora", "budget.max_steps=12", *more).folder)
        for name, more in (("quantized", ["model.quantize=nf4"]), ("plain", []))
    ]
    soup = merge_runs(runs, "soup")
    assert soup.config["model"]["quantize"] == "none"
    alone = merge_runs(runs[:1], "soup")
    texts = ["Marie Curie moved from Warsaw to Paris ."]
    theirs, own = (run.predict(texts)[0]["entities"] for run in (runs[0], alone))
    assert [entity["score"] for entity in own] == pytest.approx([entity["score"] for entity in theirs], abs=1e-4)
    each = [merged_weights(run) for run in runs]
    for name, weight in weights_of(soup).items():
        torch.testing.assert_close(weight, (each[0][name] + each[1][name]) / 2)


def test_labels_in_another_order_are_put_in_order(lora):
    run = lora[0]
    labels = list(run.parts.task.labels)
    turned = [labels[0], *reversed(labels[1:])]
    plain, other = merged_weights(run), merged_weights(run, turned)
    assert torch.equal(other["classifier.weight"][1:], plain["classifier.weight"][1:].flip(0))
    assert torch.equal(other["classifier.bias"][1:], plain["classifier.bias"][1:].flip(0))
    rest = plain.keys() - {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(other[name], plain[name]) for name in rest)
    with pytest.raises(UserError, match="its labels are not those of the first run: B-XYZ is in one of them only"):
        merged_weights(run, [*labels, "B-XYZ"])


def test_what_cannot_be_merged_is_named(lora, run_tiny, tiny_data):
    shutil.copytree(tiny_data, "data")
    with Path("data/dev.txt").open("a", encoding="utf-8") as file:
        file.write("Rome B-LOC\n")
    for changed, message in {
        "peft=prefix_tuning": "peft=prefix_tuning adds to the model what no weight of the plain model can hold",
        "data.path=data": "its data is not that of the first run",
    }.items():
        folder = changed.rpartition("=")[2] + "_run"
        other = load(run_tiny(changed, "budget.max_steps=2", f"run_dir={folder}").folder)
        with pytest.raises(UserError, match=f"^{folder}: {message}"):
            merge_runs([lora[0], other], "soup")
    assert merge_runs([lora[0], other], "arithmetic").record.data["status"] == "completed"


class TestSwag:
    PLAIN = ("scheduler=constant", "budget.max_steps=24", "trainer.trail_every=1")
    TRAINED = (*PLAIN, "callbacks=[swag]", "callbacks.swag.rank=4", "callbacks.swag.snapshots=6")

    @pytest.fixture
    def with_moments(self, run_once):
        return run_once("with_moments", *self.TRAINED)

    def test_the_training_is_the_same_bit_for_bit(self, run_tiny, with_moments):
        without = run_tiny(*self.PLAIN, "run_dir=without")
        trails = [trail.read(record.folder / "trail.jsonl") for record in (with_moments, without)]
        assert trail.fork(*trails) is None
        assert len(trails[0].points) == 25
        assert {MOMENTS} == {file["path"] for file in with_moments.data["files"]} - {
            file["path"] for file in without.data["files"]
        }
        moments = load_file(with_moments.folder / MOMENTS)
        assert int(moments["snapshots"]) == 6
        assert {len(tensor) for name, tensor in moments.items() if name.startswith("deviations.")} == {4}

    @pytest.mark.exhaustive
    def test_a_resumed_training_ends_with_the_same_moments(self, run_tiny, signalled_at, with_moments):
        overrides = (*self.TRAINED, "trainer.checkpoint_every=5")
        signalled_at(21)
        with pytest.raises(Interrupted):
            run_tiny(*overrides, "run_dir=parts")
        parts = run_tiny(*overrides, "run_dir=parts")
        one, other = (load_file(record.folder / MOMENTS) for record in (with_moments, parts))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)

    def test_without_moments_it_says_how_to_get_them(self, lora):
        with pytest.raises(UserError, match=r"kept no moments .* callbacks=\[early_stopping,progress,swag\]"):
            merge_runs(lora[:1], "swag")
        with pytest.raises(UserError, match="draws models around one run, and these are 2"):
            merge_runs(lora, "swag")

    def test_models_drawn_around_a_run_are_averaged(self, with_moments):
        run = load(with_moments.folder)
        mean, again = (merge_runs([run], "swag", {"samples": 2, "scale": 0}) for _ in range(2))
        assert again.folder.path == mean.folder.path
        drawn = merge_runs([run], "swag", {"samples": 3})
        assert drawn.record.derived["how"] == {"how": "swag", "samples": 3, "scale": 1.0, "seed": 0}
        moments = read_moments(run.folder.path)
        for key, run_ in (("mean", mean), ("drawn", drawn)):
            members = run_.adapted().members
            expected = list(draws(moments, Drawing(samples=len(members), scale=float(key == "drawn"))))
            for member, weights in zip(members, expected, strict=True):
                trained = run.parts.peft.trained(member)
                assert all(torch.equal(trained[name], weight) for name, weight in weights.items())
        assert drawn.evaluate().equal is True


def test_the_command_takes_their_options(lora, peftlab):
    command = ["ensemble", *(run.folder.path for run in lora), "--how"]
    code, out, _ = peftlab(*command, "dare", "--density", "0.4", "--then", "ties", "--json")
    assert code == 0
    run = load(json.loads(out)["run"])
    assert run.record.derived["how"] == {"how": "dare", "density": 0.4, "then": "ties", "scale": 1.0, "seed": 0}
    code, _, err = peftlab(*command, "soup", "--density", "0.4")
    assert code == 2
    assert "there is no key 'soup.density'. Allowed: weights" in err


def test_regressions_are_merged_on_one_scale(run_tiny, tiny_numbers):
    def one(folder, *options):
        of_data = ["task=regression", "data=csv", f"data.path={tiny_numbers}", "budget.max_steps=2"]
        return load(run_tiny(*of_data, "peft=bitfit", f"run_dir={folder}", *options).folder)

    all_, few = one("all"), one("few", "budget.train_examples=8")
    scale = all_.parts.task.settled()
    assert scale != few.parts.task.settled()
    with pytest.raises(UserError, match=f"Train it with task.mean={scale['mean']} task.sd={scale['sd']}"):
        merge_runs([all_, few], "soup")
    alike = one("alike", "budget.train_examples=8", *(f"task.{key}={value}" for key, value in scale.items()))
    assert merge_runs([all_, alike], "soup").parts.task.settled() == scale
