"""Secrets planted in settings, variables, messages and errors, and values that only look like some.

A secret is drawn for each case, so that no list can hold it: a token of a vendor's form, what stands under a key or in
a variable that names a secret, or what a command line or a URL gives away. It must be in no file that the run leaves
and in nothing that is said. Innocent values must be where they were put.
"""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable

import yaml
from fuzz_inputs import quoted
from jail import OUTPUTS, Jail
from tiny import overrides

LETTERS, HEX = string.ascii_letters + string.digits, "0123456789abcdef"

PLANTED = '''
import logging
import warnings
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class Tell(Callback):
    """Say what stands in text.txt, in some way."""

    def __init__(self, how: str = "keep", **values):
        self.how, self.values = how, values

    def on_train_start(self, trainer, module):
        text = Path("text.txt").read_text()
        if self.how == "log":
            logging.getLogger("peftlab").info("%s", text)
        elif self.how == "error":
            logging.getLogger("peftlab").error(text, exc_info=RuntimeError(text))
        elif self.how == "warn":
            warnings.warn(text)
        elif self.how == "raise":
            raise RuntimeError(text)
        elif self.how == "chained":
            try:
                raise OSError(text)
            except OSError as error:
                raise ValueError("planted") from error
        elif self.how == "values":
            raise RuntimeError(f"refused: {self.values}")
'''


def planted(draw: random.Random, jail: Jail) -> str:
    """Plant a secret; return where."""
    secret, text, key, variable = _draw_secret(draw)
    way = draw.choice(["setting", "setting", "typed", "wrong key", "wrong value", "said", "said", "said", "sweep"])
    if variable:
        jail.environment[variable] = secret
    if way in ("setting", "typed", "wrong key", "wrong value") and key is None:
        key, way = draw.choice(["note", "server", "url", "command"]), draw.choice(["setting", "said"])
    how = draw.choice(["log", "error", "warn", "raise", "chained"]) if way in ("said", "sweep") else "keep"
    if way == "setting" and draw.random() < 0.3:
        how = "values"
    (jail.here / "planted.py").write_text(PLANTED)
    (jail.here / "text.txt").write_text(text if way in ("said", "sweep") else "nothing")
    fixed = ["allow=[planted]", *_fixed(jail)]
    node = {"_target_": "planted.Tell", "how": how}
    if way == "setting":
        node |= {key or "note": text if key in (None, "note", "server", "url", "command") else secret}
    arguments = _experiment(jail, {"callbacks": {"tell": node}})
    if way == "typed":
        arguments.append(f"+callbacks.tell.{key}={quoted(secret)}")
    elif way == "wrong key":
        arguments.append(f"{draw.choice(['peft.', 'data.', '+peft.', '+'])}{key}={quoted(secret)}")
    elif way == "wrong value":
        place = draw.choice(["peft.r", "seed", "optimizer.lr", "data.source", "callbacks.tell._target_"])
        arguments.append(f"{'++' if '.' in place else ''}{place}={{{key}: {quoted(secret)}}}")
    if way == "sweep":
        ended = jail.train("-m", *arguments, *fixed, "seed=1,2", may_raise=True)
    else:
        ended = jail.train(*arguments, *fixed, may_raise=True)
    _look_for(secret, ended.said, jail, f"{way} {how} {key or variable or ''}: {text[:120]!r}")
    return f"{way} {how} {key} {variable}: {text[:200]}"


def _fixed(jail: Jail) -> list[str]:
    given = overrides(jail.base / "model", jail.base / "data", "budget.max_steps=2")
    return [one for one in given if one not in ("budget.max_steps=24", "callbacks=[]")] + [
        "callbacks=[]",
        "logger=[csv]",
    ]


def _experiment(jail: Jail, tree: dict[str, object]) -> list[str]:
    path = jail.here / "own_conf" / "experiment" / "x.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# @package _global_\n" + yaml.safe_dump(tree, allow_unicode=True))
    return ["--config-dir", "own_conf", "+experiment=x"]


