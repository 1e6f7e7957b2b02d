"""Texts, words and labels of every kind, drawn."""

from __future__ import annotations

import random
import unicodedata

_PLAIN = "the report was read by Marie Curie of New York and Acme hired nobody in Paris yesterday".split()  # noqa: SIM905
_NFC = [
    "caf\u00e9",
    "\u00c5ngstr\u00f6m",
    "\u304c\u307c\u3093",
    "\u30ac\u30dc\u30f3",
    "\ud55c\uad6d",
    "\u1e69",
    "Zu\u0308rich",
]
_ATOMS = [
    *_NFC,
    *(unicodedata.normalize("NFD", word) for word in _NFC),
    *"\u6771\u4eac \u8fbb\U000e0100".split(),  # noqa: SIM905
    *"\u4f60\u597d\uff0c\u4e16\u754c".split(),  # noqa: SIM905
    *"\u0928\u092e\u0938\u094d\u0924\u0947 \u0e01\u0e33\u0e25\u0e31\u0e07".split(),  # noqa: SIM905
    *"\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627 \u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd".split(),  # noqa: SIM905
    *"\u202eRTL\u202c \u0130stanbul".split(),  # noqa: SIM905
    *"Stra\u00dfe \ufb01ne \uff21\uff22\uff11".split(),  # noqa: SIM905
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1eb\U0001f1f7",
    "1\ufe0f\u20e3",
    "\u2764\ufe0f",
    "\U0001f44d\U0001f3fd",
    "zero\u200bwidth",
    "soft\u00adhyphen",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u0301",
    "\u0378",
    "\uffff",
    "\ue000",
    "\U0010ffff",
    "nul\x00nul",
    "bell\x07",
    "\x1b[31mred",
    "next\x85line",
    "line\u2028separator",
    "file\x1cseparator",
    "no\u00a0break",
    *"[SEP] [CLS] [PAD] [UNK] [MASK] </s> <s> ##ing".split(),  # noqa: SIM905
    *"U.S. 3.5 1,000 10:30 O'Brien AT&T don't".split(),  # noqa: SIM905
    *"http://x.y/?q=1&t=2 e-mail@example.org #tag @you 50% $5 = -1 +x".split(),  # noqa: SIM905
    *"... -- `` '' \u201cquoted\u201d \u2014 \"".split(),  # noqa: SIM905
    *"' , ; | ^ \\ \\n".split(),  # noqa: SIM905
    *"\\t { } ${x} ${oc.env:HOME} %s ~ null NaN *** # - :".split(),  # noqa: SIM905
    'say "hi"',
    '"',
    "password: hunter2",
    "api_key=abcdef123456",
    "Bearer abcdefghijklmnop",
    "https://user:secret@example.org/x",
    "a" * 200,
    "\u4eba" * 60,
]
_BETWEEN = [" "] * 30 + ["  ", "\t", "\u00a0", "\u3000", "", "\n", "\r\n", "\r", "\u2009"]


def plain_text(draw: random.Random) -> str:
    return " ".join(draw.choice(_PLAIN) for _ in range(draw.randint(2, 9)))


def draw_text(draw: random.Random) -> str:
    """Return a text; most are plain, since what is always odd hides what is odd about it."""
    kind = draw.random()
    if kind < 0.45:
        return plain_text(draw)
    if kind < 0.5:
        return chr(
            draw.choice([draw.randrange(33, 0x300), draw.randrange(0x300, 0xD800), draw.randrange(0x1F300, 0x1FAFF)])
        )
    if kind < 0.53:
        return " ".join(draw.choice(_PLAIN) for _ in range(draw.choice([100, 400, 3000])))
    text = ""
    for _ in range(draw.randint(1, 9)):
        atom = draw.choice(_ATOMS) if draw.random() < 0.5 else draw.choice(_PLAIN)
        text += (draw.choice(_BETWEEN) if text else "") + atom
    return text


def draw_word(draw: random.Random) -> str:
    """Return a word without the spaces, tabs and line ends that part columns and lines."""
    atom = draw.choice(_PLAIN) if draw.random() < 0.7 else draw.choice(_ATOMS)
    return "_".join(atom.split(" ")).replace("\t", "_").replace("\n", "_").replace("\r", "_")


_LABELS: dict[str, list[str]] = {
    "plain": ["negative", "neutral", "positive", "PER", "LOC"],
    "colons": ["billing: refund", "billing: charge", "a:b", ":", "x:"],
    "equals": ["a=b", "x=1", "=", "k==v"],
    "secrets": ["password: reset", "password: change", "token=expired", "secret: santa", "api_key=lost", "auth: none"],
    "passwords": [
        "IT > password: reset",
        "IT > password: lost",
        "cookie: consent",
        "credentials=lost",
        "hf_abcdefgh12345678",
    ],
    "numbers": ["0", "1", "2", "10", "9"],
    "odd numbers": ["-1", "01", "1", "1.0", "1_000", "\u0661", "1e3", "0x1F", "12:30", "\u00b2"],
    "booleans": ["true", "false"],
    "YAML": [
        "yes",
        "no",
        "~",
        "null",
        "1e3",
        "on",
        "NaN",
        ".inf",
        "- a",
        "{a: b}",
        "[x]",
        "!tag",
        "&a",
        "*a",
        "? x",
        "#c",
        "%d",
        "@at",
    ],
    "interpolations": ["${x}", "\\${x}", "${oc.env:HOME}", "$", "${", "${}", "${a", "???", "${data.name}"],
    "slashes": ["news/sport", "news/art", "a\\b", "/", ".", "..x"],
    "quotes": ["it's", '"quoted"', 'a"b', "''", "`x`"],
    "commas": ["a,b", "c;d", "e|f", "g, h", "[i]", "(j)"],
    "Unicode": [
        "\u597d",
        "\u574f",
        "d\u00e9j\u00e0",
        "\U0001f600",
        "\U0001f469\u200d\U0001f467",
        "\u0645\u0631\u062d\u0628\u0627",
        "\u00df",
    ],
    "look-alikes": ["A", "\u0410", "\u0391", "caf\u00e9", "cafe\u0301", "\ufb01", "fi", "a", "K", "\u212a"],
    "spaces": ["very good", "very  good", "very\u00a0good", "not good"],
    "case": ["Yes", "yes", "YES"],
    "dots": ["a.b", "a.b.c", "v1.0", "f1/a", "loss", "accuracy", "label", "text"],
    "long": ["x" * 300, "y" * 130, "\u5ba2" * 100, "z"],
    "markup": ["<b>", "<script>", "&amp;", "*bold*", "| a |", "\\n", "--- ", "# h"],
    "variables": ["HOME", "root", "/root", "postgres", "PATH", "utf-8"],
    "splits": ["train", "test", "O", "B-X", "[PAD]", "-"],
}


def draw_labels(draw: random.Random, kind: str) -> tuple[str, list[str]]:
    """Return the name of a style, and labels of it."""
    if draw.random() < 0.02 and kind != "columns":
        return "many", [f"class {n}" for n in range(200)]
    if draw.random() < 0.05 and kind == "json_lines":
        return "line ends", ["one\ntwo", "one", "two\r\n2", "a\tb"]
    style = draw.choice(list(_LABELS)) if draw.random() < 0.75 else "plain"
    labels = draw.sample(_LABELS[style], min(len(_LABELS[style]), draw.choice([2, 2, 3, 4, 6])))
    return style, labels
