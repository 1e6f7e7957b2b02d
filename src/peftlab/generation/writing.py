"""Texts that a language model writes after prompts: in batches, or streamed piece by piece."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation import BaseStreamer

from peftlab.errors import ConfigError
from peftlab.generation.options import Generation
from peftlab.models.positions import positions, reserved

_NEVER_WRITTEN = ("suppress_tokens", "begin_suppress_tokens")
"""Settings with ids of tokens that a model for speech never writes, or not first."""

_HALF = "\ufffd"
"""What stands for a character of which some bytes are missing yet."""


UNSEEN = "unseen_prompt_tokens"
"""The field of an answer that counts the tokens of its prompt that the model did not see."""


class Written(NamedTuple):
    """A text that a model has written."""

    tokens: list[int]
    """Without the end token."""
    text: str
    stopped: bool
    """Whether the model ended it; else it reached ``max_new_tokens``."""
    cut: int
    """Tokens at the start of the prompt that the model did not see."""

    @property
    def unseen(self) -> dict[str, int]:
        """The field of an answer that says so, if there are any."""
        return {UNSEEN: self.cut} if self.cut else {}


class Heard(NamedTuple):
    """What an encoder hears in the place of tokens that it reads, and how every text begins."""

    inputs: dict[str, Tensor]
    """The inputs of the encoder, each of shape (examples, ...)."""
    start: list[int]
    """The tokens that the decoder begins with."""


Asked = Sequence[Sequence[int]] | Heard
"""What texts are written after: token ids of each, or what is heard."""


def write(
    model: nn.Module,
    prompts: Asked,
    options: Generation,
    tokenizer: PreTrainedTokenizerBase,
    keys: Sequence[str] = (),
    stops: Sequence[int] = (),
) -> list[Written]:
    """Return what `model` writes after each of `prompts`, computed as one batch.

    A text depends on its own prompt and key alone, up to rounding, not on the rest of the batch: prompts of decoders
    are padded on the left, those of encoder-decoders are rows of the encoder. The model computes in evaluation mode
    with its cache of keys and values, and no random state but that of `options` takes part.

    Args:
        model: a language model of transformers, perhaps adapted, with ``generate``.
        prompts: token ids; of a decoder, the text to continue; of an encoder-decoder, the source; or what it hears.
        options: how to choose tokens.
        tokenizer: that of the model.
        keys: the name of each prompt, which sampling draws by; needed with ``do_sample`` only.
        stops: ids of tokens that end a text besides those of the model's generation config and the tokenizer's.

    Raises:
        ConfigError: ``max_new_tokens`` exceeds the positions of the model.
    """
    return _written(model, prompts, options, tokenizer, keys, stops)


def stream(
    model: nn.Module,
    prompt: Sequence[int] | Heard,
    options: Generation,
    tokenizer: PreTrainedTokenizerBase,
    key: str = "",
    stops: Sequence[int] = (),
) -> Generator[str, None, bool]:
    """Yield what `write` returns for `prompt`, in pieces, as soon as they are written.

    A character of several tokens comes when it is whole; a text of a beam search comes at its end. An abandoned
    iterator stops the model.

    Returns:
        whether the model ended the text, see `Written.stopped`.

    Raises:
        ConfigError: as `write` does.
    """
    ends = _stops(model, tokenizer, stops)
    reader, halt, device = _Reader(tokenizer, ends), _Halt(), _device(model)
    autocast = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)

    def run() -> None:  # what a thread computes with is its own: it starts in full precision, with gradients
        try:
            with torch.inference_mode(), torch.autocast(device.type, autocast[1], enabled=autocast[0]):
                streamer = reader if options.num_beams == 1 else None
                asked = prompt if isinstance(prompt, Heard) else [prompt]
                reader.pieces.put(_written(model, asked, options, tokenizer, [key], stops, streamer, halt)[0])
        except BaseException as error:  # noqa: BLE001 - raised again where the text is read
            reader.pieces.put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    shown = ""
    try:
        while not isinstance(piece := reader.pieces.get(), Written):
            if isinstance(piece, BaseException):
                raise piece
            if piece.startswith(shown) and piece != shown:
                yield piece[len(shown) :]
                shown = piece
        if rest := piece.text.removeprefix(shown):
            yield rest
        return piece.stopped
    finally:
        halt.now = True
        thread.join()


def plain_settings(
    model: nn.Module, options: Generation, tokenizer: PreTrainedTokenizerBase, stops: Sequence[int] = ()
) -> GenerationConfig:
    """Return `options` as the ``generation_config.json`` of a plain `model`, with which it writes what `write` returns.

    Sampled texts differ, as transformers draws by its own random numbers.
    """
    own = _of_transformers(model).generation_config
    config = _generation_config(own, options, sorted(_stops(model, tokenizer, stops)), tokenizer)
    sampling = {"temperature": options.temperature, "top_k": options.top_k or 0, "top_p": options.top_p or 1.0}
    config.update(
        repetition_penalty=options.repetition_penalty,
        do_sample=options.do_sample,
        **(sampling if options.do_sample else {}),
    )
    return config


def check_room(model: Any, options: Generation, start: int = 1) -> int | None:
    """Check that `model` has positions for texts of ``max_new_tokens``.

    Args:
        model: the model.
        options: how it writes.
        start: the least number of tokens before a text.

    Returns:
        how many are left for the prompt, or for the start of an encoder-decoder's text; None: any number.

    Raises:
        ConfigError: there are too few.
    """
    most = positions(model)
    if most is None:
        return None
    before = 0 if model.config.is_encoder_decoder else reserved(model)  # there, virtual tokens are of the source
    room = most - before - options.max_new_tokens
    if room < start:
        virtual = f"{before} are for virtual tokens and " if before else ""
        own = "one is for the prompt or the start" if start == 1 else f"{start} are for the start"
        raise ConfigError(
            f"task.generate.max_new_tokens={options.max_new_tokens}: the model has {most} positions, of which "
            f"{virtual}{own}. Set it to at most {most - before - start}"
        )
    return room


def _written(
    model: Any,
    prompts: Asked,
    options: Generation,
    tokenizer: PreTrainedTokenizerBase,
    keys: Sequence[str],
    ends: Sequence[int],
    streamer: BaseStreamer | None = None,
    halt: StoppingCriteria | None = None,
) -> list[Written]:
    stops, own = _stops(model, tokenizer, ends), _of_transformers(model)
    config = _generation_config(own.generation_config, options, sorted(stops), tokenizer)
    if isinstance(prompts, Heard):
        check_room(model, options, len(prompts.start))
        config.update(**{name: getattr(own.generation_config, name) for name in _NEVER_WRITTEN})
        generate = partial(GenerationMixin.generate, own)  # Whisper's own divides what is heard, and tries again
        asked = _heard(prompts, _device(model))
    else:
        generate, asked = model.generate, _read_by(model, prompts, options, int(config.pad_token_id))
    rules: list[LogitsProcessor] = []
    if options.repetition_penalty != 1:
        rules.append(_Repetition(options.repetition_penalty, asked.padding))
    if options.do_sample:
        rules.append(_Draw(options, keys))
    with torch.no_grad(), _evaluating(model), _configured(own, config):
        made = generate(
            **asked.inputs,
            generation_config=config,
            logits_processor=LogitsProcessorList(rules),
            stopping_criteria=StoppingCriteriaList([] if halt is None else [halt]),
            streamer=streamer,
        )
    rows = made[:, asked.before :].tolist()
    return [_read(row, stops, tokenizer, lost) for row, lost in zip(rows, asked.cut, strict=True)]


class _Inputs(NamedTuple):
    """What texts are written after, as the model takes it."""

    inputs: dict[str, Tensor]
    before: int
    """Tokens of a row before what is written."""
    cut: list[int]
    """Tokens of each prompt that the model does not see."""
    padding: Tensor | None = None
    """Tokens of padding before each prompt of a decoder."""


def _read_by(model: Any, prompts: Sequence[Sequence[int]], options: Generation, pad: int) -> _Inputs:
    room, of_encoder = check_room(model, options), bool(model.config.is_encoder_decoder)
    kept = [list(prompt if room is None or of_encoder else prompt[-room:]) for prompt in prompts]
    ids, mask = _padded(kept, pad, _device(model), left=not of_encoder)
    cut = [len(prompt) - len(part) for prompt, part in zip(prompts, kept, strict=True)]
    inputs = {"input_ids": ids, "attention_mask": mask}
    return _Inputs(inputs, 1, cut) if of_encoder else _Inputs(inputs, ids.shape[1], cut, (mask == 0).sum(-1))


def _heard(heard: Heard, device: torch.device) -> _Inputs:
    number = len(next(iter(heard.inputs.values())))
    start = torch.tensor([heard.start] * number, device=device)
    return _Inputs({**heard.inputs, "decoder_input_ids": start}, len(heard.start), [0] * number)


def _read(row: list[int], stops: set[int], tokenizer: PreTrainedTokenizerBase, cut: int) -> Written:
    end = next((place for place, token in enumerate(row) if token in stops), None)
    return Written(row[:end], _text(row[:end], tokenizer), end is not None, cut)


def _text(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    text: str = tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _of_transformers(model: Any) -> Any:
    """Return the model of transformers within one of the peft library, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _stops(model: Any, tokenizer: PreTrainedTokenizerBase, more: Sequence[int]) -> set[int]:
    """Return the ids of the tokens that end a text: the model's, the tokenizer's and `more`."""
    configured = _of_transformers(model).generation_config.eos_token_id
    of_model = configured if isinstance(configured, list) else [configured]
    return {int(token) for token in (*of_model, tokenizer.eos_token_id, *more) if token is not None}


