"""What every task of ``conf/task/`` on files must hold. A new one is tested by adding it to `MODELS`."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from peftlab.data.batching import generator_of
from peftlab.data.encoding import encode
from peftlab.data.spec import takes_folders
from peftlab.data.splits import split_files
from peftlab.data.static_shapes import StaticShapes
from peftlab.errors import DataError
from peftlab.models.backbone import ModelSpec, fetch
from peftlab.sources import FilesSource
from peftlab.tasks.inputs.media_files import MediaTask, UnreadableFilesError

MODELS = {
    "image_classification": "vit",
    "audio_classification": "whisper",
    "speech_recognition": "whisper",
}
_SOUNDS = ["task.changes.speed=[0.9,1.1]", "task.changes.time_shift=0.1", "task.changes.noise_db=[5,20]"]
_SOUNDS += ["task.changes.frame_masks=[1,8]", "task.changes.band_masks=[1,4]"]
CHANGES = {
    "image_classification": ["task.changes.crop=0.5", "task.changes.flip=both", "task.changes.jitter=0.3"],
    "audio_classification": _SOUNDS,
    "speech_recognition": [*_SOUNDS, "task.generate.max_new_tokens=4"],
}
"""What changes training examples."""


@pytest.fixture(scope="module", params=list(MODELS))
def case(request, spec, data_for, language_model):
    task = spec(f"task={request.param}").task
    whole = spec(f"task={request.param}", *CHANGES[request.param], *data_for(task))
    pretrained = fetch(ModelSpec(name="x", source=FilesSource(path=language_model(MODELS[request.param]))), task)
    fetched = whole.data.source.fetch()
    files = split_files(whole.data.splits, fetched, folders=takes_folders(whole.data.format, fetched.path))
    splits = whole.data.format.read({split: fetched.file(file) for split, file in files.items()})
    whole.task.learn_labels(splits, None)
    processor = pretrained.processor(whole.task.processor)
    whole.task.bind(processor)
    torch.manual_seed(0)
    return whole, processor, pretrained.backbone(whole.task).eval(), splits["train"]


@torch.no_grad()
def losses_of(task, model, batch):
    return task.losses(task.outputs(model, batch), batch)


@pytest.mark.slow
def test_examples_are_files_read_once(case):
    whole, _, _, examples = case
    assert isinstance(whole.task, MediaTask)
    assert {type(example) for example in examples} == {whole.task.example}
    assert all(example.content is None and len(example.sha256) == 64 for example in examples)
    assert len({whole.task.text_key(example) for example in examples}) == len(examples)


def test_the_loss_of_an_example_is_its_own_in_any_company(case):
    whole, processor, model, examples = case
    task, encoded = whole.task, case[0].task.encode(examples, processor, whole.data.limits)
    batch = task.collate(examples, encoded, range(8))
    losses = losses_of(task, model, batch)
    assert losses.shape == batch.weights.shape == (8,)
    for batch_of in ([5, 2], [7]):
        part = task.collate(examples, encoded, batch_of)
        torch.testing.assert_close(losses_of(task, model, part), losses[batch_of], rtol=1e-4, atol=1e-5)
        assert part.examples == [examples[i] for i in batch_of]
        filled = StaticShapes(most=64).padded(part, size=4)
        torch.testing.assert_close(
            filled.mean(losses_of(task, model, filled)), part.mean(losses_of(task, model, part)), rtol=1e-5, atol=1e-6
        )
        assert encoded.tokens[batch_of].sum() == part.tokens


def test_encoding_in_blocks_is_encoding_the_whole(case, monkeypatch, tmp_path):
    whole, processor, _, examples = case
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(type(whole.task), "block", 3)
    plain = whole.task.encode(examples, processor, whole.data.limits)
    for _ in range(2):  # made, and read back
        blocks = encode(whole.task, examples, processor, whole.data.limits)
        assert {key: array.tolist() for key, array in blocks.arrays.items()} == {
            key: array.tolist() for key, array in plain.arrays.items()
        }
        assert blocks.counts == plain.counts


def test_every_unreadable_file_is_named(case, monkeypatch, tmp_path):
    whole, processor, _, examples = case
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(type(whole.task), "block", 3)
    broken = [
        dataclasses.replace(one, content=b"no", sha256="0" * 64) if n % 2 else one for n, one in enumerate(examples)
    ]
    with pytest.raises(UnreadableFilesError) as error:
        encode(whole.task, broken, processor, whole.data.limits)
    assert len(error.value.reasons) == len(examples) // 2
    assert str(error.value).count("the file has changed") == min(10, len(examples) // 2)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_changes_are_drawn_from_seed_epoch_and_example_alone(case):
    whole, processor, _, examples = case
    task, encoded = whole.task, case[0].task.encode(examples, processor, whole.data.limits)
    assert task.draws_inputs

    def inputs(epoch, *indices):
        batch = task.collate(examples, encoded, indices, lambda n: generator_of(7, epoch, n))
        return next(iter(batch.inputs.values()))

    together = inputs(0, 0, 1, 2, 3)
    assert torch.equal(together, torch.cat([inputs(0, 0, 1), inputs(0, 2), inputs(0, 3)]))
    assert not torch.equal(together, inputs(1, 0, 1, 2, 3))
    plain = task.collate(examples, encoded, [0, 1, 2, 3])
    assert not torch.equal(together, next(iter(plain.inputs.values())))


def test_a_file_and_its_bytes_have_the_same_answer(case):
    whole, processor, model, examples = case
    task, path = whole.task, examples[0].path
    sent = base64.b64encode(Path(path).read_bytes()).decode()
    replies = []
    for fields in ({"path": path}, {"text": path}, {"content": sent}, {"content": f"data:image/png;base64,{sent}"}):
        example = task.from_input(fields, "text:0")
        encoded = task.encode([example], processor, whole.data.limits)
        batch = task.collate([example], encoded, [0])
        with torch.no_grad():
            (answer,) = task.answers(task.outputs(model, batch), batch, model, True)
        replies.append(json.loads(json.dumps(task.reply(example, answer))))
        assert task.lost(encoded, 0) == {}
        assert not any(task.all_lost(encoded).values())
    assert replies[1:] == replies[:1] * 3
    assert np.isclose(sum(replies[0].get("probabilities", {"": 1}).values()), 1, atol=1e-5)


def test_what_is_no_file_is_refused(case, tmp_path):
    task = case[0].task
    for fields, reason in (
        ({}, "expected `path`"),
        ({"path": str(tmp_path / "no")}, "there is no such file"),
        ({"path": str(tmp_path)}, "is a folder"),
        ({"content": "*"}, "is not base64"),
        ({"content": ""}, "has 0 bytes"),
    ):
        with pytest.raises(DataError, match=reason):
            task.from_input(fields, "text:0")
