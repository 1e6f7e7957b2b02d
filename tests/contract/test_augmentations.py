"""What every augmentation of ``conf/augment/`` must hold. A new file there is tested without a change here."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from peftlab.composing.compose import conf_dir
from peftlab.config import resolve, validate
from peftlab.data.augmentation import translation
from peftlab.data.augmentation.augmentation import Material
from peftlab.data.augmentation.augmenter import Augmenter, stream_of
from peftlab.data.splits import split_files
from peftlab.errors import ConfigError
from peftlab.one_run import run
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.tasks.inputs.editable import EditableText, Span
from peftlab.tasks.inputs.words import Sentence
from peftlab.terminal.signals import Interrupted
from peftlab.training.interruption import Interruption
from peftlab.use.check import check

AUGMENTATIONS = sorted(path.stem for path in (conf_dir() / "augment").glob("*.yaml"))
FIRST = sorted(AUGMENTATIONS, key=lambda name: name != "back_translation")
ON_MENTIONS = {"mention", "context"}
SYNONYMS = ["moved shifted relocated", "larger bigger greater", "happened occurred passed", "report account study"]
CONTEXT = "{0} B-LOC\nand O\n{1} B-LOC\nagree O\n. O\n\n"
"""Another context of two places, besides that of the tiny data."""
WORDS = ["moved", "from", "larger", "than", "happened", "today", ",", "report", "was", "read", "by", "."]
NAMES = ["Marie Curie", "Paris", "New York", "Royal Society", "Noether"]


@pytest.fixture(scope="module")
def translators(tmp_path_factory):
    """Return the folders of two Marian models with random weights, whose tokenizer knows `WORDS`."""
    return [make_translator(tmp_path_factory.mktemp(name), seed) for seed, name in enumerate(("to", "back"))]


def make_translator(folder: Path, seed: int) -> Path:
    import sentencepiece
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    text = folder / "text"
    text.write_text("".join(f"{word}\n" for word in [*WORDS, *" ".join(NAMES).split()]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "pieces"), vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    model = folder / "pieces.model"
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    known = [pieces.id_to_piece(n) for n in range(pieces.get_piece_size())]
    vocabulary = {piece: n for n, piece in enumerate(dict.fromkeys(["</s>", "<unk>", *known, "<pad>"]))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    MarianTokenizer(str(model), str(model), str(folder / "vocab.json")).save_pretrained(folder)
    sizes = {f"{part}_{size}": n for part in ("encoder", "decoder") for size, n in [("layers", 1), ("ffn_dim", 16)]}
    heads = {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    ends = {"pad_token_id": vocabulary["<pad>"], "eos_token_id": 0, "forced_eos_token_id": 0, "bos_token_id": 0}
    config = MarianConfig(
        vocab_size=len(vocabulary),
        d_model=16,
        max_position_embeddings=64,
        decoder_start_token_id=vocabulary["<pad>"],
        init_std=1.0,
        **sizes,
        **heads,
        **ends,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        MarianMTModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cased(tiny_model, tmp_path_factory):
    """Return the folder of the tiny model with a tokenizer that keeps capitals."""
    folder = tmp_path_factory.mktemp("cased") / "model"
    shutil.copytree(tiny_model, folder)
    for file, keys in (("tokenizer.json", ("normalizer", "lowercase")), ("tokenizer_config.json", ("do_lower_case",))):
        settings = json.loads((folder / file).read_text())
        node = settings
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = False
        (folder / file).write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def sentences(tiny_data, tmp_path_factory):
    """Return the folder of the tiny data with more training sentences."""
    folder = tmp_path_factory.mktemp("sentences")
    shutil.copytree(tiny_data, folder, dirs_exist_ok=True)
    with (folder / "train.txt").open("a") as file:
        file.writelines(CONTEXT.format(*pair) for pair in [("Paris", "Rome"), ("Rome", "Warsaw"), ("Warsaw", "Paris")])
    return folder


Composed = Callable[..., object]


@pytest.fixture
def composed(compose_config, tiny_run, data_for, spec, sentences, cased, translators, tmp_path) -> Composed:
    """Return a maker of the configuration of a tiny run with some augmentations, and nothing that they would fetch."""
    lines = [f"{word}%2:30:00:: {n} 1 1\n" for n, words in enumerate(SYNONYMS) for word in words.split()]
    (tmp_path / "index.sense").write_text("".join(lines))

    def compose(options: list[str], *overrides: str, task: str = "ner", share: float = 1.0):
        chosen = [f"augment=[{','.join(options)}]", *(f"augment.{name}.share={share}" for name in options)]
        data = ["data=files", f"data.path={sentences}"] if task == "ner" else data_for(spec(f"task={task}").task)
        cfg = compose_config(
            *tiny_run, f"model.path={cased}", "data.max_tokens=64", f"task={task}", *data, *chosen, *overrides
        )
        if "counterfactual" in options:
            rows = [" | ".join(words.split()[:3]) for words in ("first second third", *SYNONYMS)]
            (tmp_path / "terms.txt").write_text("\n".join(rows))
            cfg.augment.counterfactual.terms = [str(tmp_path / "terms.txt")]
        if "synonym" in options:
            cfg.augment.synonym.wordnet = {"_target_": "peftlab.sources.FilesSource", "path": str(tmp_path)}
        if "back_translation" in options:
            cfg.augment.back_translation.to, cfg.augment.back_translation.back = map(str, translators)
        return cfg

    return compose


MODELS = pytest.mark.slow  # to load and run two of them in each test
ALONE = [pytest.param(name, marks=MODELS) if name == "back_translation" else name for name in AUGMENTATIONS]


@pytest.fixture(params=ALONE)
def option(request):
    return request.param


@pytest.fixture
def augmenter(composed, pretrained, cased):
    """Return a maker of the augmenter of some options, prepared for a task's tiny data, and of those examples."""
    from peftlab.models.backbone import fetch

    def make(*options, task="ner", seed=0):
        whole = validate(resolve(composed(list(options), task=task)))
        fetched = whole.data.source.fetch()
        files = split_files(whole.data.splits, fetched, folders=False)
        examples = whole.data.format.read({"train": fetched.file(files["train"])})["train"]
        whole.task.learn_labels({"train": examples}, None)
        model = fetch(whole.model)
        encoding = (whole.task, model.processor("tokenizer"), whole.data.limits)
        made = Augmenter(whole.augment, *encoding, seed, lambda: model.input_embeddings(whole.task))
        made.prepare(examples)
        return made, examples

    return make


