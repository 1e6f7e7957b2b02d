from __future__ import annotations

import pytest
from transformers import AutoTokenizer, ViTImageProcessor

from peftlab.errors import SourceError
from peftlab.models.backbone import ModelSpec, fetch
from peftlab.sources import FilesSource
from peftlab.tasks.processor import Processor


def test_a_saved_tokenizer_knows_how_much_the_model_takes(pretrained, tmp_path):
    processor = pretrained.processor("tokenizer")
    processor.save(tmp_path, longest=64)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.model_max_length == 64
    assert Processor("tokenizer", again).fingerprint() == processor.fingerprint()


def test_its_conversations_are_part_of_its_fingerprint(pretrained):
    plain, talking = pretrained.processor("tokenizer"), pretrained.processor("tokenizer")
    talking.transform.chat_template = "{{ messages }}"
    assert (plain.chat_template, talking.chat_template) == (None, "{{ messages }}")
    assert plain.fingerprint() != talking.fingerprint()


def test_one_for_pictures(tmp_path):
    one, other = (Processor("image_processor", ViTImageProcessor(size={"height": n, "width": n})) for n in (8, 16))
    one.save(tmp_path)
    assert one.fingerprint() != other.fingerprint()
    assert one.chat_template is None
    again = Processor("image_processor", ViTImageProcessor.from_pretrained(tmp_path))
    assert again.fingerprint() == one.fingerprint()
    with pytest.raises(AssertionError, match="image_processor"):
        _ = one.tokenizer


@pytest.mark.parametrize("kind", ["image_processor", "feature_extractor"])
def test_a_model_that_lacks_one(tiny_model, kind):
    with pytest.raises(SourceError, match=f"no {kind.replace('_', ' ')} can be loaded"):
        fetch(ModelSpec(name="tiny", source=FilesSource(path=tiny_model))).processor(kind)
