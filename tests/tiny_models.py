"""Language models of a few thousand weights, randomly initialised, with a byte-level tokenizer and a chat template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

DECODERS = ["llama", "qwen3", "gpt2", "gemma3"]
"""The decoders that `make_language_model` makes."""
ENCODER_DECODERS = ["t5", "bart"]
"""The encoder-decoders that it makes."""

OF_HEADS = {
    "AutoModelForCausalLM": "llama",
    "AutoModelForAudioClassification": "whisper",
    "AutoModelForImageClassification": "vit",
    "AutoModelForSpeechSeq2Seq": "whisper",
    "AutoModelForSeq2SeqLM": "t5",
    "peftlab.tasks.prompting.model.Prompted": "llama",
}
"""The model to take by the class that loads it for a task."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, without marks of what is generated, as most published templates are."""

POSITIONS = 256
"""Tokens of the longest row of the models with learnt positions."""


def make_language_model(kind: str, folder: Path) -> Path:
    """Make a model of `kind` in `folder`: 2 layers, hidden size 32, and about 300 tokens."""
    import torch

    tokenizer = _tokenizer(kind)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _MAKERS[kind](
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ).save_pretrained(folder)
    return folder


def _tokenizer(kind: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    is_decoder = kind in DECODERS
    special = ["<pad>", "</s>", "<unk>", "<s>", *(["<|im_start|>", "<|im_end|>"] if is_decoder else [])]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        ["the capital of france is paris", "what is the name of the river that flows through rome ?"] * 4,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if not is_decoder:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<|im_end|>" if is_decoder else "</s>",
        unk_token="<unk>",
        bos_token="<|im_start|>" if is_decoder else "<s>",
    )
    if is_decoder:
        made.chat_template = CHAT_TEMPLATE
    return made


def _llama(**tokens: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "max_position_embeddings": POSITIONS, "tie_word_embeddings": True}
    return LlamaForCausalLM(LlamaConfig(**sizes, **more, **tokens))


def _qwen3(**tokens: int) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": POSITIONS}
    return Qwen3ForCausalLM(Qwen3Config(**sizes, **more, tie_word_embeddings=False, **tokens))


def _gpt2(**tokens: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=POSITIONS, **tokens))


def _gemma3(**tokens: int) -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": POSITIONS, "sliding_window": 16}
    kinds = ["sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**sizes, **more, layer_types=kinds, **tokens))


def _t5(**tokens: int) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
    return T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=tokens["pad_token_id"], **tokens))


def _bart(**tokens: int) -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    halves = ("encoder", "decoder")
    sizes = {f"{half}_{what}": n for half in halves for what, n in (("layers", 2), ("ffn_dim", 64))}
    sizes |= {f"{half}_attention_heads": 4 for half in halves}
    more = {"d_model": 32, "max_position_embeddings": POSITIONS, "decoder_start_token_id": tokens["eos_token_id"]}
    return BartForConditionalGeneration(BartConfig(**sizes, **more, forced_eos_token_id=None, **tokens))


_MAKERS: dict[str, Callable[..., Any]] = {
    "llama": _llama,
    "qwen3": _qwen3,
    "gpt2": _gpt2,
    "gemma3": _gemma3,
    "t5": _t5,
    "bart": _bart,
}
