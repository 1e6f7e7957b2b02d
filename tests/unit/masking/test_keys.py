"""Which keys name a credential."""

from __future__ import annotations

import pytest

from peftlab.masking.keys import is_secret
from peftlab.masking.mask import mask, mask_settings

RANDOM = "Xq7vLm2p"


CREDENTIALS = [
    *("pat", "webhook", "pin", "license_key", "creds", "pwd", "pw", "otp_seed", "SLACK_WEBHOOK_URL", "VAULT_PIN"),
    *("PGPASSWORD", "MYSQL_PWD", "db_pass", "passkey", "recovery_code", "seed_phrase", "connection_string", "psk"),
    *(
        "password_prod",
        "HF_TOKEN_READ",
        "secret_key_base",
        "clientSecret",
        "signing_key",
        "gitlab_pat",
        "NGC_API_KEY",
    ),
    *("clientencryptionkey", "--clientencryptionkey", "SIGNINGKEY", "wandbkey"),
    *("SOME_TOKEN", "nvidia_api_key", "api_key_value", "webhook_uri", "smtp_pwd", "totp", "storage_key", "sas_url"),
]


def test_these_do_whatever_their_value():
    for key in CREDENTIALS:
        for value in (RANDOM, "opensesame", 47114711):
            assert is_secret(key, value), key
        assert mask_settings({"peft": {key: "opensesame"}}) == {"peft": {key: "****"}}
        assert mask(f"it has {key}=opensesame, and more") == f"it has {key}=****, and more"


@pytest.mark.parametrize(
    "key", ["token", "cookie", "authorization", "bearer", "user_tokens", "my_token", "auth", "secret_santa"]
)
def test_these_do_where_the_value_is_no_word(key):
    assert is_secret(key, RANDOM)
    assert not is_secret(key, "average")
    assert not is_secret(key, "cls-and-sep")


INNOCENT = {
    **{"api_tokens": 282712, "session_tokens": "993353", "monkey": "x1y2z3w4", "hotkey": "ctrl-a1"},
    **{"secret_santa": "average", "bearer": "standard", "token": "sentence", "credential_helper": "osxkeychain"},
    **{"authorization_model": "rbac", "user_tokens": "average", "secret_word_list": "words.txt", "cookie": "oatmeal"},
    **{"pooling_token": "average", "pin_memory": "pinned", "pinned": "x1y2z3w4", "spin": "x1y2z3w4", "pass": "forward"},
    **{"forward_pass": "checkpointed", "key_padding_mask": "float32", "max_tokens": 128, "pattern": r"(?u)\b\w+\b"},
    **{"patience": 3, "password_reset": 0.83, "password_reset_rate": "high", "secret_agent": "james.bond.007"},
    **{"token_budget": 4096, "cookie_recipe": "chocolate-chip", "passport": "GB1234567", "keynote": "A12bc34de"},
    **{"pwd": "/home/me/x1y2", "PWD": "/home/me/runs/3f9c2a71d0be", "tokens": ["a1b2c3d4", "x"], "compass": "n1w2e3s4"},
    **{"secret_count": 12, "credential_type": "oauth2", "password_policy": "min8", "token_type": "bearer1x2"},
    **{"bearer_of_news": "maria", "webhook_enabled": True, "private_key_path": "/x/y", "api_key_name": "k1x2y3z4"},
    **{
        "secretary": "Anna4you",
        "auth": "basic",
        "creds_file": "x1y2z3w4",
        "bypass": "x9y8z7w6",
        "tokenization": "bpe32k5",
    },
    **{"secret_sha256": "ab12" * 16, "token_ids_sha256": "ab12" * 16, "otp_dropout": 0.1, "opt": "adamw8bit"},
    **{"public_key": "ssh-rsa AAAA", "foreign_key": "id12x34", "sort_key": "a1b2c3", "cache_key": "a1b2c3d4e5"},
    **{"api_secret": "${oc.env:API_KEY,null}", "db_password": "${oc.env:PASSWORD,${oc.env:PGPASSWORD}}"},
    **{"api_key": "${oc.env:API_KEY}", "password": None, "secret": "???", "hf_token": "null", "passes": "2x3y4z5w"},
    **{"google-auth": "2.62.2", "author": "Marie Curie", "path": "/data/a@b/c1", "password_dropout": 0.1},
}


def test_these_do_not():
    for key, value in INNOCENT.items():
        assert not is_secret(key, value), key
        assert mask_settings({"callbacks": {"mine": {key: value}}}) == {"callbacks": {"mine": {key: value}}}
        for text in (f"{key}={value}", f"{key}: {value}", f"{key}=={value}"):
            assert mask(text) == text
