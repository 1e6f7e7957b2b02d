"""Faults to plant in a sound sweep, each with the check that has to find it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.report.sweeps import PlannedRun, Sweep, cross_validated, edited_record, run_folders

FAULTS: dict[str, tuple[str, Callable[[Sweep], Any]]] = {}
"""By what is wrong: the check, and what plants it."""


def fault(check: str) -> Callable[[Callable[[Sweep], Any]], Callable[[Sweep], Any]]:
    """Have a function plant a fault that `check` has to find; its name says what is wrong."""

    def add(plant: Callable[[Sweep], Any]) -> Callable[[Sweep], Any]:
        FAULTS[plant.__name__] = (check, plant)
        return plant

    return add


def of_last(sweep: Sweep) -> list[PlannedRun]:
    """Return the tested runs of the last method."""
    return sweep.of(sweep.finals[-1].method)


def laid_over(run: PlannedRun, section: str, **entries: Any) -> None:
    """Change entries of a section of the run's record."""
    run.record[section] = run.record.get(section, {}) | entries


@fault("few_seeds")
def one_seed(sweep: Sweep) -> None:
    sweep.runs = [run for run in sweep.runs if run.seed == sweep.finals[0].seed]


@fault("few_seeds")
def two_seeds_of_one_method(sweep: Sweep) -> None:
    for run in of_last(sweep)[2:]:
        sweep.runs.remove(run)


@fault("incomplete_folds")
def a_fold_that_was_not_run(sweep: Sweep) -> None:
    sweep.runs = cross_validated(sweep).runs
    sweep.runs.remove(of_last(sweep)[-1])


@fault("different_seeds")
def other_seeds_for_one_method(sweep: Sweep) -> None:
    for run in of_last(sweep):
        run.seed += 100
        run.config["seed"] = run.seed


@fault("different_seeds")
def one_seed_more_for_one_method(sweep: Sweep) -> None:
    run = of_last(sweep)[0]
    run.seed = run.config["seed"] = 77


@fault("unseeded")
def no_seed_recorded(sweep: Sweep) -> None:
    laid_over(sweep.finals[-1], "environment", seeds={})


@fault("test_selected")
def checkpoint_selected_on_test(sweep: Sweep) -> None:
    for run in sweep.finals:
        laid_over(run, "selection", split="test")


@fault("test_selected")
def validated_on_the_test_split(sweep: Sweep) -> None:
    for run in sweep.runs:
        run.data_sha256["validation"] = run.data_sha256["test"]


@fault("test_selected")
def sweep_steered_by_test_scores(sweep: Sweep) -> None:
    sweep.objectives = {"metrics.test.entity_f1": "max"}


@fault("seen_tests")
def several_learning_rates_tested(sweep: Sweep) -> None:
    for first in {run.method: run for run in sweep.finals}.values():
        sweep.runs += [tried(first, lr=rate, test=False) for rate in (1e-5, 3e-5)]
    sweep.runs += [tried(run, lr=3e-4, test=True) for run in of_last(sweep)]


def tried(run: PlannedRun, lr: float, test: bool) -> PlannedRun:
    """Return the run with another learning rate."""
    config = json.loads(json.dumps(run.config))
    config["optimizer"]["lr"], config["budget"]["test"] = lr, test
    return PlannedRun(run.method, run.seed, config, 0.2, dict(run.data_sha256), run.weights_sha256)


@fault("different_data")
def another_test_file(sweep: Sweep) -> None:
    for run in of_last(sweep):
        run.data_sha256["test"] = "e" * 64


@fault("different_data")
def another_training_file(sweep: Sweep) -> None:
    of_last(sweep)[0].data_sha256["train"] = "e" * 64


@fault("different_examples")
def other_gold_answers(sweep: Sweep) -> None:
    gold = json.loads(json.dumps(sweep.gold["test"]))
    gold[0]["id"] = "test:renamed"
    of_last(sweep)[0].answers["test"] = [
        example | {"predicted": example["gold"], "probability": [1.0] * len(example["gold"])} for example in gold
    ]


@fault("different_examples")
def fewer_predictions_than_examples(sweep: Sweep) -> None:
    for run in sweep.finals:
        splits = {split: {"rows": 10 + len(gold), "dropped": {}} for split, gold in sweep.gold.items()}
        laid_over(run, "data", splits=splits)


@fault("different_scorers")
def another_scorer_for_one_method(sweep: Sweep) -> None:
    sweep.afterwards.append(lambda folder: [rescorer(run) for run in run_folders(folder, sweep.finals[-1].method)])


@fault("different_scorers")
def validated_by_another_scorer(sweep: Sweep) -> None:
    sweep.afterwards.append(lambda folder: [rescorer(run, ("validation",)) for run in run_folders(folder)])


