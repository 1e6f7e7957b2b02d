"""What is masked, and what is left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftlab import masking
from peftlab.masking import mask, mask_own, remember
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
    ["api_key", "apiKey", "API-KEY", "wandb.api_key", "HF_TOKEN", "token", "access_tokens", "client_secret"]
    + ["aws_secret_access_key", "db_password", "PASSWD", "credentials", "proxy_pass", "github_token", "private_key"],
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
    assert mask_own(text) == text


def test_the_working_folder_is_no_password(monkeypatch):
    monkeypatch.setenv("PWD", os.getcwd())
    assert mask(f"in {os.getcwd()}") == f"in {os.getcwd()}"


def test_short_values_are_not_sought_elsewhere():
    assert mask({"password": "bert", "model": "bert"}) == {"password": "****", "model": "bert"}


def test_the_identity_knows_no_secret(monkeypatch):
    def of(**config):
        return identity({"seed": 0, **config}, {"train": HEX}, HEX)["sha256"]

    one = of(source={"url": "https://me:one-word@host/x"}, api_key="one-word-1", notes="one-word-1")
    two = of(source={"url": "https://me:two-words@host/x"}, api_key="two-words", notes="two-words")
    assert one == two
    assert one != of(source={"url": "https://me:two-words@other/x"}, api_key="two-words", notes="two-words")
    monkeypatch.setenv("SOME_TOKEN", "all_linear")  # what is around changes no identity
    assert of(target="all_linear") != of(target="attention")


def test_long_texts_take_no_time_to_speak_of():
    for text in ("a" * 200_000, "a=" * 5_000, "://" + "a" * 200_000, "-----BEGIN PRIVATE KEY-----" * 1_000):
        mask(text)


def test_masking_imports_nothing_heavy():
    heavy = {"torch", "transformers", "hydra", "omegaconf", "lightning"}
    code = f"import sys, peftlab.masking; print(sorted({heavy} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(Path(masking.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "[]\n"
