"""An index over stored answers: search by words, by meaning, and by both. NumPy, for up to some 100,000 answers."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from peftlab.answer_search.arguments import RETRIEVERS
from peftlab.answer_search.bm25 import Bm25
from peftlab.answer_search.stored import Stored
from peftlab.errors import UserError
from peftlab.storage.atomic import is_torn, replacing
from peftlab.storage.digests import file_sha256

Retriever = Literal["bm25", "dense", "hybrid"]
"""``bm25``: by words; ``dense``: by the cosine of embeddings; ``hybrid``: by reciprocal rank fusion of both (Cormack et
al. 2009, k = 60)."""

FUSION_K = 60

Encode = Callable[[Sequence[str], Literal["query", "passage"]], np.ndarray]
"""Returns embeddings of length 1, (texts, features)."""

_ABOUT, _ANSWERS, _VECTORS = "index.json", "answers.jsonl", "vectors.npy"
_VERSION = 1


@dataclass
class AnswerIndex:
    """Answers that can be searched."""

    answers: list[Stored]
    vectors: np.ndarray | None = None
    """Their embeddings, of length 1, (answers, features); None: they are searched by words alone."""
    encoder: dict[str, Any] = field(default_factory=dict)
    """What made them, as JSON values; empty: nothing."""
    encode: Encode | None = field(default=None, repr=False)
    """The same encoder, for questions."""
    bm25: Bm25 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Index the words."""
        self.bm25 = Bm25.of([one.searched for one in self.answers])

    @property
    def retrievers(self) -> tuple[str, ...]:
        """The ways in which it can be searched."""
        return RETRIEVERS if self.vectors is not None else RETRIEVERS[:1]

    def search(
        self, question: str, retriever: Retriever, top_k: int, min_score: float | None = None
    ) -> list[dict[str, Any]]:
        """Return the best answers to a question, best first: ``id``, ``text``, ``score``.

        Of equal scores, the answer that comes first in the index is first. Answers that share no word with the question
        are none by ``bm25``.

        Args:
            question: a text.
            retriever: one of `retrievers`.
            top_k: the most answers.
            min_score: the least score: of ``bm25``, or the cosine, also of ``hybrid``, whose own score is but one of
                ranks; None: any.

        Raises:
            UserError: the index has no embeddings, and the retriever needs them.
        """
        if retriever not in self.retrievers:
            raise UserError(
                f"retriever {retriever}: this index has {' and '.join(self.retrievers)} only. Make it with an encoder: "
                "`peftlab answers FOLDER --out INDEX --model minilm`"
            )
        words = self.bm25.scores(question) if retriever != "dense" else np.zeros(len(self.answers))
        cosines = self._cosines(question) if retriever != "bm25" else np.zeros(len(self.answers))
        scores, judged = {
            "bm25": (words, words),
            "dense": (cosines, cosines),
            "hybrid": (fused([np.where(words > 0, words, -np.inf), cosines]), cosines),
        }[retriever]
        order = np.argsort(-scores, kind="stable")
        allowed = judged >= (-np.inf if min_score is None else min_score)
        if retriever == "bm25":
            allowed &= words > 0
        chosen = [int(n) for n in order if allowed[n]][:top_k]
        return [{"id": self.answers[n].id, "text": self.answers[n].text, "score": float(scores[n])} for n in chosen]

    def _cosines(self, question: str) -> np.ndarray:
        assert self.encode is not None
        assert self.vectors is not None
        cosines: np.ndarray = (self.vectors @ self.encode([question], "query")[0]).astype(np.float64)
        return cosines

    def write(self, folder: Path) -> None:
        """Write the index to a folder, which is made.

        What is read of it while this writes, or after this was killed, is the index as a whole, or found damaged.

        Raises:
            UserError: the folder holds something else.
        """
        if folder.is_dir() and not all(map(_is_of_an_index, folder.iterdir())) and not (folder / _ABOUT).is_file():
            raise UserError(f"{folder}: holds other files. Name a folder that is empty or does not exist")
        folder.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(asdict(one), ensure_ascii=False) for one in self.answers)
        contents = {_ANSWERS: "".join(f"{line}\n" for line in lines).encode()}
        if self.vectors is not None:
            np.save(array := io.BytesIO(), self.vectors.astype(np.float32), allow_pickle=False)
            contents[_VECTORS] = array.getvalue()
        for name, content in contents.items():
            with replacing(folder / name) as temporary:
                temporary.write_bytes(content)
        if self.vectors is None:
            (folder / _VECTORS).unlink(missing_ok=True)
        # of what this has written: another process may have put its own in the place since
        sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        about = {"version": _VERSION, "answers": len(self.answers), "encoder": self.encoder, "sha256": sha256}
        with replacing(folder / _ABOUT) as temporary:
            temporary.write_text(f"{json.dumps(about, indent=2, ensure_ascii=False)}\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> AnswerIndex:
        """Return the index in a folder, which has no `encode` yet.

        Raises:
            UserError: there is none, or it is damaged.
        """
        if not (folder / _ABOUT).is_file():
            raise UserError(f"{folder}: is no index of answers. Make one with `peftlab answers FOLDER --out {folder}`")
        try:
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            if about["version"] != _VERSION:
                raise ValueError(f"it is of version {about['version']}")
            # an index of an earlier version has no digests; a digest is of a file that can be read to its end
            files = [_ANSWERS, *([_VECTORS] if about["encoder"] else [])]
            digests = {name: file_sha256(folder / name) for name in files}
            of_another = [name for name, own in about.get("sha256", {}).items() if digests.get(name) != own]
            with (folder / _ANSWERS).open(encoding="utf-8", newline="\n") as lines:
                answers = [Stored(**json.loads(line)) for line in lines]
            if not all(isinstance(text, str) for one in answers for text in (one.id, one.text, one.question)):
                raise ValueError("an answer is no text")
            vectors = np.load(folder / _VECTORS, allow_pickle=False) if about["encoder"] else None
            if vectors is not None and vectors.ndim != 2:
                raise ValueError("its embeddings are no table")
            if of_another or len(answers) != about["answers"] or (vectors is not None and len(vectors) != len(answers)):
                raise ValueError("its files do not belong together")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{folder}: is damaged ({error}). Make it again with `peftlab answers`") from error
        return cls(answers, vectors, about["encoder"])


def _is_of_an_index(file: Path) -> bool:
    """Return whether `file` may be left of an index whose writing was killed."""
    return file.name in (_ANSWERS, _VECTORS) or is_torn(file)


def fused(several: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum over rankings of 1 / (60 + rank) for each answer, (answers,); see `Retriever`.

    Args:
        several: the scores of the answers in each ranking; equal ones are ranked in their order. One of -inf is in it
            nowhere, and gets nothing: all that share no word with a question would else be ranked by their names.
    """
    total = np.zeros(len(several[0]))
    for scores in several:
        order = np.argsort(-scores, kind="stable")
        total[order] += np.where(scores[order] > -np.inf, 1 / (FUSION_K + 1 + np.arange(len(order))), 0.0)
    return total
