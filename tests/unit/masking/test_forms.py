"""Credentials are known by their forms, wherever they stand."""

from __future__ import annotations

import pytest

from peftlab.masking.forms import FORMS
from peftlab.masking.mask import mask

PLACES = [
    "{} was refused",
    "it is {}.",
    "see '{}', please",
    '"{}"',
    "`{}`",
    "({})",
    "a={}",
    "https://host.example/page?a={}&b=1",
    "a%3D{}",
    '{"text": "{}"}',
    r'{"text": "first\n{}\n"}',
    "\x1b[33m{}\x1b[0m",
    "command --flag={} other",
]


@pytest.mark.slow
def test_every_example_is_masked_wherever_it_stands():
    for form in FORMS:
        rest = form.example.removesuffix("\n-----END PRIVATE KEY-----").removesuffix("@host.example/db")[-12:]
        for place in PLACES:
            shown = mask(place.replace("{}", form.example))
            assert "****" in shown, (form.issuer, place)
            assert rest not in shown, (form.issuer, place)


WORDS = [
    *(
        "sk-learn",
        "sk-learn-datasets-2024",
        "hf_hub_download",
        "gsk_words",
        "r8_lora",
        "xai-explanations",
        "key-value",
    ),
    *("fc-layer", "fw_norm", "pa-rallel", "re_sampled_examples_2024_train_split", "ntn_model", "cr_loss", "napi_x"),
    *(
        "glm-4-9b-chat",
        "gl-matrix",
        "glue-mnli-2023-split",
        "SG. and SK",
        "AKIA is a prefix",
        "eyJ is how JSON begins",
    ),
    *(
        "1234567890:abc",
        "10:35:12",
        "pat.txt",
        "API-4",
        "A3-B4",
        "v1.0-rc1",
        "sl.en",
        "SKIP",
        "secret_santa_2024_edition",
    ),
    *("https://host:8080/@user", "https://host.example/a@b/c", "me@host.example", "git@host.example:me/x.git"),
]


def test_what_only_begins_so_stays():
    for text in WORDS:
        for place in PLACES:
            assert mask(place.replace("{}", text)) == place.replace("{}", text)


ORACLE = [
    *(
        "AzureStorageKeyDetector",
        "DiscordBotTokenDetector",
        "GitHubTokenDetector",
        "GitLabTokenDetector",
        "JwtTokenDetector",
    ),
    *("MailchimpDetector", "NpmDetector", "PypiTokenDetector", "SendGridDetector", "StripeDetector"),
    "TelegramBotTokenDetector",
]
"""Those of detect-secrets whose secrets have a form of their own."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ORACLE)
def test_what_another_program_finds_is_masked(name):
    settings = pytest.importorskip("detect_secrets.core.plugins.util")
    hypothesis = pytest.importorskip("hypothesis")
    detector = {one.__name__: one for one in settings.get_mapping_from_secret_type_to_class().values()}[name]()
    letters = hypothesis.strategies.characters(min_codepoint=33, max_codepoint=126)
    forms = [hypothesis.strategies.from_regex(form, fullmatch=True, alphabet=letters) for form in detector.denylist]

    @hypothesis.settings(max_examples=20, derandomize=True, deadline=None, database=None)
    @hypothesis.given(hypothesis.strategies.one_of(forms))
    def check(text):
        for secret in filter(lambda one: isinstance(one, str) and len(one) >= 8, detector.analyze_string(text)):
            assert secret not in mask(f"see {text} here")

    check()