def _generation_config(
    own: GenerationConfig, options: Generation, stops: list[int], tokenizer: PreTrainedTokenizerBase
) -> GenerationConfig:
    """Return transformers' form of `options`, with the token ids of the model's `own` configuration."""
    pad = next(token for token in (tokenizer.pad_token_id, own.pad_token_id, *stops, 0) if token is not None)
    kept = ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id")  # an end that is forced is none
    return GenerationConfig(
        max_new_tokens=options.max_new_tokens,
        num_beams=options.num_beams,
        do_sample=False,  # `_Draw` leaves one token to choose
        use_cache=True,
        pad_token_id=pad,
        eos_token_id=stops or None,
        **{name: getattr(own, name) for name in kept},
    )


@contextmanager
def _configured(own: Any, config: GenerationConfig) -> Iterator[None]:
    """Have `config` alone act: what it leaves open is else taken from the model's own."""
    before, own.generation_config = own.generation_config, config
    try:
        yield
    finally:
        own.generation_config = before


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Have the model in evaluation mode, and each of its modules in its own mode afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device, left: bool) -> tuple[Tensor, Tensor]:
    """Return `rows` as ids and their mask, each of shape (rows, tokens)."""
    width = max(map(len, rows))
    ids, mask = np.full((len(rows), width), pad, dtype=np.int64), np.zeros((len(rows), width), dtype=np.int64)
    for n, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(len(row))
        ids[n, place], mask[n, place] = row, 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


