"""The forms that identify a credential anywhere: its issuer's prefix, and the characters that follow.

To add a form, add a row. Every row has an example, which the tests mask in prose, JSON, URLs and commands. The examples
are made up, and assembled here, so that no scanner takes this file for a leak.

A pattern must fail early where it does not match: its repetitions are bounded, or cannot restart within themselves.
Otherwise the time grows with the square of the text's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice
from typing import NamedTuple

_ALNUM = "A-Za-z0-9"
_WORD = "A-Za-z0-9_-"
_HEX = "0-9a-fA-F"
_BASE64 = "A-Za-z0-9+/=_-"
_DOTTED = "A-Za-z0-9_.-"

_BLOCK = r"[A-Z0-9\s\\]{0,60}?PRIVATE\sKEY(?:\sBLOCK)?\s?-{4,5}"
_ENOUGH = 30
"""The number of letters that make no word, even without a digit."""


class Form(NamedTuple):
    """The form of an issuer's credentials."""

    issuer: str
    hints: str
    """Separated by spaces: every text with such a credential holds one of them; only such a text is searched."""
    pattern: str
    example: str


def _sample(count: int, letters: str = _WORD) -> str:
    sample = "x7Kq2mZ9" if "a-z" in letters else "Q7XK2MZ9" if "A-Z" in letters else "7ac20f91"
    return "".join(islice(cycle(sample), count))


def _hex(count: int) -> str:
    return _sample(count, _HEX)


def _after(issuer: str, prefixes: str, letters: str = _ALNUM, least: int = 16, words: bool = False) -> Form:
    """Return the form of at least `least` of `letters` after one of `prefixes`.

    Args:
        issuer: the issuer of the credentials.
        prefixes: their beginnings, separated by spaces.
        letters: the characters that follow, as in a character class.
        least: the smallest number of these.
        words: whether a word may begin so too: then a digit must be near, or the text must be too long for a word.
    """
    begins = "|".join(map(re.escape, prefixes.split()))
    near = rf"(?=[{letters}]{{0,{least}}}\d|[{letters}]{{{_ENOUGH}}})" if words else ""
    example = prefixes.rsplit(maxsplit=1)[-1] + _sample(max(least, 32), letters)
    return Form(issuer, prefixes, rf"(?:{begins}){near}[{letters}]{{{least},}}", example)


