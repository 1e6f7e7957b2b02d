"""The head of a masked language model: which layers between encoder and vocabulary its weights lack."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from transformers import PreTrainedModel

from peftlab.methods.head import is_of_head


def missing_layers(model: PreTrainedModel, missing: Collection[str]) -> tuple[str, ...]:
    """Return the names of the layers between the encoder and the vocabulary whose tensors are `missing` in the weights.

    Neither the layer of the vocabulary is among them nor the modules that hold it, which with tied embeddings would be
    the embeddings.
    """
    output = model.get_output_embeddings()
    vocabulary = next((name for name, module in model.named_modules() if module is output), "")
    layers = {name.rpartition(".")[0] for name in missing if not name.startswith(f"{model.base_model_prefix}.")}
    return tuple(sorted(name for name in layers if name and not is_of_head(vocabulary, (name,))))


def note_on_missing(layers: Sequence[str]) -> str:
    """Return what to tell the user of the missing `layers`."""
    return (
        f"its weights lack a part of the language model's head, which begins anew and is trained: {', '.join(layers)}; "
        "the layer of the vocabulary is that of the embeddings"
    )


def biases_of_output(model: PreTrainedModel) -> frozenset[str]:
    """Return the names of the biases of the layer of the vocabulary, which begin at 0 where weights lack them."""
    output = model.get_output_embeddings()
    bias = getattr(output, "bias", None)
    if bias is None:
        return frozenset()
    return frozenset(name for name, tensor in model.named_parameters(remove_duplicate=False) if tensor is bias)
