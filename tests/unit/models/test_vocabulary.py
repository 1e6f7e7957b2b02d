"""What encoders without the head of a language model lack, in every architecture that is offered."""

from __future__ import annotations

import pytest
import transformers
from transformers import AutoModel, AutoModelForMaskedLM

from peftlab.methods.head import is_of_head
from peftlab.models.vocabulary import biases_of_output, missing_layers

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 0,
}
LACKING = {
    "BertConfig": ("cls.predictions.transform.LayerNorm", "cls.predictions.transform.dense"),
    "RobertaConfig": ("lm_head.dense", "lm_head.layer_norm"),
    "DistilBertConfig": ("vocab_layer_norm", "vocab_transform"),
    "ElectraConfig": ("generator_predictions.LayerNorm", "generator_predictions.dense"),
    "AlbertConfig": ("predictions.LayerNorm", "predictions.dense"),
    "DebertaV2Config": ("cls.predictions.transform.LayerNorm", "cls.predictions.transform.dense"),
    "MPNetConfig": ("lm_head.dense", "lm_head.layer_norm"),
    "ModernBertConfig": ("head.dense", "head.norm"),
}


@pytest.mark.parametrize("name", LACKING)
def test_layers_that_an_encoder_lacks(name, tmp_path):
    config = getattr(transformers, name)(**SIZES)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    model, report = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    layers, biases = missing_layers(model, report["missing_keys"]), biases_of_output(model)
    assert layers == LACKING[name]
    assert {key for key in report["missing_keys"] if not is_of_head(key, layers)} <= biases
    for layer in layers:
        assert not any(each is model.get_output_embeddings() for each in model.get_submodule(layer).modules())
    assert missing_layers(model, []) == ()
