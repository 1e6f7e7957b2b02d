"""Translations by pretrained models of transformers, cached on disk."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from peftlab.errors import SourceError
from peftlab.models.model_files import deciding_files, has_safetensors
from peftlab.sources import ANOTHER_CACHE, Fetched, FilesSource, HubSource, cache_root
from peftlab.storage.atomic import replacing
from peftlab.storage.digests import sha256_of

log = logging.getLogger("peftlab")

_FORMAT = 2
"""Raise it when other translations come from the same models and options."""


def fetch(name: str) -> tuple[str, Fetched]:
    """Return a translation model with its definite name: a folder, or ``organisation/name@revision`` on the hub.

    Raises:
        SourceError: it cannot be had, or it has no configuration or weights.
    """
    if Path(name).expanduser().is_dir():
        fetched = FilesSource(path=name).fetch()
        definite = fetched.resolved["path"]
    else:
        repo, _, revision = name.partition("@")
        try:
            source = HubSource(repo=repo, revision=revision or None, allow_pickle=True)
        except ValueError as error:
            raise SourceError(
                f"'{name}' is neither a folder nor a model on the hub, organisation/name or organisation/name@revision"
            ) from error
        fetched = source.fetch()
        definite = f"{repo}@{fetched.resolved['revision']}"
    if not (fetched.folder / "config.json").is_file():
        raise SourceError(f"{fetched.folder}: no config.json in the model's folder; save_pretrained writes it")
    return definite, fetched


def digest(model: Fetched) -> str:
    """Return the digest of the files that determine a model."""
    return sha256_of({name: model.digest(name) for name in sorted(deciding_files(model.folder, allow_pickle=True))})


def back_translated(texts: Iterable[str], to: Fetched, back: Fetched, beams: int, batch_size: int) -> dict[str, str]:
    """Return each text as it comes back from translation into another language.

    One that is longer than what a model reads, there or on the way back, would come back cut, and stays as it is. What
    the cache on disk has is not translated again, whatever device and batches it was translated in, which a few
    translations depend on; where several runs ask at once, one translates and the others wait.

    Args:
        texts: the texts; repeated ones are translated once.
        to: the model that translates into the other language.
        back: the model that translates back.
        beams: hypotheses of the beam search; 1: greedy.
        batch_size: number of texts that are translated at once.

    Raises:
        SourceError: a model cannot be loaded.
        DiskError: the cache cannot be written.
    """
    wanted = list(dict.fromkeys(texts))
    name = sha256_of([_FORMAT, digest(to), digest(back), beams])
    file = cache_root() / "translations" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        cached = _read(file)
        missing = sorted((text for text in wanted if text not in cached), key=lambda text: (len(text), text))
        if missing:
            log.info("augment: translating %s texts there and back", f"{len(missing):,}")
            foreign = _translated(missing, to.folder, beams, batch_size)
            returned = iter(_translated([text for text in foreign if text is not None], back.folder, beams, batch_size))
            for text, between in zip(missing, foreign, strict=True):
                cached[text] = None if between is None else next(returned)
            with replacing(file, None, ANOTHER_CACHE) as temporary:
                temporary.write_text(json.dumps(cached, ensure_ascii=False), encoding="utf-8")
    if long := sum(cached[text] is None for text in wanted):
        log.warning(
            "augment: %s of %s texts are longer than what the translation models read, and stay as they are",
            f"{long:,}",
            f"{len(wanted):,}",
        )
    return {text: text if (own := cached[text]) is None else own for text in wanted}


def _read(file: Path) -> dict[str, str | None]:
    """Return the cached translations, None for a text that does not fit into a model."""
    try:
        cached = json.loads(file.read_text(encoding="utf-8"))
        return cached if isinstance(cached, dict) else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s); translating again", file, error)
        return {}


def _translated(texts: Sequence[str], folder: Path, beams: int, batch_size: int) -> list[str | None]:
    """Return the translations of `texts`, by beam search, which draws no random numbers; None: a text is too long."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = _loaded(AutoTokenizer.from_pretrained, folder)
    with torch.random.fork_rng(devices=[]):
        model = _loaded(
            AutoModelForSeq2SeqLM.from_pretrained,
            folder,
            dtype=torch.float32,
            use_safetensors=has_safetensors(folder),
            weights_only=True,
        )
        model = model.to(device).eval()
    most = getattr(model.config, "max_position_embeddings", 512)
    fitting = [n for n, text in enumerate(texts) if len(tokenizer(text, verbose=False)["input_ids"]) <= most]
    translations: list[str | None] = [None] * len(texts)
    with torch.inference_mode():
        for start in range(0, len(fitting), batch_size):
            places = fitting[start : start + batch_size]
            inputs = tokenizer([texts[n] for n in places], return_tensors="pt", padding=True).to(device)
            room = min(most, 2 * inputs["input_ids"].shape[1] + 10)
            ids = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                num_beams=beams,
                do_sample=False,
                max_length=room,
            )
            for n, translation in zip(places, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
                translations[n] = translation
    return translations


def _loaded(load: Callable[..., Any], folder: Path, **options: Any) -> Any:
    """Return what `load` of transformers, in which a faulty folder may raise any exception, makes of `folder`."""
    try:
        with warnings.catch_warnings():  # of tokenizers, about optional packages
            warnings.simplefilter("ignore")
            return load(folder, local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(f"{folder}: no translation model can be loaded ({first})") from error