def random_texts(number: int, label: str | None) -> list[EditableText]:
    """Return texts of random words with up to three spans, each a mention of the type `label`, or protected."""
    draw = random.Random(0)
    texts = []
    for _ in range(number):
        words, spans = [], []
        for _ in range(draw.randrange(4)):
            words += draw.choices(WORDS, k=draw.randrange(6))
            name = draw.choice(NAMES).split() if label else [draw.choice(NAMES)]
            spans.append(Span(len(words), len(words) + len(name), label))
            words += name
        texts.append(EditableText.of_words([*words, *draw.choices(WORDS, k=draw.randrange(1, 6))], spans))
    return texts


def spans_of(text: EditableText) -> list[tuple]:
    return [(span.label, text.words[span.start : span.end]) for span in text.spans]


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.slow
def test_it_is_a_pure_function_of_seed_epoch_and_id(option, augmenter):
    made, examples = augmenter(option)
    again, _ = augmenter(option)
    other, _ = augmenter(option, seed=1)
    first = [made.example(one, 0) for one in examples]
    assert [again.example(one, 0) for one in reversed(examples)] == first[::-1]
    fixed = option == "back_translation"  # a text has one translation
    assert (first != [made.example(one, 1) for one in examples]) != fixed
    assert (first != [other.example(one, 0) for one in examples]) != fixed
    assert any(new is not old for new, old in zip(first, examples, strict=True))