def rescorer(run: Path, splits: tuple[str, ...] = ("validation", "test")) -> None:
    def change(record: dict[str, Any]) -> None:
        for score in record["metrics"]:
            if score["split"] in splits:
                score["scorer"] = "seqeval, strict"

    edited_record(run, change)


@fault("different_labels")
def another_label_set(sweep: Sweep) -> None:
    for run in of_last(sweep):
        labels = ["B-LOC", "I-LOC", "O"] if sweep.task == "ner" else ["negative", "positive"]
        laid_over(run, "data", labels=labels)


@fault("different_weights")
def other_pretrained_weights(sweep: Sweep) -> None:
    for run in of_last(sweep):
        run.weights_sha256 = "d" * 64


@fault("different_code")
def another_commit_for_one_method(sweep: Sweep) -> None:
    for run in of_last(sweep):
        laid_over(run, "code", commit="dead" * 10)


@fault("different_code")
def code_that_no_commit_holds(sweep: Sweep) -> None:
    for run in sweep.finals:
        laid_over(run, "code", dirty=True, diff_sha256="d" * 64)


@fault("different_environments")
def half_precision_for_one_method(sweep: Sweep) -> None:
    for run in of_last(sweep):
        run.config["trainer"]["precision"] = "bf16-mixed"
        laid_over(run, "environment", precision="bf16-mixed")


@fault("different_environments")
def other_packages_for_one_method(sweep: Sweep) -> None:
    for run in of_last(sweep):
        laid_over(run, "environment", packages_sha256="d" * 64)


@fault("different_environments")
def another_accelerator_for_one_method(sweep: Sweep) -> None:
    for run in of_last(sweep):
        laid_over(run, "environment", accelerators=["a GPU"])


@fault("nondeterministic")
def not_deterministic(sweep: Sweep) -> None:
    laid_over(sweep.finals[0], "environment", deterministic=False, nondeterministic_parts=["a sum"])


@fault("leaked_rows")
def leaked_test_rows(sweep: Sweep) -> None:
    for run in sweep.runs:
        laid_over(run, "data", train_test_overlap=9)


@fault("altered_test")
def dropped_test_rows(sweep: Sweep) -> None:
    altered(sweep, dropped={"conflict": 7})


@fault("altered_test")
def truncated_test_texts(sweep: Sweep) -> None:
    altered(sweep, truncated=11)


def altered(sweep: Sweep, **test: Any) -> None:
    for run in sweep.finals:
        splits = {split: {"rows": len(gold), "dropped": {}} for split, gold in sweep.gold.items()}
        laid_over(run, "data", splits={**splits, "test": splits["test"] | test})


@fault("partial_evaluation")
def scored_on_a_sample(sweep: Sweep) -> None:
    for run in sweep.finals:
        run.config["budget"]["eval_examples"] = len(sweep.gold["test"])


@fault("label_budget")
def selected_on_more_labels_than_trained_on(sweep: Sweep) -> None:
    for run in of_last(sweep):
        laid_over(run, "label_budget", trained_on=32, selected_on=1000, selects=["checkpoint"])


@fault("partial_evaluation")
def trained_to_memorise(sweep: Sweep) -> None:
    for run in sweep.finals:
        run.config["budget"]["overfit_batches"] = 1


@fault("unequal_training")
def twice_the_epochs_for_one_method(sweep: Sweep) -> None:
    def lengthened(record: dict[str, Any]) -> None:
        record["cost"] |= {"steps": 240, "epochs": 6.0}
        for event in record["history"]:
            if event["event"] == "validated":
                event |= {"step": 2 * event["step"], "of": 240}

    for run in of_last(sweep):
        run.config["budget"]["max_epochs"] = 6
    sweep.afterwards.append(
        lambda folder: [edited_record(run, lengthened) for run in run_folders(folder, sweep.finals[-1].method)]
    )


@fault("unequal_training")
def ended_before_its_budget(sweep: Sweep) -> None:
    sweep.finals[-1].reached = 0.6


@fault("early_stopping")
def early_stopping_for_one_method(sweep: Sweep) -> None:
    for run in of_last(sweep):
        run.config["callbacks"]["early_stopping"] = {
            "_target_": "lightning.pytorch.callbacks.EarlyStopping",
            "patience": 1,
        }
        run.reached = 0.5


@fault("unequal_search")
def one_method_tuned_more(sweep: Sweep) -> None:
    sweep.runs += [tried(of_last(sweep)[0], lr=1e-5 * number, test=False) for number in range(1, 9)]


@fault("lost_runs")
def a_run_that_failed(sweep: Sweep) -> None:
    sweep.finals[-1].status = "failed"


@fault("lost_runs")
def a_final_run_that_was_pruned(sweep: Sweep) -> None:
    run = sweep.finals[-1]
    run.status, run.reached = "pruned", 0.3