FORMS: tuple[Form, ...] = (
    Form("peftlab", "peftlab_", r"peftlab_[a-z\d-]{1,40}_[\w-]{43}", "peftlab_name_" + _sample(43)),
    # models and their hosts
    _after("Hugging Face", "hf_oauth_ api_org_ hf_"),
    _after("OpenAI and its like", "sk-proj- sk-svcacct- sk-admin- sk-ant- sk-or- sk-lf- sk-None-", _WORD),
    Form("OpenAI and its like", "sk-", r"sk-(?=[A-Za-z]{0,16}\d)[A-Za-z0-9]{16}[\w-]*", "sk-" + _sample(40)),
    Form(
        "OpenAI and its like",
        "sk-",
        r"sk-(?=[\w-]{0,40}\d)(?=[a-z\d_-]{0,40}[A-Z])[\w-]{36,}",
        "sk-" + "-".join([_sample(9)] * 5),
    ),
    _after("NVIDIA", "nvapi-", _WORD),
    _after("Groq", "gsk_", words=True),
    _after("Replicate", "r8_", words=True),
    _after("xAI", "xai-", words=True),
    _after("Perplexity", "pplx-", words=True),
    _after("Cerebras", "csk-", words=True),
    _after("Together", "tgp_v1_", _WORD),
    _after("Fireworks", "fw_", words=True),
    _after("Pinecone", "pcsk_", _WORD),
    _after("LangSmith", "lsv2_pt_ lsv2_sk_", _WORD),
    _after("Jina", "jina_", least=24, words=True),
    _after("Voyage", "pa-", least=24, words=True),
    _after("Tavily", "tvly-", _WORD, words=True),
    _after("RunPod", "rpa_", least=24, words=True),
    _after("Firecrawl", "fc-", _HEX, least=32),
    _after("ElevenLabs", "sk_", _HEX, least=40),
    _after("Kaggle", "KGAT_", words=True),
    _after("Modal", "ak- as-", least=22, words=True),
    _after("Weights & Biases", "local-", _HEX, least=40),
    Form("Weights & Biases", "wandb_v", r"wandb_v\d_[\w-]{16,}", "wandb_v1_" + _sample(40)),
    # code and packages
    _after("GitHub", "ghp_ gho_ ghu_ ghs_ ghr_"),
    _after("GitHub", "github_pat_", _WORD),
    Form("GitLab", "gl", r"gl[a-z]{2,6}-(?=[\w-]{0,16}\d|[\w-]{20})[\w-]{16}[\w.-]*", "glrt-t3_" + _sample(27)),
    _after("GitLab", "GR1348941", _WORD),
    _after("PyPI", "pypi-", _WORD, least=32),
    _after("npm", "npm_", least=30),
    _after("RubyGems", "rubygems_", _HEX, least=32),
    _after("crates.io", "cio", least=32),
    _after("NuGet", "oy2", least=43),
    _after("Docker", "dckr_pat_ dckr_oat_", _WORD),
    _after("Artifactory", "AKCp cmVmd", least=40),
    _after("Atlassian", "ATATT3 ATCTT3 ATSTT3 ATBB", _BASE64, words=True),
    _after("Sourcegraph", "sgp_", _HEX, least=40),
    _after("Sonar", "sqp_ squ_ sqa_", least=32),
    _after("CircleCI", "CCIPAT_", _WORD),
    _after("Buildkite", "bkua_ bkct_", words=True),
    _after("Postman", "PMAK-", "0-9a-f-", least=24),
    _after("Pulumi", "pul-", _HEX, least=40),
    _after("Prefect", "pnu_ pnb_", words=True),
    _after("Snyk", "snyk_uat. snyk_sat.", _DOTTED),
    # clouds, servers and databases
    _after("AWS", "AKIA ASIA ABIA ACCA AROA AIDA", "A-Z0-9", least=12),
    _after("AWS Bedrock", "ABSK bedrock-api-key-", _BASE64, least=60),
    Form("Azure", "Q~", r"[\w.~]{3}\dQ~[\w.~-]{30,}", "x7K8Q~" + _sample(34)),
    _after("Google", "AIza", _WORD, least=30),
    _after("Google", "GOCSPX-", _WORD),
    Form("Google", "ya29.", r"ya29\.[\w-]{10,}", "ya29." + _sample(40)),
    Form("Google", "1//0", r"1//0[\w-]{30,}", "1//0" + _sample(40)),
    _after("DigitalOcean", "dop_v1_ doo_v1_ dor_v1_", _HEX),
    _after("Heroku", "HRKU-", _WORD, least=20),
    _after("Databricks", "dapi dkea dose", _HEX, least=32),
    _after("Cloudflare", "cfut_ cfat_ cfk_", _WORD, words=True),
    _after("Cloudflare", "v1.0-", "0-9a-f-", least=60),
    _after("Fly.io", "fo1_ fm1a_ fm1r_ fm2_", _BASE64, least=32),
    _after("Vercel", "vcp_ vci_ vca_ vcr_ vck_", words=True),
    _after("Netlify", "nfp_ nfc_ nfo_ nfb_ nfu_", words=True),
    _after("Render", "rnd_", least=24, words=True),
    _after("Railway, Neon", "napi_ neon_", least=32),
    _after("Supabase", "sbp_ sb_secret_", _WORD, words=True),
    _after("PlanetScale", "pscale_tkn_ pscale_pw_ pscale_oauth_", _DOTTED),
    _after("Tailscale", "tskey-", _WORD),
    _after("Vault", "hvs. hvb. hvr.", _WORD),
    Form("Terraform", ".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{30,}", _sample(14) + ".atlasv1." + _sample(64)),
    _after("Doppler", "dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit.", _DOTTED),
    _after("1Password", "ops_eyJ", _BASE64, least=40),
    Form("1Password", "A3-", r"A3-[A-Z0-9]{6}(?:-[A-Z0-9]{5,11}){4,5}", "A3-Q7XK2M" + "-Q7XK2" * 5),
    _after("age", "AGE-SECRET-KEY-1 AGE-SECRET-KEY-PQ-1 AGE-PLUGIN-", "A-Z0-9"),
    _after("OpenShift", "sha256~", _WORD, least=40),
    _after("ngrok", "ngrok_ cr_", least=32, words=True),
    # what watches
    _after("Grafana", "glsa_ glc_", _BASE64),
    _after("New Relic", "NRAK- NRII- NRJS- NRAL-", _WORD),
    _after("Dynatrace", "dt0c01. dt0s01.", _DOTTED, least=24),
    _after("Sentry", "sntrys_ sntryu_", _BASE64),
    _after("PostHog", "phx_ phs_", least=24, words=True),
    _after("Langfuse", "sk-lf-", _WORD),
    # messages, shops and money
    _after("Slack", "xoxa- xoxb- xoxe- xoxe. xoxo- xoxp- xoxr- xoxs- xoxc- xoxd- xapp-", "A-Za-z0-9%_.-", least=10),
    Form(
        "Slack",
        "hooks.slack.com",
        r"(?<=hooks\.slack\.com/)[a-z]+/[\w+/-]{16,}",
        "https://hooks.slack.com/services/T0/B0/" + _sample(24),
    ),
    Form(
        "Discord",
        "M N O",
        r"[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}",
        "M" + _sample(25) + "." + _sample(6) + "." + _sample(38),
    ),
    Form("Discord", "/webhooks/", r"(?<=/webhooks/)\d{5,}/[\w-]{16,}", "/api/webhooks/12345678/" + _sample(60)),
    Form(
        "Teams",
        "/webhookb2/",
        r"(?<=/webhookb2/)[\w@-]{8,}/[\w@/-]{8,}",
        f"https://x.webhook.office.com/webhookb2/{_hex(32)}@{_hex(32)}/IncomingWebhook/{_hex(32)}",
    ),
    Form("Telegram", ":", r"\d{8,10}:(?:AA[\w-]{30,}|[\w-]{35}(?![\w-]))", "1234567890:AA" + _sample(33)),
    Form("Twilio", "SK", r"SK(?:[0-9a-z]{32}|[0-9a-fA-F]{32})(?![A-Za-z0-9])", "SK" + _hex(32)),
    Form("SendGrid", "SG.", r"SG\.[\w-]{10,}\.[\w-]{10,}", "SG." + _sample(22) + "." + _sample(43)),
    Form("Mailchimp", "-us", r"[0-9a-z]{32}-us\d{1,2}(?![A-Za-z0-9])", _hex(32) + "-us12"),
    _after("Mailgun", "key-", "0-9a-f", least=32),
    _after("Brevo", "xkeysib- xsmtpsib-", _WORD),
    _after("MailerSend", "mlsn.", least=32),
    Form("Resend", "re_", r"re_[A-Za-z0-9]{8}_[A-Za-z0-9]{16,}", f"re_{_sample(8)}_{_sample(24)}"),
    _after("Stripe", "sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_", least=10),
    _after("Stripe", "whsec_", _BASE64),
    _after("Square", "sq0atp- sq0csp- EAAA", _WORD, least=22, words=True),
    _after("Shopify", "shpat_ shpca_ shppa_ shpss_ shptka_", words=True),
    _after("Shippo, EasyPost", "shippo_live_ shippo_test_ EZAK EZTK", least=32),
    _after("Facebook", "EAACEdEose0cBA EAAM EAAC", least=60),
    _after("PayPal", "access_token$production$ access_token$sandbox$", _ALNUM + "$", least=16),
    _after("Razorpay", "rzp_live_ rzp_test_", least=14),
    _after("Flutterwave", "FLWSECK_TEST- FLWSECK-", _WORD, least=12),
    # offices
    _after("Notion", "ntn_", words=True),
    _after("Notion", "secret_", least=40, words=True),
    Form("Airtable", "pat", r"pat[A-Za-z0-9]{14}\.[0-9a-f]{40,}", "pat" + _sample(14) + "." + _hex(64)),
    _after("Asana, Linear", "lin_api_ lin_oauth_"),
    _after("Figma", "figd_ figu_ figo_", _WORD),
    _after("HubSpot", "pat-na1- pat-na2- pat-eu1- pat-ap1-", "0-9a-f-", least=24),
    _after("Dropbox", "sl.u. sl.B sl.", _WORD, least=60),
    _after("Typeform", "tfp_", _DOTTED, least=32),
    _after("Contentful", "CFPAT-", _WORD),
    _after("Mapbox", "sk.eyJ tk.eyJ", _DOTTED, least=24),
    _after("Yandex", "AQVN t1.9eu", _DOTTED, least=32),
    _after("Alibaba", "LTAI", least=16, words=True),
    # whoever issues them
    Form(
        "a JSON web token",
        "eyJ",
        r"(?<!-)eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
        ".".join(["eyJ" + _sample(20)] * 2 + [_sample(40)]),
    ),
    _after("JSON in base64", "eyJ", _BASE64, least=60),
    Form("a signed URL", "sig=", r"(?<=[?&]sig=)[^&\s\"'<>]+", "https://host.example/f?sv=1&sig=" + _sample(40)),
    Form("a signed URL", "ignature=", r"(?<=[Ss]ignature=)[^&\s\"'<>]{16,}", "https://x.y/?Signature=" + _hex(64)),
    # whoever holds them
    Form(
        "a private key",
        "BEGIN",
        rf"-{{4,5}}\s?BEGIN\s{_BLOCK}.*?(?:-{{4,5}}\s?END\s{_BLOCK}|\Z)",
        f"-----BEGIN PRIVATE KEY-----\n{_sample(64)}\n-----END PRIVATE KEY-----",
    ),
    Form("the user before a host", "@", r"(?<=://)[^/\s\"'<>\\]+(?=@)", f"postgres://me:{_sample(16)}@host.example/db"),
    # whose password holds a slash
    Form(
        "the user before a host",
        "@",
        r"(?<=://)[^/\s:@\"'<>\\]{0,80}:(?!\d{1,5}[/?#])[^\s\"'<>\\@]{1,80}(?=@)",
        f"postgres://me:{_sample(16)}/{_sample(16)}@host.example/db",
    ),
)


def find(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans in `text` that have one of the forms."""
    for hint, pattern in _HINTED:
        if hint in text:
            yield from (match.span() for match in _compiled(pattern).finditer(text))


_HINTED = [(hint, form.pattern) for form in FORMS for hint in form.hints.split()]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # no credential begins within a word
    return re.compile(rf"(?<![A-Za-z0-9_])(?:{pattern})", re.DOTALL)