class _Repetition(LogitsProcessor):  # type: ignore[misc]  # mypy does not follow transformers
    """Penalises tokens that have occurred. That of transformers takes padding for text, perhaps for the end token."""

    def __init__(self, penalty: float, padding: Tensor | None) -> None:
        self.penalty, self.padding = penalty, padding

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        counted = torch.ones_like(input_ids)
        if self.padding is not None:
            padding = self.padding.repeat_interleave(len(input_ids) // len(self.padding))
            counted = (torch.arange(input_ids.shape[1], device=input_ids.device) >= padding[:, None]).long()
        occurred = torch.zeros_like(scores, dtype=torch.long).scatter_reduce(1, input_ids, counted, "amax")
        penalised = torch.where(scores > 0, scores / self.penalty, scores * self.penalty)
        return torch.where(occurred > 0, penalised, scores)


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Leaves each row the one token that it draws, by a uniform number for each token from its own generator."""

    def __init__(self, options: Generation, keys: Sequence[str]) -> None:
        self.generators = [_generator(options.seed, key) for key in keys]
        self.warpers: list[Any] = [TemperatureLogitsWarper(options.temperature)]
        if options.top_k is not None:
            self.warpers.append(TopKLogitsWarper(options.top_k))
        if options.top_p is not None:
            self.warpers.append(TopPLogitsWarper(options.top_p))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        device = scores.device
        scores = scores.float().cpu()  # the order of a GPU's sums is not fixed: a deterministic run refuses them
        for warper in self.warpers:
            scores = warper(input_ids, scores)
        cumulated = scores.softmax(-1, dtype=torch.float64).cumsum(-1)
        numbers = [generator.random() for generator in self.generators]
        drawn = torch.tensor(numbers, dtype=torch.float64)[:, None] * cumulated[:, -1:]
        token = torch.searchsorted(cumulated, drawn, right=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0).to(device)


def _generator(seed: int, key: str) -> np.random.Generator:
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])


class _Halt(StoppingCriteria):  # type: ignore[misc]
    """Ends all texts once `now` is set."""

    now = False

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), self.now, device=input_ids.device)


class _Reader(BaseStreamer):  # type: ignore[misc]
    """Reads tokens as they come, and puts the whole text so far into `pieces` after each."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: set[int]) -> None:
        self.tokenizer, self.stops = tokenizer, stops
        self.tokens: list[int] | None = None
        self.pieces: queue.SimpleQueue[str | Written | BaseException] = queue.SimpleQueue()

    def put(self, value: Tensor) -> None:
        if self.tokens is None:  # the prompt, or the start of an encoder-decoder's text
            self.tokens = []
        elif (token := int(value.reshape(-1)[0])) not in self.stops:
            self.tokens.append(token)
            self.pieces.put(_text(self.tokens, self.tokenizer).rstrip(_HALF))

    def end(self) -> None:
        """The text comes whole at the end."""
