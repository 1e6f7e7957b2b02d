"""Activations on disk: what they are named by, how they are written, and who makes room for whom."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from peftlab.assembly import build_tuner
from peftlab.config import resolve, validate
from peftlab.data.module import DataModule
from peftlab.speed import activation_cache
from peftlab.speed.activation_cache import ActivationCache, choose_border, folder, make_room
from peftlab.speed.border import STATES, watching
from peftlab.storage.atomic import replacing


@pytest.fixture
def cache(compose_config, tiny_overrides, pretrained):
    """Return a maker of caches for the head of a tiny BERT without dropout."""

    def make(*overrides, change=lambda model: None):
        no_dropout = ["model.dropout=0.0", "model.attention_dropout=0.0"]
        spec = validate(resolve(compose_config(*tiny_overrides, *no_dropout, "peft=head", *overrides)))
        data = DataModule(spec.data, spec.task, pretrained.processor("tokenizer"), spec.budget, spec.seed)
        data.load()
        torch.manual_seed(spec.seed)
        model = build_tuner(spec, replace(pretrained, spec=spec.model)).model
        change(model)
        return ActivationCache(choose_border(spec.trainer, model, data), model, data, spec.trainer)

    return make


def files():
    return sorted(path.name for path in folder().glob("*.safetensors*"))


@pytest.mark.slow
def test_a_batch_gets_what_the_layers_below_compute(cache):
    """Of an evaluation the very bits, of other batches what rounding leaves of them."""
    cache = cache("data.max_tokens=8")  # so that some examples have several rows
    data = cache.data
    recall = cache.recall("train")
    assert len(recall.states) == sum(data.splits["train"].encoded.tokens)
    for examples in [*data.evaluation_batches("train"), [3, 0, 7], [5]]:
        batch = data.task.collate(data.splits["train"].examples, data.splits["train"].encoded, examples)
        with watching(cache.border) as seen, torch.inference_mode():
            cache.model(**batch.inputs)
        real = batch.inputs["attention_mask"].bool()
        recall(batch, examples)
        stored = batch.inputs[STATES]
        assert torch.equal(stored[~real], torch.zeros_like(stored[~real]))
        if examples in data.evaluation_batches("train"):
            assert torch.equal(stored[real], seen[0][real])
        else:
            assert torch.allclose(stored[real], seen[0][real], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_second_time_they_are_there(cache, monkeypatch):
    first = cache()
    states = first.recall("validation").states.clone()
    second = cache("seed=1", "optimizer.lr=0.5")
    monkeypatch.setattr(second, "_write", None)
    assert torch.equal(second.recall("validation").states, states)
    assert (first.computed, second.computed) == (["validation"], [])


@pytest.mark.slow
def test_the_name_depends_on_whatever_may_change_a_bit(cache, monkeypatch):
    def other_bias(model):
        model.bert.encoder.layer[0].output.dense.bias.data[0] += 1

    names = [cache().fingerprint(split) for split in ("train", "validation")]
    names.append(cache("data.eval_batch_size=4").fingerprint("train"))
    names.append(cache("data.max_tokens=8").fingerprint("train"))
    names.append(cache("trainer.precision=bf16-mixed").fingerprint("train"))
    names.append(cache("model.attention=sdpa").fingerprint("train"))
    names.append(cache(change=other_bias).fingerprint("train"))
    names.append(cache(change=lambda m: m.bert.encoder.layer[1].requires_grad_(True)).fingerprint("train"))
    monkeypatch.setattr(activation_cache, "FORMAT", activation_cache.FORMAT + 1)
    names.append(cache().fingerprint("train"))
    assert len(set(names)) == len(names)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["empty", "cut", "shorter", "zeroed", "renamed"])
def test_a_damaged_file_is_made_anew(cache, damage):
    states = cache().recall("validation").states.clone()
    (path,) = folder().glob("*.safetensors")
    whole = path.read_bytes()
    if damage == "shorter":
        path.unlink()
        save_file({"states": states[1:].clone()}, path)
    elif damage == "zeroed":  # half of it, with the header as it was
        path.write_bytes(whole[: -states.nbytes // 2] + bytes(states.nbytes // 2))
    elif damage == "renamed":  # another split's file of the same size, whole
        cache("seed=1").recall("test")
        (other,) = set(folder().glob("*.safetensors")) - {path}
        other.replace(path)
    else:
        path.write_bytes({"empty": b"", "cut": whole[:-5]}[damage])
    again = cache()
    assert torch.equal(again.recall("validation").states, states)
    assert again.computed == ["validation"]
    assert path.read_bytes() == whole


def test_what_fails_on_the_way_leaves_nothing(cache):
    cache = cache()

    def fail(*_):
        raise ArithmeticError

    cache.model.classifier.register_forward_hook(fail)
    with pytest.raises(ArithmeticError):
        cache.recall("validation")
    assert files() == []


@pytest.mark.slow
def test_of_two_at_once_one_computes(cache):
    caches = [cache(), cache()]
    together = threading.Barrier(2, timeout=60)

    def recall(cache):
        together.wait()
        return cache.recall("train").states

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(recall, caches)
    assert torch.equal(one, other)
    assert sorted(cache.computed for cache in caches) == [[], ["train"]]
    assert len(files()) == 1


class TestMakeRoom:
    @pytest.fixture
    def kept(self):
        """Three files of 1 MiB, the last one used the longest ago."""
        folder().mkdir(parents=True)
        for age, name in enumerate("abc"):
            path = folder() / f"{name}.safetensors"
            path.write_bytes(bytes(2**20))
            os.utime(path, (1e9 - age, 1e9 - age))

    @pytest.mark.parametrize(("mib", "left"), [(4, "abc"), (3.5, "ab"), (3, "ab"), (2, "a"), (1, "")])
    @pytest.mark.usefixtures("kept")
    def test_the_oldest_go(self, mib, left):
        make_room(2**20, mib / 1024)
        assert files() == [f"{name}.safetensors" for name in left]

    @pytest.mark.usefixtures("kept")
    def test_what_another_run_is_writing_counts_and_stays(self):
        with replacing(folder() / "d.safetensors") as temporary:
            temporary.write_bytes(bytes(2**20))
            os.utime(temporary, (1, 1))
            make_room(2**20, 2.5 / 1024)
        assert files() == ["d.safetensors"]

    @pytest.mark.usefixtures("kept")
    def test_another_run_may_make_room_at_the_same_time(self, monkeypatch):
        found = Path.glob

        def glob(folder, pattern):
            paths = list(found(folder, pattern))
            paths[0].unlink()
            return paths

        monkeypatch.setattr(Path, "glob", glob)
        make_room(2**20, 1 / 1024)
        assert os.listdir(folder()) == []

    @pytest.mark.slow
    @pytest.mark.usefixtures("kept")
    def test_what_is_used_again_stays_longer(self, cache):
        cache().recall("validation")
        (own,) = set(files()) - {f"{name}.safetensors" for name in "abc"}
        os.utime(folder() / own, (1e9 - 10, 1e9 - 10))
        cache().recall("validation")
        make_room(2**20, 2.5 / 1024)
        assert files() == sorted([own, "a.safetensors"])

    @pytest.mark.usefixtures("kept")
    def test_a_run_that_reads_a_file_keeps_it(self, cache):
        states = cache().recall("validation").states
        before = states.clone()
        make_room(2**20, 1 / 1024)
        assert files() == []
        assert torch.equal(states, before)
