from __future__ import annotations

import json
import os
import unicodedata

import numpy as np
import pytest

from peftlab.answer_search.bm25 import Bm25, words_of
from peftlab.answer_search.index import AnswerIndex, fused
from peftlab.answer_search.ranking import scores_of
from peftlab.answer_search.stored import Stored, stored_answers
from peftlab.errors import DataError, UserError
from peftlab.storage.atomic import replacing

TEXTS = [
    "To close your account, write to us.",
    "A card that is lost is blocked at once, and a new card is sent.",
    "We are open from nine to five.",
    "",
    "Account fees: none, if the account has one card.",
]
QUESTIONS = ["close account", "my card is lost card", "when are you open?", "nothing of this kind", "account card"]


def test_bm25_is_that_of_bm25s():
    bm25s = pytest.importorskip("bm25s")
    texts = [text for text in TEXTS if text]  # of an empty one it makes a token
    theirs = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    theirs.index([words_of(text) for text in texts], show_progress=False)
    mine = Bm25.of(texts)
    for question in QUESTIONS:
        known = [word for word in words_of(question) if word in mine.words]
        expected = theirs.get_scores(known) if known else np.zeros(len(texts))
        assert mine.scores(question) == pytest.approx(expected, abs=1e-5)


def test_words_have_one_case_and_characters_stand_for_words_in_chinese():
    assert words_of("The CARD's Straße_1") == ["the", "card", "s", "strasse_1"]
    assert words_of("银行卡 abc银") == ["银", "行", "卡", "abc", "银"]


def test_words_are_found_in_every_script_and_however_an_accent_is_typed():
    index = Bm25.of(["เราเปิดเก้าโมงเช้า", "ប្រាក់ខែ", "Giờ mở cửa", "가게는 열어요"])
    for number, question in enumerate(("เปิดกี่โมง", "ប្រាក់", unicodedata.normalize("NFD", "mở cửa?"), "가게")):
        assert index.scores(question).argmax() == number
        assert index.scores(question)[number] > 0


def test_fusion_by_hand():
    assert fused([np.asarray([3.0, 1.0, 2.0]), np.asarray([0.0, 0.5, 0.0])]) == pytest.approx(
        [1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62 + 1 / 63]
    )


def test_scores_of_rankings_are_those_of_trec_eval():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    random = np.random.default_rng(0)
    ids = [f"a{n:02}" for n in range(30)]
    right = [set(random.choice(ids, random.integers(1, 6), replace=False).tolist()) for _ in range(40)]
    rankings = [random.permutation(ids)[: random.integers(0, 30)].tolist() for _ in right]
    for k in (1, 3, 10):
        evaluator = pytrec_eval.RelevanceEvaluator(
            {str(n): dict.fromkeys(of, 1) for n, of in enumerate(right)}, {f"ndcg_cut.{k}", f"recall.{k}", "recip_rank"}
        )
        runs = {str(n): {one: 100.0 - rank for rank, one in enumerate(of[:k])} for n, of in enumerate(rankings)}
        each = evaluator.evaluate(runs)
        mean = lambda name: sum(one[name] for one in each.values()) / len(right)  # noqa: B023, E731
        scores = scores_of(rankings, right, k)
        assert scores[f"ndcg@{k}"] == pytest.approx(mean(f"ndcg_cut_{k}"), abs=1e-9)
        assert scores[f"recall@{k}"] == pytest.approx(mean(f"recall_{k}"), abs=1e-9)
        assert scores[f"mrr@{k}"] == pytest.approx(mean("recip_rank"), abs=1e-9)


