"""Runs on recordings: used, exported, reported by speaker, and refused."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import peftlab
from peftlab import cli
from peftlab.composing.compose import conf_dir
from peftlab.errors import ConfigError, DataError
from peftlab.serving.models.models import Models
from peftlab.tasks.audio_classification import AudioClassification
from peftlab.tasks.speech_recognition import SpeechRecognition
from peftlab.use.fairness.groups import of_column

pytestmark = pytest.mark.slow

TASKS = {"audio_classification": AudioClassification, "speech_recognition": SpeechRecognition}
WRITES = {"speech_recognition": ["task.generate.max_new_tokens=6"]}


@pytest.fixture
def train(tiny_run, data_for, language_model):
    def make(*overrides, task="audio_classification", run_dir="run", family="whisper"):
        given = [f"task={task}", *data_for(TASKS[task]), *WRITES.get(task, []), f"run_dir={run_dir}"]
        return peftlab.run(*tiny_run, *given, f"model.path={language_model(family)}", *overrides).data

    return make


@pytest.mark.parametrize("task", ["audio_classification", "speech_recognition"])
def test_a_run_and_how_it_is_used(train, task, tiny_recordings, capsys):
    record = train("peft=lora", "budget.max_steps=3", task=task)
    counts = record["data"]["splits"]["train"]
    assert counts["rows"] == 8
    run = peftlab.load("run")
    assert run.evaluate().equal
    rows = [json.loads(line) for line in Path("run/predictions/test.jsonl").read_text().splitlines()]
    speakers = [row["group"] for row in rows]
    assert set(speakers) == {f"speaker{n}" for n in range(8, 12)}
    assert of_column("column=speaker", "speaker", run.folder, rows).values == tuple(speakers)

    file = tiny_recordings / "low_9.wav"
    (answer,) = run.predict([{"path": str(file)}])
    capsys.readouterr()
    cli.main(["predict", "run", str(file), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert {key: value for key, value in printed.items() if key != "path"} == {
        key: value for key, value in answer.items() if key != "path"
    }
    served = Models(["m=run"])
    sent = {"content": base64.b64encode(file.read_bytes()).decode()}
    assert served.answers([served.read("m", sent)]) == [{key: answer[key] for key in answer if key != "path"}]
    part = run.predict([{"path": str(file), "start": 0.1, "end": 0.2}])[0]
    assert part != answer


def test_what_cannot_be_read_ends_it_before_it_begins(train, tiny_recordings, tmp_path):
    shutil.copytree(tiny_recordings, tmp_path / "broken")
    for n in range(3):
        (tmp_path / "broken" / f"low_{n}.wav").write_bytes(b"RIFF and nothing")
    with pytest.raises(DataError, match=r"cannot use 3 files(.*\n.*low_\d\.wav: is no recording){3}"):
        train(f"data.path={tmp_path / 'broken'}")
    assert not Path("run").exists()


def test_what_does_not_go_with_recordings(train):
    for overrides, message in (
        (["augment=[mask]"], "does not say which words"),
        (["model.pooling=mean"], "reads what its architecture"),
        (["peft=head", "trainer.cache_activations=true"], "are no tokens, by which activations are kept"),
        (["task.max_seconds=31"], "at most 30 seconds"),
        (["peft=prompt_tuning", "peft.init=random"], "neither words nor patches"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(*overrides)


def test_exported_it_is_a_plain_model(train, tiny_recordings):
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    train("peft=lora", "budget.max_steps=3", "task.max_seconds=1")
    run = peftlab.load("run")
    assert run.export("exported").largest_difference < 1e-5
    model = AutoModelForAudioClassification.from_pretrained("exported").eval()
    extractor = AutoFeatureExtractor.from_pretrained("exported")
    samples, rate = soundfile.read(tiny_recordings / "high_9.wav", dtype="float32")
    with torch.no_grad():
        logits = model(**extractor(samples, sampling_rate=rate, return_tensors="pt")).logits[0]
    (answer,) = run.predict([{"path": str(tiny_recordings / "high_9.wav")}])
    theirs = dict(zip(model.config.id2label.values(), logits.softmax(-1).tolist(), strict=True))
    assert theirs == pytest.approx(answer["probabilities"], abs=1e-4)


def test_an_exported_whisper_writes_the_same(train, tiny_transcripts):
    from transformers import AutoFeatureExtractor, AutoTokenizer, WhisperForConditionalGeneration

    options = ["task.max_seconds=1", "task.generate.repetition_penalty=1.5"]
    train("peft=lora", "budget.max_steps=3", *options, task="speech_recognition")
    run = peftlab.load("run")
    assert run.export("exported").largest_difference < 1e-4
    model = WhisperForConditionalGeneration.from_pretrained("exported").eval()
    extractor, tokenizer = (each.from_pretrained("exported") for each in (AutoFeatureExtractor, AutoTokenizer))
    samples, rate = soundfile.read(tiny_transcripts / "high_9.wav", dtype="float32")
    features = extractor(samples, sampling_rate=rate, return_tensors="pt").input_features
    assert features.shape == (1, 16, 100)
    assert model.generation_config.language == "en"
    (answer,) = run.predict([{"path": str(tiny_transcripts / "high_9.wav")}])
    (written,) = tokenizer.batch_decode(model.generate(features), skip_special_tokens=True)
    assert written == answer["written"]


@pytest.mark.exhaustive
def test_a_report_resamples_speakers(train, capsys):
    for seed in (0, 1):
        train("peft=lora", "budget.max_steps=3", f"seed={seed}", run_dir=f"lora{seed}")
    capsys.readouterr()
    cli.main(["report", "lora0", "lora1", "--json", "--out", "report"])
    assert '"clusters": 4' in json.dumps(json.loads(Path("report/report.json").read_text()))


@pytest.mark.exhaustive
def test_every_regulariser_trains_on_recordings_or_says_why_not(train):
    of_runs = {"distil", "lwf", "ewc", "der"}
    refused = {}
    for name in sorted(path.stem for path in (conf_dir() / "regularizer").glob("*.yaml")):
        if name in of_runs:
            continue
        try:
            assert train(f"regularizer=[{name}]", "budget.max_steps=2", run_dir=name)["status"] == "completed"
        except ConfigError as error:
            refused[name] = str(error)
    assert refused.keys() == {"group_dro", "reweight", "rdrop"}, refused
    assert all(np.char.find(message, "regularizer") >= 0 for message in refused.values())