@pytest.mark.one_in(4, "slow")
def test_what_it_changes_is_counted(option, augmenter):
    made, examples = augmenter(option)
    changed = sum(made.example(one, 0) is not one for one in examples)
    assert made.counts["counted_examples"] == len(examples)
    assert made.counts[option]["examples"] == changed > 0
    assert made.counts[option]["words"] >= changed


@pytest.mark.one_in(4, "slow")
def test_entities_keep_their_words_and_types(option, augmenter):
    """But for those that mention replacement puts in their place, by design of the same type."""
    made, examples = augmenter(option)
    for epoch in range(3):
        for one in examples:
            new = made.example(one, epoch)
            assert (new.id, new.group, len(new.words)) == (one.id, one.group, len(new.tags))
            (before,), (after,) = made.task.editable(one), made.task.editable(new)
            if option == "mention":
                assert [span.label for span in after.spans] == [span.label for span in before.spans]
            else:
                assert spans_of(after) == spans_of(before)


@pytest.mark.one_in(3, "slow")
def test_a_label_of_the_whole_text_stays(option, augmenter):
    if option in ON_MENTIONS:
        with pytest.raises(ConfigError, match=rf"augment\.{option}: no effect: no training text has (a )?mention"):
            augmenter(option, task="classification")
        return
    made, examples = augmenter(option, task="classification")
    for one in examples:
        new = made.example(one, 0)
        assert (new.id, new.label, new.pair) == (one.id, one.label, None)
        assert new.text.strip()


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.parametrize("label", ["LOC", None], ids=["mentions", "protected"])
def test_spans_of_random_texts_stay(option, label, augmenter):
    made, _ = augmenter(option)
    augmentation, texts = made.augmentations[option], random_texts(30, label)
    if hasattr(augmentation, "sha256"):
        augmentation.sha256 = None  # these are other texts
    augmentation.prepare(Material(texts, made.processor, lambda: np.eye(len(made.processor.tokenizer))))
    changed = 0
    for n, text in enumerate(texts):
        edited = augmentation.edit(text, stream_of(0, 0, str(n), option))
        changed += edited is not text
        assert (edited is text) == (edited == text)
        if option == "mention":
            assert [span.label for span in edited.spans] == [span.label for span in text.spans]
        else:
            assert spans_of(edited) == spans_of(text)
    assert (changed > 0) == (label is not None or option not in ON_MENTIONS)


def test_global_generators_are_left_alone(option, augmenter):
    made, examples = augmenter(option)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    for one in examples[:8]:
        made.example(one, 0)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_an_example_keeps_its_file_for_messages(augmenter):
    made, examples = augmenter("delete")
    assert {made.example(one, 0).file for one in examples} == {examples[0].file}
    assert isinstance(made.example(examples[0], 0), Sentence)