def letters(texts, kind):
    """An encoder: the shares of letters."""
    counts = np.asarray([[text.lower().count(chr(97 + n)) for n in range(26)] for text in texts], dtype=np.float32)
    return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def test_an_index_is_searched_by_words_by_meaning_and_by_both(tmp_path):
    answers = [Stored(f"answer{n}", text) for n, text in enumerate(TEXTS)]
    index = AnswerIndex(answers, letters(TEXTS, "passage"), {"model": "letters"}, letters)
    index.write(tmp_path / "index")
    again = AnswerIndex.read(tmp_path / "index")
    again.encode = letters
    for retriever in ("bm25", "dense", "hybrid"):
        found = index.search("lost card", retriever, 2)
        assert found[0]["id"] == "answer1", retriever
        assert found == again.search("lost card", retriever, 2)
        assert len(found) <= 2
    assert index.search("nothing of this kind", "bm25", 3) == [] == index.search("lost card", "hybrid", 3, 1.01)
    assert len(index.search("lost card", "dense", 9, 0.7)) < 5
    (tmp_path / "index" / "answers.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(UserError, match="is damaged"):
        AnswerIndex.read(tmp_path / "index")


@pytest.mark.parametrize(
    ("about", "line", "vectors"),
    [
        ({}, '{"id": 1, "text": 5}', None),
        ({}, "[" * 100_000, None),
        ({"sha256": None}, '{"id": "1", "text": "a"}', None),
        ({"encoder": {"model": "letters"}}, '{"id": "1", "text": "a"}', np.ones(1)),
    ],
)
def test_an_index_of_another_form_is_damaged(tmp_path, about, line, vectors):
    (tmp_path / "answers.jsonl").write_text(line + "\n")
    (tmp_path / "index.json").write_text(json.dumps({"version": 1, "answers": 1, "encoder": {}, **about}))
    if vectors is not None:
        np.save(tmp_path / "vectors.npy", vectors)
    with pytest.raises(UserError, match="is damaged"):
        AnswerIndex.read(tmp_path)


def test_a_pipe_in_an_index_is_not_read(tmp_path):
    AnswerIndex([Stored("1", "a")]).write(tmp_path / "index")
    (tmp_path / "index" / "answers.jsonl").unlink()
    os.mkfifo(tmp_path / "index" / "answers.jsonl")
    with pytest.raises(UserError, match="is a named pipe"):
        AnswerIndex.read(tmp_path / "index")


def test_an_index_whose_writing_was_killed_is_not_searched_and_can_be_made_again(tmp_path, monkeypatch):
    folder = tmp_path / "index"

    def written(texts, killed_before=None):
        def killed(path):
            if path.name == killed_before:
                raise KeyboardInterrupt
            return replacing(path)

        answers = [Stored(f"answer{n}", text) for n, text in enumerate(texts)]
        with monkeypatch.context() as patched:
            patched.setattr("peftlab.answer_search.index.replacing", killed)
            AnswerIndex(answers, letters(texts, "passage"), {"model": "letters"}).write(folder)

    with pytest.raises(KeyboardInterrupt):
        written(TEXTS, "vectors.npy")
    with pytest.raises(UserError, match="is no index of answers"):
        AnswerIndex.read(folder)
    written(TEXTS)
    others = TEXTS[::-1]  # as many, so that only digests tell them apart
    for file in ("vectors.npy", "index.json"):
        with pytest.raises(KeyboardInterrupt):
            written(others, file)
        with pytest.raises(UserError, match="its files do not belong together"):
            AnswerIndex.read(folder)
    written(others)
    assert [one.text for one in AnswerIndex.read(folder).answers] == others
    about = json.loads((folder / "index.json").read_text())
    del about["sha256"]  # an earlier version wrote none
    (folder / "index.json").write_text(json.dumps(about))
    assert AnswerIndex.read(folder).encoder == {"model": "letters"}


def test_answers_that_share_no_word_are_not_ranked_by_their_names():
    answers = [Stored(f"answer{n:02}", f"word{n}") for n in range(40)]
    cosines = np.asarray([*np.linspace(0.5, 0.1, 39), 1.0], dtype=np.float32)
    index = AnswerIndex(answers, cosines[:, None], {"model": "one"}, lambda texts, kind: np.ones((len(texts), 1)))
    ids = {name: [one["id"] for one in index.search("another", name, 40)] for name in ("dense", "hybrid")}
    assert ids["hybrid"] == ids["dense"]
    assert ids["hybrid"][0] == "answer39"
    assert [one["id"] for one in index.search("word7", "hybrid", 2)] == ["answer07", "answer39"]


def test_an_index_without_embeddings_is_searched_by_words_alone(tmp_path):
    index = AnswerIndex([Stored("a", "one"), Stored("b", "two", "which number?")])
    assert [one["id"] for one in index.search("number", "bm25", 3)] == ["b"]
    with pytest.raises(UserError, match="this index has bm25 only"):
        index.search("one", "dense", 3)
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="holds other files"):
        index.write(tmp_path)
    with pytest.raises(UserError, match="is no index of answers"):
        AnswerIndex.read(tmp_path)


def test_answers_are_read_from_a_folder(tmp_path):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "fees.md").write_text("# Fees\nNone.\n", encoding="utf-8")
    lines = [{"id": "hours", "text": "From nine.", "question": "When are you open?"}, {"text": "We are in Rome."}]
    (tmp_path / "others.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8-sig")
    (tmp_path / "ZIP.TXT").write_text("It is 00100.", encoding="utf-8-sig")
    (tmp_path / "picture.png").write_bytes(b"\x89")
    assert [(one.id, one.searched) for one in stored_answers(tmp_path)] == [
        ("ZIP.TXT", "It is 00100."),
        ("deeper/fees.md", "# Fees\nNone."),
        ("hours", "When are you open?\nFrom nine."),
        ("others.jsonl:2", "We are in Rome."),
    ]
    (tmp_path / "twice.jsonl").write_text(json.dumps(lines[0]), encoding="utf-8")
    with pytest.raises(DataError, match="a second answer has the id 'hours'"):
        stored_answers(tmp_path)
    (tmp_path / "twice.jsonl").write_text('{"text": 3}', encoding="utf-8")
    with pytest.raises(DataError, match=r"twice.jsonl:1: expected an object"):
        stored_answers(tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        stored_answers(tmp_path / "none")
