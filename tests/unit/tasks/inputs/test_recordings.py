"""Recordings as examples: parts, what is cut and silent, and what Whisper's decoder learns and writes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tests.sound_models import RATE, tone
from torch import nn
from transformers import GenerationConfig

from peftlab.data.media_files import MediaTable
from peftlab.data.recording_files import RecordingRows, TranscriptRows
from peftlab.errors import ConfigError, DataError
from peftlab.generation.options import Generation
from peftlab.models.backbone import ModelSpec, fetch
from peftlab.models.positions import positions
from peftlab.sources import FilesSource
from peftlab.tasks.audio_classification import AudioClassification
from peftlab.tasks.limits import Limits
from peftlab.tasks.speech_recognition import SpeechRecognition
from peftlab.tasks.task import IGNORED, Selection

LIMITS = Limits(128, "truncate")


def listener(**options) -> AudioClassification:
    selection = Selection(metric="macro_f1")
    return AudioClassification(name="audio_classification", selection=selection, **{"max_seconds": 0.5, **options})


def writer(**options) -> SpeechRecognition:
    selection, generate = Selection(metric="perplexity"), Generation(max_new_tokens=6)
    return SpeechRecognition(
        name="speech_recognition", selection=selection, **{"generate": generate, "max_seconds": 0.5, **options}
    )


@pytest.fixture
def whisper(language_model):
    def make(task):
        pretrained = fetch(ModelSpec(name="tiny", source=FilesSource(path=language_model("whisper"))), task)
        processor = pretrained.processor(task.processor)
        task.bind(processor)
        return pretrained.backbone(task).eval(), processor

    return make


def table(folder: Path, lines: list[str], rows) -> list:
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    return list(MediaTable(rows=rows).read({"train": folder / "train.csv"})["train"])


def test_parts_of_one_file_are_examples_of_their_own(tmp_path, language_model, whisper, caplog):
    whole = np.concatenate([tone(220, 0.4), tone(880, 0.4), np.zeros(RATE, np.float32)])
    soundfile.write(tmp_path / "long.wav", whole, RATE)
    lines = ["path,label,from,to", "long.wav,low,0,0.4", "long.wav,high,0.4,0.8", "long.wav,none,0.9,1.7"]
    examples = table(tmp_path, lines, RecordingRows(start="from", end="to"))
    task = listener()
    _, processor = whisper(task)
    with caplog.at_level(logging.WARNING, "peftlab"):
        encoded = task.encode(examples, processor, LIMITS)
    assert f"without a sound: {tmp_path / 'train.csv'}:4" in caplog.text
    assert np.diff(encoded.arrays["examples"]).tolist() == [6400, 6400, 8000]
    assert encoded.counts == {"cut recordings": 1, "recordings at 16000 Hz": 3, "silent recordings": 1}
    assert task.lost(encoded, 0) == {}
    assert task.lost(encoded, 2) == {"cut_seconds": 0.3, "silent": True}
    assert task.all_lost(encoded) == {"cut recordings": 1, "cut seconds": 0, "silent recordings": 1}
    assert len({task.text_key(one) for one in examples}) == len({str(task.encoded_text(one)) for one in examples}) == 3
    assert task.title(examples[1]) == "long.wav 0.4-0.8 s"
    asked = task.from_input({"path": str(tmp_path / "long.wav"), "start": 0.4, "end": 0.8}, "text:0")
    again = task.encode([asked], processor, LIMITS)
    assert np.array_equal(again.arrays["samples"], encoded.arrays["samples"][6400:12800])
    named = {"file": "long.wav", "from": 0.4, "to": 0.8}
    rows = RecordingRows(path="file", start="from", end="to")
    assert rows.asked(named) == {**named, "path": "long.wav", "start": 0.4, "end": 0.8}
    assert RecordingRows().asked(named) == named
    with pytest.raises(DataError, match="number of seconds"):
        task.from_input({"path": str(tmp_path / "long.wav"), "start": "soon"}, "text:0")
    for never in (float("nan"), float("inf"), 1e308, -1):
        with pytest.raises(DataError, match="number of seconds"):
            task.from_input({"path": str(tmp_path / "long.wav"), "end": never}, "text:0")
    with pytest.raises(DataError, match="expected seconds"):
        table(tmp_path, ["path,label,from", "long.wav,low,-1"], RecordingRows(start="from"))


def test_masks_need_a_spectrogram(language_model):
    task = listener(changes={"frame_masks": (1, 4)})
    pretrained = fetch(ModelSpec(name="tiny", source=FilesSource(path=language_model("wav2vec2_layer"))), task)
    with pytest.raises(ConfigError, match=r"samples, which have no frames.*Leave out frame_masks"):
        task.bind(pretrained.processor("feature_extractor"))


def test_the_library_drops_and_masks_nothing_by_itself(language_model):
    task = listener()
    task.labels = ["high", "low"]
    for kind in ("wav2vec2_group", "whisper"):
        model = fetch(ModelSpec(name="tiny", source=FilesSource(path=language_model(kind))), task).backbone(task)
        config = model.config.to_dict()
        assert not config.get("apply_spec_augment")
        assert {config.get(key, 0.0) for key in ("layerdrop", "encoder_layerdrop")} == {0.0}


@pytest.fixture
def said(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(220, 0.4), RATE)
    soundfile.write(tmp_path / "b.wav", tone(880, 0.3), RATE)
    return table(tmp_path, ["path,text", "a.wav,down and out", "b.wav,up"], TranscriptRows())


def test_the_first_tokens_are_given_and_not_learnt(said, whisper):
    task = writer()
    model, processor = whisper(task)
    names = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    first = processor.tokenizer.convert_tokens_to_ids(names)
    batch = task.collate(said, task.encode(said, processor, LIMITS), [0, 1])
    decoder, labels = batch.inputs["decoder_input_ids"], batch.targets["labels"]
    up = processor.tokenizer("up", add_special_tokens=False)["input_ids"]
    assert decoder[1, : 4 + len(up)].tolist() == first + up
    assert labels[1].tolist()[: 4 + len(up)] == [IGNORED] * 3 + up + [processor.tokenizer.eos_token_id]
    assert batch.weights.tolist() == [13, 3] == (labels != IGNORED).sum(1).tolist()
    with torch.no_grad():
        theirs = model(**batch.inputs, labels=labels).loss
        assert task.loss(task.outputs(model, batch), batch) == pytest.approx(float(theirs), rel=1e-5)


def test_a_long_transcript_loses_its_end_and_says_so(said, whisper):
    task = writer(max_target_tokens=10)
    _, processor = whisper(task)
    encoded = task.encode(said, processor, LIMITS)
    batch = task.collate(said, encoded, [0, 1])
    assert batch.inputs["decoder_input_ids"].shape == (2, 10)
    assert task.all_lost(encoded)["truncated targets"] == 1
    assert task.all_lost(encoded)["truncated target tokens"] == 6
    assert processor.tokenizer.eos_token_id not in batch.targets["labels"][0].tolist()


def test_it_writes_what_transformers_writes(said, whisper):
    task = writer()
    model, processor = whisper(task)
    task.check_model(model)
    batch = task.collate(said, task.encode(said, processor, LIMITS), [0, 1])
    with torch.no_grad():
        answers = task.answers(task.outputs(model, batch), batch, model, final=True)
    ids = batch.inputs["input_features"]
    settings = GenerationConfig(max_new_tokens=6, pad_token_id=256, eos_token_id=256, decoder_start_token_id=257)
    from transformers import GenerationMixin

    first = torch.tensor([task.prompts(batch)[0]] * 2)
    theirs = GenerationMixin.generate(model, input_features=ids, decoder_input_ids=first, generation_config=settings)
    texts = [processor.tokenizer.decode(row[4:], skip_special_tokens=True) for row in theirs]
    assert [answer["predicted"] for answer in answers] == texts
    assert [answer["input"] for answer in answers] == ["a.wav", "b.wav"]
    alone = task.collate(said, task.encode(said, processor, LIMITS), [1])
    assert "".join(task.stream(alone, model)) == answers[1]["predicted"]


def test_what_the_model_never_writes_is_never_written(said, whisper):
    task = writer()
    model, processor = whisper(task)
    batch = task.collate(said, task.encode(said, processor, LIMITS), [0, 1])
    with torch.no_grad():
        model.proj_out.weight.zero_()
        model.proj_out.weight[65] = 1e3  # one byte is always the most probable, or the least
        before = task.answers_without_gold(batch, model)
        model.generation_config.suppress_tokens = [65]
        after = task.answers_without_gold(batch, model)
    byte = processor.tokenizer.decode([65])
    assert any(byte in answer["predicted"] for answer in before)
    assert not any(byte in answer["predicted"] for answer in after)


@pytest.mark.slow
def test_positions_are_those_of_the_decoder(whisper):
    task = writer()
    model, _ = whisper(task)
    assert model.config.max_source_positions == 25
    assert positions(model) == positions(nn.ModuleList([model])) == 448  # alone, and in an ensemble
    whisper(task)
    for options, key in (({"max_target_tokens": 500}, "max_target_tokens"), ({}, r"generate\.max_new_tokens")):
        long = writer(**options) if options else writer(generate=Generation(max_new_tokens=446))
        model, _ = whisper(long)
        with pytest.raises(ConfigError, match=key):
            long.check_model(model)


@pytest.mark.slow
def test_a_language_is_named_by_its_code_or_name(whisper):
    for language in ("zh", "Chinese"):
        task = writer(language=language)
        whisper(task)
        assert task.code == "zh"
        assert task.scorer.unit == "characters"
    assert writer().scorer.unit == "words"
    with pytest.raises(ConfigError, match=r"<\|tlh\|>"):
        whisper(writer(language="tlh"))
    english = writer(language=None)
    whisper(english)
    assert len(english.prompts(type("Batch", (), {"examples": [None]}))[0]) == 2


def test_examples_of_parts_differ_by_their_times(said):
    one = replace(said[0], start=0.1)
    assert writer().text_key(one) != writer().text_key(said[0])
