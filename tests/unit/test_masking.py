"""What is masked, and what is left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftlab import masking
from peftlab.masking import mask, mask_settings, masked_in, remember
from peftlab.record import identity

HEX = "0123456789abcdef" * 4
SECRET_TEXTS = [
    "logger.x.api_key=Xq7vLm2p",
    "--api-key=Xq7vLm2p",
    "password='Xq7vLm2p Xq7vLm2p'",
    'login(user="me", passwd="Xq7vLm2p")',
    '{"client_secret": "Xq7vLm2p"}',
    '{\\"secret\\": \\"Xq7vLm2p\\"}',
    "failed: token=Xq7vLm2p was refused",
    "db_pass: Xq7vLm2p",
    "Authorization: Bearer Xq7vLm2p0",
    "Authorization: Basic Xq7vLm2p",
    "sent bearer Xq7vLm2p0",
    "X-Api-Key: Xq7vLm2p",
    "Set-Cookie: Xq7vLm2p",
    "https://me:Xq7vLm2p@host.example/simple",
    "git+https://Xq7vLm2p@host.example/a/b",
    "postgresql://me:Xq7v@Lm2p@host.example:5432/db",
    "https://host.example/f?token=Xq7vLm2p&n=1",
    "https://host.example/f?X-Amz-Signature=Xq7vLm2pXq7vLm2p&n=1",
    f"WANDB_API_KEY={HEX[:40]}Xq7vLm2p python -m train",
    "AWS_SECRET_ACCESS_KEY=Xq7vLm2p/Xq7vLm2p+",
    "hf_Xq7vLm2pXq7vLm2pXq7v",
    "found wandb_v1_Xq7vLm2pXq7vLm2p here",
    "ghp_Xq7vLm2pXq7vLm2pXq7vLm2p",
    "github_pat_Xq7vLm2pXq7vLm2p_Xq7vLm2p",
    "glpat-Xq7vLm2pXq7vLm2p",
    "sk-Xq7vLm2pXq7vLm2p",
    "sk-ant-Xq7vLm2pXq7vLm2p",
    "xoxb-Xq7vLm2pXq7vLm2p",
    "eyJXq7vLm2p.eyJXq7vLm2p.Xq7vLm2p",
    "-----BEGIN PRIVATE KEY-----\nXq7vLm2p\nXq7vLm2p\n-----END PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\\nXq7vLm2p and what was cut off",
]
HARMLESS_KEYS = {
    **{"use_cls_token": True, "num_tokens": 128, "max_tokens": 128, "tokenizer": "bert-base-cased", "n_token": 1234567},
    **{"tokens_per_second": 812345.25, "token_type_ids": [0, 1], "sep_token": "[SEP]", "monkey": "capuchin"},
    **{"sha256": HEX, "commit": HEX[:40], "run_id": HEX[:12], "pad_token": "<pad>", "tokens": 203621, "token": "[CLS]"},
    **{
        "image_token": "<image_token>",
        "special_tokens": ["[CLS]", "[SEP]"],
        "keyboard": "qwertyuiop",
        "key": "value-of-it",
    },
    **{"primary_key": "identifier", "cache_key": "some/where/else", "forward_pass": "checkpointed", "passes": 3},
    **{
        "compass": "north-north-east",
        "author": "Marie Curie",
        "tokenizer_path": "some/where/else",
        "secrete": "hormones",
    },
    **{
        "password_file": "some/where/else",
        "lr": 1.5e-3,
        "weights_sha256": HEX,
        "target": "all_linear",
        "nothing": None,
    },
    **{"word_token": "paragraph", "license": "Apache-2.0", "url": "https://host.example/simple?page=2"},
}


@pytest.mark.parametrize("text", SECRET_TEXTS)
def test_a_secret_in_a_text_is_masked(text):
    for shown in (mask(text), mask({"message": text})["message"], mask([text])[0], json.dumps(mask({"a": [text]}))):
        assert "Xq7v" not in shown
        assert "Lm2p" not in shown
        assert "****" in shown


@pytest.mark.parametrize(("key", "value"), HARMLESS_KEYS.items())
def test_a_harmless_key_keeps_its_value(key, value):
    assert mask({key: value}) == {key: value}
    for text in (f"{key}={value}", f"{key}: {value}", json.dumps({key: value})):
        assert mask(text) == text


@pytest.mark.parametrize(
    "key",
    [
        "api_key",
        "apiKey",
        "API-KEY",
        "wandb.api_key",
        "HF_TOKEN",
        "token",
        "access_tokens",
        "client_secret",
        "aws_secret_access_key",
        "db_password",
        "PASSWD",
        "credentials",
        "proxy_pass",
        "github_token",
        "private_key",
    ],
)
def test_a_secret_key_hides_its_value(key):
    assert mask({"a": {key: "opensesame"}}) == {"a": {key: "****"}}
    assert mask({key: ["opensesame", "abracadabra"]}) == {key: ["****", "****"]}
    assert mask([f"+a.{key}=open, sesame=1"]) == [f"+a.{key}=****"]
    assert mask({key: None}) == {key: None}
    assert mask({key: True}) == {key: True}


def test_numbers_are_secrets_too():
    assert mask({"password": 12345678, "token": 12345678, "num_tokens": 12345678}) == {
        "password": "****",
        "token": "****",
        "num_tokens": 12345678,
    }


def test_a_masked_text_stays_as_it_is():
    once = mask({"texts": SECRET_TEXTS, "api_key": "opensesame"})
    assert mask(once) == once


def test_a_value_under_a_secret_key_is_masked_wherever_it_turns_up():
    shown = mask({"password": 'open "se/same', "notes": 'the word is open "se/same', "url": "?p=open%20%22se%2Fsame"})
    assert shown == {"password": "****", "notes": "the word is ****", "url": "?p=****"}


def test_what_the_process_knows_is_masked_in_texts(monkeypatch):
    monkeypatch.setattr(masking, "_remembered", set())
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "plain-looking")
    monkeypatch.setenv("SOME_TOKEN_FILE", "another-one")
    text = "refused: plain-looking, opensesame, another-one"
    assert mask(text) == "refused: ****, opensesame, another-one"
    remember({"callbacks": {"x": {"password": "opensesame"}}})
    assert mask(text) == "refused: ****, ****, another-one"


def test_the_working_folder_is_no_password(monkeypatch):
    monkeypatch.setenv("PWD", os.getcwd())
    assert mask(f"in {os.getcwd()}") == f"in {os.getcwd()}"


def test_short_values_are_not_sought_elsewhere():
    assert mask({"password": "bert", "model": "bert"}) == {"password": "****", "model": "bert"}


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("callbacks.mine.pooling_token", "average", "maximum"),
        ("callbacks.mine.cookie", "oatmeal", "chocolate"),
        ("callbacks.mine.authorization_model", "rbac", "acl"),
        ("callbacks.mine.note", "password: reset", "password: change"),
        ("callbacks.mine.note", "bearer of news 1234567890", "bearer of news 0987654321"),
        ("callbacks.mine.folder", "sk-learn-datasets-2024", "sk-learn-datasets-2025"),
        ("data.format.label", "password: reset", "password: change"),
        ("data.format.user_token", "column1", "column2"),
    ],
)
def test_values_that_only_look_like_secrets_make_other_runs(key, one, other, monkeypatch):
    def of(value):
        config = {"seed": 0, "logger": {"x": {"api_key": value}}} | nested(key, value)
        return identity(config, {"train": HEX}, HEX)["sha256"]

    assert of(one) != of(other)
    before = of(one)
    monkeypatch.setenv("SOME_TOKEN", one)  # what is around changes no identity
    assert of(one) == before


def nested(key, value):
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


READ_BACK = [
    *[("data.labels", [label, "other"]) for label in ("password: reset", "token=expired", "cookie: consent")],
    *[("data.labels", [label, "other"]) for label in ("secret: santa", "credentials: lost", "IT > password: reset")],
    *[("data.labels", [label, "other"]) for label in ("hf_abcdefghijklmnopq", "bearer 1234567890", "me@host://x@y")],
    ("data.labels", ["held-by-the-environment", "other"]),
    ("data.labels", ["*", "**", "***", "****", "*****"]),
    ("data.labels", ["f****", "fine"]),
    ("data.format.label", "password: reset"),
    ("data.format.token", "word"),
    ("data.format.columns", {"password": "text", "api_key": "label"}),
    ("data.path", "held-by-the-environment/token=v2ready/a"),
    ("model.path", "models/sk-learn-datasets-2024"),
    ("data.name", "secret: santa"),
    ("name", "held-by-the-environment"),
    ("run_dir", "runs/token=v2ready"),
    ("task.class_weights", {"password": 2.0, "token": 123456.0}),
    ("callbacks.early_stopping.monitor", "validation/f1/password: reset"),
    ("callbacks.early_stopping", {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "token=expired"}),
]


@pytest.mark.parametrize(("key", "value"), READ_BACK, ids=str)
def test_a_setting_that_is_read_back_stays_as_it_is(key, value, monkeypatch):
    monkeypatch.setenv("POSTGRES_PASSWORD", "held-by-the-environment")
    config = nested(key, value)
    assert mask_settings(config) == config
    assert masked_in(config) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("logger.x.api_key", "opensesame"),
        ("logger.x.password", 12345678),
        ("logger.x.uri", "https://me:opensesame@host"),
        ("logger.x.notes", "log in with password=opensesame"),
        ("callbacks.mine", {"_target_": "mine.Own", "notes": "log in with password=opensesame"}),
        ("callbacks.mine", {"_target_": "mine.Own", "options": {"pin": 1, "secrets": ["opensesame"]}}),
        ("trainer.hub_token", "opensesame"),
        ("peft.options.api_key", "opensesame"),
    ],
    ids=str,
)
def test_a_secret_setting_is_masked_and_said_to_be(key, value):
    shown = mask_settings(nested(key, value))
    assert "opensesame" not in str(shown)
    assert "12345678" not in str(shown)
    assert masked_in(shown) is not None
    assert key.startswith(masked_in(shown)) or masked_in(shown).startswith(key)


@pytest.mark.parametrize(
    "labels",
    [["password: ****", "fine"], ["token=****", "fine"], ["IT > password: ****"], ["a", "a"], ["cookie: ****", "b"]],
)
def test_labels_that_an_older_version_has_masked_are_noticed(labels):
    assert masked_in({"data": {"labels": labels}}) == "data.labels"


def test_long_texts_take_no_time_to_speak_of():
    for text in ("a" * 200_000, "a=" * 5_000, "://" + "a" * 200_000, "-----BEGIN PRIVATE KEY-----" * 1_000):
        mask(text)


def test_masking_imports_nothing_heavy():
    heavy = {"torch", "transformers", "hydra", "omegaconf", "lightning"}
    code = f"import sys, peftlab.masking; print(sorted({heavy} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(Path(masking.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "[]\n"