@fault("lost_runs")
def a_score_that_is_not_a_number(sweep: Sweep) -> None:
    def drop(folder: Path) -> None:
        last = run_folders(folder)[-1]
        shutil.rmtree(last / "predictions")

        def change(record: dict[str, Any]) -> None:
            for score in record["metrics"]:
                score["value"] = None if score["split"] == "test" else score["value"]

        edited_record(last, change)

    sweep.afterwards.append(drop)


@fault("untested_groups")
def a_method_that_was_never_tested(sweep: Sweep) -> None:
    for run in of_last(sweep):
        run.config["budget"]["test"] = False


@fault("duplicated_runs")
def copied_predictions(sweep: Sweep) -> None:
    def copy(folder: Path) -> None:
        one, other = run_folders(folder)[-2:]
        shutil.copytree(one / "predictions", other / "predictions", dirs_exist_ok=True)
        source = json.loads((one / "record.json").read_text(encoding="utf-8"))

        def change(record: dict[str, Any]) -> None:
            predictions = [file for file in source["files"] if file["path"].startswith("predictions/")]
            own = [file for file in record["files"] if not file["path"].startswith("predictions/")]
            record |= {"files": [*own, *predictions], "metrics": source["metrics"]}
            record["selection"]["value"] = source["selection"]["value"]

        edited_record(other, change)

    sweep.afterwards.append(copy)


@fault("duplicated_runs")
def a_run_under_two_names(sweep: Sweep) -> None:
    def copy(folder: Path) -> None:
        run = run_folders(folder)[-1]
        shutil.copytree(run, folder / "another")
        edited_record(folder / "another", lambda record: record["environment"].update(seeds={"global": 55}))

    sweep.afterwards.append(copy)


@fault("unfounded_scores")
def a_better_test_score(sweep: Sweep) -> None:
    def improve(record: dict[str, Any]) -> None:
        for score in record["metrics"]:
            if score["split"] == "test" and score["name"] == record["selection"]["metric"]:
                score["value"] += 0.01

    sweep.afterwards.append(lambda folder: edited_record(run_folders(folder)[-1], improve))


@fault("unfounded_scores")
def a_better_selection(sweep: Sweep) -> None:
    laid_over(sweep.finals[0], "selection", value=0.999)


@fault("unfounded_scores")
def predictions_that_are_no_answers(sweep: Sweep) -> None:
    sweep.afterwards.append(
        lambda folder: (run_folders(folder)[0] / "predictions" / "test.jsonl").write_text('{"gold": 1}\n[')
    )


@fault("tampered_files")
def edited_predictions(sweep: Sweep) -> None:
    def edit(folder: Path) -> None:
        file = run_folders(folder)[0] / "predictions" / "test.jsonl"
        file.write_text(file.read_text(encoding="utf-8").replace('"input"', '"text"', 1), encoding="utf-8")

    sweep.afterwards.append(edit)


@fault("tampered_files")
def edited_configuration(sweep: Sweep) -> None:
    def edit(folder: Path) -> None:
        with (run_folders(folder)[0] / "config.yaml").open("a", encoding="utf-8") as file:
            file.write("# as it was\n")

    sweep.afterwards.append(edit)


@fault("false_identity")
def another_learning_rate_in_the_configuration(sweep: Sweep) -> None:
    def edit(folder: Path) -> None:
        file = run_folders(folder)[0] / "config.yaml"
        file.write_text(file.read_text(encoding="utf-8").replace("lr: 0.0001", "lr: 0.0002"), encoding="utf-8")

    sweep.afterwards.append(edit)


@fault("false_identity")
def another_seed_in_the_record(sweep: Sweep) -> None:
    laid_over(sweep.finals[0], "environment", seeds={"global": 41})


@fault("resumed_elsewhere")
def resumed_on_another_machine(sweep: Sweep) -> None:
    elsewhere = {"cpu": ["a CPU", "another"], "threads": [1, 8]}
    sweep.finals[0].history.append({"event": "resumed", "step": 40, "elsewhere": elsewhere})


@fault("left_out_steps")
def steps_left_out(sweep: Sweep) -> None:
    sweep.finals[0].history.append({"event": "step left out", "step": 12})


@fault("different_settings")
def privacy_for_one_method(sweep: Sweep) -> None:
    for run in of_last(sweep):
        run.config["privacy"] = {"epsilon": 8.0, "clip": 1.0}


@fault("different_settings")
def longer_texts_for_one_method(sweep: Sweep) -> None:
    for run in of_last(sweep):
        run.config["data"]["max_tokens"] = 256


@fault("different_settings")
def another_weight_decay_for_one_method(sweep: Sweep) -> None:
    for run in of_last(sweep):
        run.config["optimizer"]["weight_decay"] = 0.1
