"""What is found out about cells: each as a run of its own would, though what they share is read once."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from peftlab import one_run
from peftlab.errors import ConfigError, UserError
from peftlab.sweep.worker import _Looker

pytestmark = pytest.mark.slow

CELLS = [
    ["peft=lora", "seed=0"],
    ["peft=lora", "seed=1"],
    ["peft=head", "seed=1"],
    ["peft=lora", "seed=1", "optimizer.lr=0.1"],
    ["peft=lora", "budget.max_steps=3"],
    ["peft=lora", "budget.train_examples=20"],
    ["peft=head", "budget.train_examples=20"],
    ["peft=head", "budget.overfit_batches=1", "seed=1"],
    ["peft=head", "budget.overfit_batches=1", "seed=2"],
]


PRIVATE = ["privacy=dp", "data.labels=[LOC,ORG,PER]"]


@pytest.fixture
def plain(compose_config, tiny_overrides):
    return lambda *overrides: OmegaConf.to_container(compose_config(*tiny_overrides, *overrides), resolve=True)


def test_each_has_the_identity_of_a_run_of_its_own(plain, monkeypatch):
    read, built = [], []
    prepare, build = one_run.read, one_run.build
    monkeypatch.setattr(one_run, "read", lambda config, spec: [read.append(spec), prepare(config, spec)][1])
    monkeypatch.setattr(one_run, "build", lambda ready: [built.append(build(ready)), built[-1]][1])
    looker = _Looker()
    facts = [looker.fact(plain(*overrides)) for overrides in CELLS]
    assert (len(read), len(built)) == (4, 6)  # of all, 20 examples, and two seeds' batches; of those, two methods each
    assert len({fact.sha256 for fact in facts}) == len(CELLS)
    for overrides, fact in zip(CELLS, facts, strict=True):
        alone = prepare(*one_run.settle(OmegaConf.create(plain(*overrides))))
        assert fact.sha256 == alone.identity["sha256"]
    for tuner in built:  # O, and B and I of each
        assert tuner.task.declared_labels == ["LOC", "ORG", "PER"]
        assert tuner.model.config.num_labels == 7


def test_what_a_regularizer_or_privacy_settles_is_that_of_its_own_cell(plain, compose_config, tiny_overrides, tmp_path):
    teacher = one_run.run(compose_config(*tiny_overrides, "budget.max_steps=1", f"run_dir={tmp_path / 'teacher'}"))
    looker, identities = _Looker(), set()
    cells = [
        [],
        ["regularizer=[distil]", f"regularizer.distil.teacher={teacher.folder}"],
        [*PRIVATE, "budget.max_steps=5"],
        [*PRIVATE, "budget.max_steps=5", "privacy.epsilon=4"],
        [*PRIVATE, "budget.max_steps=9"],
    ]
    for overrides in [*cells, *cells]:
        alone = one_run.read(*one_run.settle(OmegaConf.create(plain(*overrides))))
        identities.add(looker.fact(plain(*overrides)).sha256)
        assert alone.identity["sha256"] in identities, overrides
    assert len(identities) == len(cells)


def test_data_that_is_settled_anew_for_each_cell(compose_config, tiny_run, tiny_texts, language_model, tmp_path):
    """Demonstrations are drawn by the seed; what strong augmentations have read is that of every method."""
    words = {word.lower() for line in (tiny_texts / "train.csv").read_text().splitlines() for word in line.split()}
    senses = [f"{word}%1:00:00:: {n:08d} 1 9\nother%1:00:00:: {n:08d} 1 9\n" for n, word in enumerate(sorted(words))]
    (tmp_path / "index.sense").write_text("".join(senses))
    texts = [*tiny_run, "data=csv", f"data.path={tiny_texts}", "budget.eval_examples=null", "budget.max_steps=6"]
    prompt = [*texts, "task=prompt", f"model.path={language_model('llama')}", "model.dropout=null", "peft=lora"]
    prompt += ["model.head_dropout=null", r'task.template="{text} :{answer}"', "task.demonstrations=2"]
    prompt += ["task.label_words={compare: a, hire: b, move: c, nothing: d, report: e}"]
    semi = [*texts, "task=classification", "budget.train_examples=12", "data.batch_size=4", "data.max_tokens=64"]
    semi += ["semi=fixmatch", "semi.mu=2"]
    looker = _Looker()
    for overrides in [
        *([*prompt, f"seed={seed}"] for seed in (0, 1, 2)),
        *([*semi, *method] for method in (["peft=lora"], ["peft=head"], ["peft=lora", "peft.r=4"])),
    ]:
        config = compose_config(*overrides)
        if config.semi is not None:
            config.semi.strong.synonym.wordnet = {"_target_": "peftlab.sources.FilesSource", "path": str(tmp_path)}
        cell = OmegaConf.to_container(config, resolve=True)
        alone = one_run.read(*one_run.settle(OmegaConf.create(cell)))
        assert looker.fact(cell).sha256 == alone.identity["sha256"], overrides


def test_a_fold_without_a_test_is_refused_though_it_was_read_with_one(plain):
    looker = _Looker()
    looker.fact(plain("data.fold='1/3'"))
    with pytest.raises(UserError):
        looker.fact(plain("data.fold='1/3'", "budget.test=false"))


def test_trials_that_may_be_computed_together_are_told_from_others(plain):
    looker = _Looker()
    packs = [looker.fact(plain(*overrides)).pack for overrides in (["seed=1"], ["seed=2", "peft.r=4"], ["peft=ia3"])]
    assert packs[0] == packs[1] is not None
    assert packs[2] not in (packs[0], None)
    assert [looker.fact(plain(text)).pack for text in ("peft=full", "regularizer=[rdrop]")] == [None] * 2


@pytest.mark.parametrize("wrong", [["peft.target=[nothing]"], ["adapter=/nowhere"], ["data.labels=[x]"]])
def test_what_cannot_be_run_is_found_though_much_was_read(plain, wrong):
    looker = _Looker()
    looker.fact(plain("peft=lora"))
    with pytest.raises(UserError):
        looker.fact(plain("peft=lora", *wrong))


def test_an_adapter_that_does_not_fit_is_found(plain, tmp_path):
    looker = _Looker()
    looker.fact(plain("peft=lora"))
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ConfigError):
        looker.fact(plain("peft=lora", f"adapter={tmp_path / 'adapter'}"))