class TestRuns:
    """All together, in one list."""

    STEPS = ("budget.max_steps=8", "budget.test=false", "callbacks=[]", "optimizer.lr=1e-2", "peft=full")

    @pytest.fixture
    def trained(self, composed):
        def train(*overrides, options=FIRST, share=0.5):
            return run(composed(options, *self.STEPS, *overrides, share=share))

        return train

    def weights(self, record):
        return load_file(record.folder / "checkpoints" / "best.safetensors")

    def are_equal(self, one, other, **near):
        first, second = self.weights(one), self.weights(other)
        assert first.keys() == second.keys()
        if near:
            return all(torch.allclose(first[name], second[name], **near) for name in first)
        return all(torch.equal(first[name], second[name]) for name in first)

    @pytest.mark.slow
    def test_they_change_what_is_learnt_and_what_is_switched_off_does_not(self, trained):
        with_them, without = trained("run_dir=with"), trained("run_dir=without", options=[])
        off = trained("run_dir=off", share=0)
        assert not self.are_equal(with_them, without)
        assert self.are_equal(off, without)
        assert len({record.data["identity"]["sha256"] for record in (with_them, without, off)}) == 3
        counts = with_them.extensions["augmentation"]
        assert counts.pop("counted_examples") == 51
        assert list(counts) == FIRST
        assert all(0 < one["examples"] <= one["words"] for one in counts.values())
        assert "augmentation" not in without.extensions
        findings = check(RunFolder(RunRecord.load(with_them.folder)))
        assert findings.causes == []
        assert {"augmentation", "cost.tokens_per_second"} <= set(findings.unverified)

    @pytest.mark.slow
    def test_they_are_the_same_in_parts_and_pieces(self, trained, small_memory):
        exact = ["model.dropout=0", "model.attention_dropout=0", "optimizer=sgd", "optimizer.lr=0.1"]
        whole = trained(*exact, "run_dir=whole")
        for name, overrides in {"parts": ["trainer.accumulate=2"], "pieces": small_memory("backward")}.items():
            divided = trained(*exact, *overrides, f"run_dir={name}")
            assert self.are_equal(divided, whole, rtol=1e-4, atol=1e-5), name

    @pytest.mark.slow
    def test_a_run_that_is_resumed_is_the_run(self, trained, monkeypatch):
        whole = trained("run_dir=whole")
        let_through = Interruption.on_train_batch_start

        def signalling(self, trainer, *rest):
            if trainer.global_step == 3:
                monkeypatch.setattr(Interruption, "on_train_batch_start", let_through)
                os.kill(os.getpid(), signal.SIGTERM)
            let_through(self, trainer, *rest)

        monkeypatch.setattr(Interruption, "on_train_batch_start", signalling)
        with pytest.raises(Interrupted):
            trained("run_dir=parts")
        resumed = trained("run_dir=parts")
        assert resumed.resumed_at == 3
        assert self.are_equal(resumed, whole)

    @pytest.mark.exhaustive
    def test_they_are_the_same_on_two_devices_and_with_loading_processes(self, trained):
        exact = ["model.dropout=0", "model.attention_dropout=0", "optimizer=sgd", "optimizer.lr=0.1"]
        whole = trained(*exact, "run_dir=whole")
        assert self.are_equal(trained(*exact, "data.workers=2", "run_dir=workers"), whole)
        ranks = trained(*exact, "trainer.devices=2", "run_dir=ranks")
        assert self.are_equal(ranks, whole, rtol=1e-4, atol=1e-5)


class TestRefusals:
    def test_a_tokenizer_that_does_not_notice(self, composed, tiny_model):
        with pytest.raises(ConfigError, match=r"augment\.case: no effect: the model's tokenizer makes the same tokens"):
            run(composed(["case"], f"model.path={tiny_model}"))

    def test_cached_activations(self, composed):
        with pytest.raises(ConfigError, match="augment changes the texts in every epoch"):
            run(composed(["typo"], "trainer.cache_activations=true", "peft=head"))

    def test_what_edits_unchanged_texts_comes_first(self, composed):
        with pytest.raises(ConfigError, match=r"put it first, augment=\[back_translation"):
            validate(resolve(composed(["typo", "back_translation"])))

    @pytest.mark.slow
    def test_a_text_that_a_translation_model_would_cut_stays_as_it_is(self, translators, caplog):
        short, long = "report was read by Paris", " ".join(WORDS * 5)
        to, back = (translation.fetch(str(folder))[1] for folder in translators)
        for _ in ("translated", "read from the cache"):
            caplog.clear()
            table = translation.back_translated([long, short], to, back, beams=1, batch_size=1)
            assert table[long] == long
            assert table[short] != short
            assert "1 of 2 texts are longer" in caplog.text

    @pytest.mark.slow
    def test_what_is_no_translation_model(self, composed, tmp_path):
        for place, message in ((str(tmp_path), "no config.json"), ("no model", "neither a folder nor a model")):
            cfg = composed(["back_translation"])
            cfg.augment.back_translation.back = place
            with pytest.raises(Exception, match=rf"augment\.back_translation: .*{message}"):
                run(cfg)