def _look_for(secret: str, said: str, jail: Jail, what: str) -> None:
    """Look for it in all that has been said and left, as it is, and as JSON and Python would write its lines."""
    forms = {secret, *(line for line in secret.splitlines() if len(line) >= 20)}
    places = {"the terminal": said}
    for root in [*(jail.here / name for name in OUTPUTS), jail.root / "home", jail.root / "tmp"]:
        places |= {
            f"{path.relative_to(jail.root)}": path.read_bytes().decode(errors="replace")
            for path in root.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        places |= {f"the name {path.name}": path.name for path in root.rglob("*")}
    leaked = sorted(place for place, content in places.items() if any(form in content for form in forms))
    if leaked:
        jail.fault("secret leaked", f"{what}: in {', '.join(leaked[:4])}")


def _body(draw: random.Random, letters: str, length: int) -> str:
    body = "".join(draw.choice(letters) for _ in range(length - 3))
    return body + draw.choice(string.digits) + draw.choice(letters[-6:]) + draw.choice(string.digits)


def _draw_secret(draw: random.Random) -> tuple[str, str, str | None, str | None]:
    """Return a secret, a text with it, and the key or the variable that it stands under, if it needs one."""
    return draw.choice([_of_a_form, _of_a_form, _under_a_key, _in_a_variable, _given_away])(draw)


def _of_a_form(draw: random.Random) -> tuple[str, str, str | None, str | None]:
    body = lambda length, letters=LETTERS: _body(draw, letters, length)  # noqa: E731
    upper = string.ascii_uppercase + string.digits
    forms: list[Callable[[], str]] = [
        lambda: "hf_" + body(34),
        lambda: draw.choice(["ghp_", "gho_", "ghs_"]) + body(36),
        lambda: "github_pat_" + body(22) + "_" + body(59),
        lambda: "glpat-" + body(20),
        lambda: "sk-proj-" + body(48),
        lambda: "sk-ant-api03-" + body(93),
        lambda: "AKIA" + body(16, upper),
        lambda: "AIza" + body(35),
        lambda: f"xoxb-{body(12, string.digits)}-{body(24)}",
        lambda: "nvapi-" + body(64),
        lambda: "gsk_" + body(52),
        lambda: "r8_" + body(37),
        lambda: "dop_v1_" + body(64, HEX),
        lambda: "xai-" + body(80),
        lambda: "shpat_" + body(32, HEX),
        lambda: "ntn_" + body(46),
        lambda: "glrt-" + body(20),
        lambda: "GOCSPX-" + body(28),
        lambda: "AGE-SECRET-KEY-1" + body(58, upper),
        lambda: f"SG.{body(22)}.{body(43)}",
        lambda: "SK" + body(32, HEX),
        lambda: f"{draw.randrange(10**8, 10**10)}:AA{body(33)}",
        lambda: "pypi-" + body(80),
        lambda: "npm_" + body(36),
        lambda: f"eyJ{body(30)}.eyJ{body(50)}.{body(43)}",
        lambda: "sk_live_" + body(24),
        lambda: "dckr_pat_" + body(27),
        lambda: "hvs." + body(24),
        lambda: "whsec_" + body(32),
        lambda: "lin_api_" + body(40),
        lambda: _private_key(draw),
    ]
    secret = draw.choice(forms)()
    words = [
        "the server refuses {}",
        "{}",
        "using {} for it",
        "got '{}'",
        '{{"x": "{}"}}',
        "a={}",
        "https://h/x?y={}",
        "({})",
    ]
    return secret, draw.choice(words).format(secret), None, None


def _private_key(draw: random.Random) -> str:
    body = base64.b64encode(draw.randbytes(400)).decode()
    kind = draw.choice(["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
    lines = "\n".join(body[n : n + 64] for n in range(0, len(body), 64))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


def _under_a_key(draw: random.Random) -> tuple[str, str, str | None, str | None]:
    who = draw.choice(["", "db_", "wandb_", "my_", "smtp_", "admin_", "hf_", "client_", "user_"])
    keys = ["password", "passwd", "api_key", "apikey", "secret", "token", "access_token", "private_key", "passphrase"]
    keys += ["credentials", "auth_token", "secret_key", "pat", "webhook", "pin", "license_key", "creds", "pwd", "pw"]
    keys += [
        "otp_seed",
        "session_cookie",
        "bearer_token",
        "encryption_key",
        "ssh_key",
        "signing_secret",
        "client_secret",
    ]
    key = who + draw.choice(keys)
    key = draw.choice([key, key, key.upper(), key.title().replace("_", "")])
    secret = _body(draw, LETTERS + "-_", draw.choice([12, 20, 32]))
    forms = [
        f"{key}={secret}",
        f"{key}: {secret}",
        f'{{"{key}": "{secret}"}}',
        f"--{key.lower()} {secret}",
        f"{{'{key}': '{secret}'}}",
    ]
    return secret, "cannot connect with " + draw.choice(forms), key, None


def _in_a_variable(draw: random.Random) -> tuple[str, str, str | None, str | None]:
    names = ["SLACK_WEBHOOK_URL", "VAULT_PIN", "APP_PASSWORD", "MY_API_KEY", "DB_PASS", "SERVICE_TOKEN", "AUTH_SECRET"]
    names += ["SMTP_PASSWORD", "AWS_SECRET_ACCESS_KEY", "LICENSE_KEY", "SESSION_COOKIE", "GIT_PAT", "ENCRYPTION_KEY"]
    name = draw.choice(names)
    secret = _body(draw, LETTERS, draw.choice([10, 16, 40]))
    if name.endswith("URL"):
        secret = f"https://hooks.example.org/services/{_body(draw, LETTERS, 24)}"
    return secret, draw.choice(["answer of {}: 403", "tried {}", "{}", "x{}x"]).format(secret), None, name


def _given_away(draw: random.Random) -> tuple[str, str, str | None, str | None]:
    secret = _body(draw, LETTERS, draw.choice([12, 16, 40]))
    form = draw.choice(
        [
            *("curl -u user:{} https://h/x", "curl --user user:{} h", "mysql -uroot -p{} db", "tool --password {}"),
            *(
                "tool --token {} run",
                "machine api.h.org login user password {}",
                "https://user:{}@h.org/x",
                "postgres://u:{}@h/db",
            ),
            *(
                "Authorization: Bearer {}",
                "authorization: Basic {}",
                "export DB_PASSWORD={}",
                "PGPASSWORD={} psql",
                "redis://:{}@h:1",
            ),
            *(
                "https://h/x?api_key={}&y=1",
                "sshpass -p {} ssh h",
                "docker login -u me -p {}",
                "X-Api-Key: {}",
                "'password': '{}'",
            ),
        ]
    )
    return secret, "failed: " + form.format(secret), None, None


# Innocent values -----------------------------------------------------------------------------------------------------


def innocent(draw: random.Random, jail: Jail) -> str:
    """Put values that are no secrets where secrets would be masked; return them."""
    values = dict(_draw_innocent(draw) for _ in range(3))
    text = "; ".join(draw.choice([f"{key}={value}", f"{key}: {value}"]) for key, value in values.items())
    if draw.random() < 0.3:
        jail.environment["APP_PASSWORD"] = draw.choice(["completed", "validation", "test", "lora", "entity_f1"])
    (jail.here / "planted.py").write_text(PLANTED)
    (jail.here / "text.txt").write_text(text)
    node = {"_target_": "planted.Tell", "how": draw.choice(["log", "keep", "keep"]), **values}
    jail.train(*_experiment(jail, {"callbacks": {"tell": node}}), "allow=[planted]", *_fixed(jail), "run_dir=runs/x")
    run = jail.here / "runs" / "x"
    if not (run / "config.yaml").exists():
        jail.fault("harness", f"no run with {values}")
        return text
    kept = yaml.safe_load((run / "config.yaml").read_text())["callbacks"]["tell"]
    for key, value in values.items():
        if kept.get(key) != value:
            jail.fault("innocent value masked", f"config.yaml: {key} = {value!r} became {kept.get(key)!r}")
    if "****" in (run / "record.json").read_text():
        lines = [line.strip() for line in (run / "record.json").read_text().splitlines() if "****" in line]
        jail.fault("innocent value masked", f"record.json: {'; '.join(lines[:3])}")
    log = (run / "log.txt").read_text()
    if node["how"] == "log" and text not in log:
        line = next((line for line in log.splitlines() if text[:8] in line or "****" in line), "gone")
        jail.fault("innocent value masked", f"log.txt: {text!r} became {line!r}")
    return text


def _draw_innocent(draw: random.Random) -> tuple[str, str]:
    word = draw.choice(["average", "maximum", "north", "store", "none", "cls", "first", "words", "monthly"])
    number = str(draw.randrange(10**6))
    digest = _body(draw, HEX, draw.choice([7, 40, 64]))
    uuid = "-".join(_body(draw, HEX, length) for length in (8, 4, 4, 4, 12))
    pairs = [
        *(
            ("pooling_token", word),
            ("secret_santa", word),
            ("bearer", word),
            ("token", word),
            ("credential_helper", word),
        ),
        *(
            ("authorization_model", word),
            ("user_tokens", number),
            ("secret_word_list", f"{word}.txt"),
            ("cookie", word),
        ),
        *(
            ("pad_token", "<pad>"),
            ("max_tokens", number),
            ("num_tokens", number),
            ("token_type", word),
            ("mask_token", "[MASK]"),
        ),
        *(
            ("commit", digest),
            ("sha256", digest),
            ("run_id", digest[:12]),
            ("uuid", uuid),
            ("key", word),
            ("sort_key", word),
        ),
        *(("passage", f"{word} {word}"), ("compass", word), ("bypass", word), ("monkey", word), ("keyboard", word)),
        *(("url", f"https://h.org/{word}/{number}"), ("path", f"/data/{word}/{digest}.txt"), ("date", f"on {number}")),
        *(
            ("password_policy", word),
            ("token_count", number),
            ("secretary", word),
            ("pin_memory", word),
            ("pattern", word),
        ),
        *(("model", f"sk-{word}-{word}"), ("tokenizer", f"hf_{word}"), ("name", f"task-{word}-{word}"), ("spin", word)),
        *(
            ("author", word),
            ("authority", word),
            ("hidden_key_size", number),
            ("key_padding", word),
            ("pwd_policy", word),
        ),
        *(
            ("forward_pass", word),
            ("first_pass", word),
            ("primary_key", word),
            ("foreign_key", word),
            ("key_value", word),
        ),
    ]
    return draw.choice(pairs)
