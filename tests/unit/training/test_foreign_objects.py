"""Loggers and callbacks of Lightning's write into the run's folder only."""

from __future__ import annotations

import inspect

import lightning.pytorch.loggers
import pytest

from peftlab.config import build
from peftlab.errors import ConfigError

LOGGERS = "lightning.pytorch.loggers"
WRITES_ELSEWHERE = [
    ("CSVLogger", {"name": "/elsewhere", "version": ""}),
    ("CSVLogger", {"name": "../.."}),
    ("CSVLogger", {"version": "a/../../.."}),
    ("csv_logs.CSVLogger", {"name": "~/elsewhere"}),
    ("CSVLogger", {"name": "a\\..\\..\\b"}),
    ("CSVLogger", {"name": "file:///elsewhere"}),
    ("CSVLogger", {"name": "https://a/../../../../elsewhere"}),
    ("CSVLogger", {"name": "a::file://b"}),
    ("CSVLogger", {"save_dir": "elsewhere"}),
    ("TensorBoardLogger", {"sub_dir": "elsewhere"}),
    ("TensorBoardLogger", {"log_dir": "elsewhere"}),
    ("TensorBoardLogger", {"filename_suffix": "/../../elsewhere"}),
    ("WandbLogger", {"dir": "elsewhere"}),
    ("WandbLogger", {"dir": "https://a/../.."}),
    ("WandbLogger", {"settings": {"root_dir": "elsewhere"}}),
    ("WandbLogger", {"settings": {"a": ["/elsewhere"]}}),
    ("MLFlowLogger", {"tracking_uri": "file:///elsewhere"}),
    ("MLFlowLogger", {"tracking_uri": "sqlite:///elsewhere.db"}),
    ("MLFlowLogger", {"artifact_location": "elsewhere"}),
    ("CometLogger", {}),
]


@pytest.mark.parametrize(("name", "options"), WRITES_ELSEWHERE, ids=str)
def test_a_logger_of_lightnings_writes_into_the_run_folder_only(name, options):
    with pytest.raises(ConfigError, match=r"^logger\.x"):
        build({"_target_": f"{LOGGERS}.{name}", **options}, "logger.x")


@pytest.mark.parametrize("name", ["CSVLogger", "TensorBoardLogger", "WandbLogger", "MLFlowLogger"])
def test_no_text_leads_a_logger_of_lightnings_out_of_it(name):
    for parameter in inspect.signature(getattr(lightning.pytorch.loggers, name)).parameters:
        with pytest.raises(ConfigError):
            build({"_target_": f"{LOGGERS}.{name}", parameter: "../../elsewhere"}, "logger.x")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (f"{LOGGERS}.CSVLogger", {"name": "a/b", "version": "", "flush_logs_every_n_steps": 5}),
        (f"{LOGGERS}.TensorBoardLogger", {"name": "a", "version": 3, "max_queue": 5}),
        (f"{LOGGERS}.WandbLogger", {"project": "p", "tags": ["a", "b"], "notes": "see: table 3", "log_model": False}),
        (f"{LOGGERS}.MLFlowLogger", {"tracking_uri": "http://host:5000", "experiment_name": "e", "tags": {"a": "b"}}),
        ("peftlab.loggers.wandb.Wandb", {"notes": "/a ../b"}),
    ],
)
def test_what_loggers_are_for_stays(name, options):
    assert build({"_target_": name, **options}, "logger.x").keywords == options


def test_a_text_for_a_truth_or_a_number_becomes_one():
    """To Python, the text ``no`` is true."""
    optimizer = build({"_target_": "torch.optim.AdamW", "amsgrad": "no", "fused": "off", "eps": "1e-6"}, "optimizer.x")
    assert optimizer.keywords == {"amsgrad": False, "fused": False, "eps": 1e-6}
    stopping = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "x", "check_finite": "no"}
    assert build(stopping, "callbacks.x").check_finite is False


@pytest.mark.parametrize("file", ["spike.SpikeDetection", "SpikeDetection"])
def test_a_callback_that_says_itself_where_it_writes_is_none_of_the_configuration(file):
    with pytest.raises(ConfigError, match=r"SpikeDetection writes where its 'exclude_batches_path' says"):
        build({"_target_": f"lightning.pytorch.callbacks.{file}"}, "callbacks.x")
