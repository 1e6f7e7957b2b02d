"""Words of plain text for what counts or compares them, in every script."""

from __future__ import annotations

SPACELESS = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""The characters of Thai, Lao, Burmese, Khmer, Japanese and Chinese, which write no space between words, for a class of
a regular expression. Each counts as a word: a whole sentence is nearly never met again."""

WORD = rf"[{SPACELESS}]|[^\W{SPACELESS}]+"
"""A word: one of these characters, or letters, digits and underscores of other scripts together."""

WORD_OF_TWO = rf"[{SPACELESS}]|[^\W{SPACELESS}]{{2,}}"
"""The same without single letters and digits, as scikit-learn counts words."""
