"""Which runs are compared, and as what."""

from __future__ import annotations

import pytest
from tests.unit.report.sweeps import edited_record, planned, run_folders

from peftlab.errors import UserError
from peftlab.report.analysis.groups import Comparison, comparisons_of
from peftlab.report.analysis.options import Options
from peftlab.report.study import reading


def compared(*paths, **options):
    with reading(paths) as study:
        return comparisons_of(study, Options(**options))


def named(comparison):
    return {group.name: (len(group.runs), len(group.trials), len(group.lost)) for group in comparison.groups}


@pytest.mark.slow
def test_trials_and_lost_runs_stand_beside_the_tested_ones(tmp_path):
    sweep = planned(methods=("full", "lora"), trials=3)
    sweep.of("lora")[-1].status = "failed"
    ((one,), unplaced) = compared(sweep.write(tmp_path / "sweep"))
    assert (one.task, one.metric, one.direction, one.keys) == ("ner", "entity_f1", "max", ("peft",))
    assert named(one) == {"full": (3, 3, 0), "lora": (2, 3, 1)}
    assert one.baseline is not None
    assert one.baseline.name == "full"
    assert list(one.groups[0].by_seed) == [0, 1, 2]
    assert not unplaced


def test_the_groups_are_by_the_keys_that_the_user_names(tmp_path):
    ((one,), _) = compared(planned().write(tmp_path / "sweep"), by=("seed", "peft"))
    assert named(one)["seed=0 full"] == (1, 0, 0)
    assert len(one.groups) == 6


@pytest.mark.slow
def test_two_tasks_make_two_comparisons(tmp_path):
    for task in ("ner", "classification"):
        planned(task).write(tmp_path / task)
    comparisons, _ = compared(tmp_path)
    assert sorted(str(one.task) for one in comparisons) == ["classification", "ner"]
    assert len({one.name for one in comparisons}) == 2


def test_of_two_runs_with_one_seed_the_better_validated_counts(tmp_path):
    folder = planned(methods=("lora",), seeds=(1, 2)).write(tmp_path / "sweep")
    first, second = run_folders(folder)

    def same_seed(record):
        record["environment"]["seeds"]["global"] = 1
        record["selection"]["value"] = 0.99 if record["run_id"] == first.name else 0.01

    for run in (first, second):
        edited_record(run, same_seed)
    ((one,), _) = compared(folder)
    (group,) = one.groups
    assert [run.id for run in group.final] == [first.name]
    assert len(group.runs) == 2


@pytest.mark.slow
def test_what_was_tuned_makes_no_group_though_its_choice_differs(tmp_path):
    sweep = planned(methods=("full", "lora"), trials=3)
    for run in sweep.finals:
        run.config["optimizer"]["lr"] = 1e-3 if run.method == "lora" else 1e-5
    ((one,), _) = compared(sweep.write(tmp_path / "sweep"))
    assert set(named(one)) == {"full", "lora"}


@pytest.mark.slow
def test_an_option_that_names_nothing_says_what_there_is(tmp_path):
    folder = planned().write(tmp_path / "sweep")
    with pytest.raises(UserError, match=r"--baseline lorra: .*Did you mean 'lora'\? The groups are: full; lora"):
        compared(folder, baseline="lorra")
    with pytest.raises(UserError, match=r"--metric entity_f2: .*Did you mean 'entity_f1'\?"):
        compared(folder, metric="entity_f2")


def test_another_metric_has_its_own_direction(tmp_path):
    ((one,), _) = compared(planned().write(tmp_path / "sweep"), metric="loss")
    assert (one.metric, one.direction) == ("loss", "min")


@pytest.mark.parametrize(("metric", "direction"), [("squared_error", "min"), ("rmse", "min"), ("recall_at_5", "max")])
def test_a_metric_of_another_scorer_has_the_direction_of_its_name(metric, direction, tmp_path):
    folder = planned(seeds=(0,), examples=6).write(tmp_path / "sweep")

    def add(record):
        record["metrics"].append(record["metrics"][-1] | {"name": metric})

    for run in run_folders(folder):
        edited_record(run, add)
    ((one,), _) = compared(folder, metric=metric)
    assert (one.metric, one.direction) == (metric, direction)


def test_ensembles_with_a_member_in_common_are_no_repetitions(tmp_path):
    sweep = planned(methods=("lora",), seeds=(1, 2, 4), examples=20)
    for run, members in zip(sweep.runs, ("ab", "bc", "de"), strict=True):
        parents = [{"identity": one, "method": "lora"} for one in members]
        run.record = {"derived": {"by": "ensemble", "how": {}, "parents": parents}}
    with reading([sweep.write(tmp_path / "sweep")]) as study:
        (group,) = comparisons_of(study, Options())[0][0].groups
    assert len(group.runs) == 3
    assert sorted(group.by_seed) == [1, 4]


def test_models_computed_from_runs_are_a_group_of_their_own(tmp_path):
    sweep = planned(methods=("lora", "head"), seeds=(1, 2), examples=20)
    for run in sweep.of("head"):
        parents = [{"identity": f"{run.seed}", "method": "merged"}]
        run.record = {"derived": {"by": "compress", "how": {"drop_layers": run.seed}, "parents": parents}}
    ((one,), _) = compared(sweep.write(tmp_path / "sweep"), by=("data",))
    trained, *made = sorted(one.groups, key=lambda group: len(group.values))
    assert {run.value("peft") for run in trained.runs} == {"lora"}
    assert [group.name.removeprefix(trained.name) for group in made] == [
        f" head drop_layers={number} of merged" for number in (1, 2)
    ]


@pytest.mark.parametrize(
    ("metric", "margin"),
    [("entity_f1", 0.005), ("bleu", 0.5), ("pearson", 0.01), ("rmse", None), ("perplexity", None), ("wer", None)],
)
def test_the_margin_is_a_part_of_what_the_score_can_be_unless_it_is_named(metric, margin):
    of = [Comparison("all", None, None, metric, "max", (), (), None, Options(margin=named)) for named in (None, 0.2)]
    assert [one.margin for one in of] == [margin, 0.2]
