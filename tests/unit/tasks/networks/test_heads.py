from __future__ import annotations

import torch
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from peftlab.tasks.networks.heads import (
    CAUSAL_LM,
    SEQ2SEQ_LM,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    Head,
    logits_of,
)

SPAN = Head("AutoModelForQuestionAnswering", "QUESTION_ANS", "question-answering", "span", size=2)
LANGUAGE_MODEL = Head("AutoModelForCausalLM", "CAUSAL_LM", "text-generation", "vocabulary")
REGRESSION = Head("AutoModelForSequenceClassification", "SEQ_CLS", "text-classification", "text", "regression", 1)


def test_a_head_of_labels_is_as_large_as_they_are_many():
    assert TOKEN_CLASSIFICATION.settings(["O", "B-X", "I-X"]) == {
        "num_labels": 3,
        "id2label": {0: "O", 1: "B-X", 2: "I-X"},
        "label2id": {"O": 0, "B-X": 1, "I-X": 2},
        "problem_type": None,
    }
    assert SEQUENCE_CLASSIFICATION.settings(["a", "b"])["problem_type"] == "single_label_classification"


def test_a_head_without_labels_has_a_size_of_its_own():
    assert SPAN.settings([]) == {"num_labels": 2, "problem_type": None}
    assert REGRESSION.settings([]) == {"num_labels": 1, "problem_type": "regression"}


def test_the_head_of_a_language_model_is_pretrained_and_sets_nothing():
    assert LANGUAGE_MODEL.settings([]) == {}
    assert not LANGUAGE_MODEL.is_new
    assert all(head.is_new for head in (SPAN, REGRESSION, TOKEN_CLASSIFICATION, SEQUENCE_CLASSIFICATION))


def test_language_models_that_generate_keep_no_keys_and_values_in_training():
    for head in (CAUSAL_LM, SEQ2SEQ_LM):
        assert head.settings([]) == {"use_cache": False}


def test_logits_are_found_by_their_names():
    start, end = torch.zeros(1, 3), torch.ones(1, 3)
    outputs = QuestionAnsweringModelOutput(start_logits=start, end_logits=end, hidden_states=(start,))
    assert list(logits_of(outputs)) == ["start_logits", "end_logits"]
