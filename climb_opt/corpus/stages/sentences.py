"""Embeddings by a sentence-transformers model: any folder or hub name, on one or more devices.

The one file of the corpus that imports torch. Precision "auto" is bf16 where the device multiplies
it natively (GPUs since Ampere; CPUs with AMX: 2.2 times as fast, cosine to fp32 0.99998)
and fp32 elsewhere. Other tricks were measured and are not offered: dynamic int8 (cosine 0.92) and
a home-made ONNX export (0.97). All of it: docs/notes/corpus.md#encoders.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Block, read_texts
from climb_opt.corpus.files import load_array
from climb_opt.corpus.run.jobs import Advance, How
from climb_opt.corpus.run.workspace import Stage
from climb_opt.corpus.stages.embed import EmbedOptions
from climb_opt.errors import UserError, first_line
from climb_opt.extras import need

logger = logging.getLogger(__name__)

AT_ONCE = 2048  # documents handed to the model: sorted by length among themselves
CHARACTERS_A_TOKEN = 12  # longer texts are cut before the tokenizer sees them


def identity(options: EmbedOptions) -> list[Any]:
    """What an embedding depends on: the model (its files, if local), length and precision."""
    model: Any = options.encoder
    if Path(model).is_dir():
        files = sorted(p for p in Path(model).rglob("*") if p.is_file())
        facts = [(p.relative_to(model).as_posix(), p.stat().st_size) for p in files]
        model = hashlib.sha256(repr(facts).encode()).hexdigest()
    return [model, options.max_tokens, options.precision]


def embed(
    stage: Stage, documents: Stage, exact: Stage, blocks: Sequence[Block], options: EmbedOptions
) -> None:
    """Write `<block>.npy`: float16 embeddings (documents, dimensions), zero for copies."""
    if all(stage.file(f"{b.name}.npy").exists() for b in blocks):
        return  # a finished stage must not load a model
    if stage.workspace.engine.remote:
        away = partial(_embed_block, documents.path, exact.path, options)
        stage.over(blocks, away, marker=".npy", how=How(gpu=True))
        return
    with Encoder(options) as encoder:
        task = partial(_embed_block, documents.path, exact.path, encoder)
        stage.over(blocks, task, marker=".npy")


@lru_cache(maxsize=1)  # of a process that does block after block
def _kept(options: EmbedOptions) -> Encoder:
    return Encoder(replace(options, devices=()))  # what the cluster gave this process


def _embed_block(
    documents: Path, exact: Path, model: Encoder | EmbedOptions, block: Block, advance: Advance
) -> np.ndarray:
    encoder = model if isinstance(model, Encoder) else _kept(model)
    first = load_array(exact / f"{block.name}.first.npy", mapped=False)
    limit = encoder.max_tokens * CHARACTERS_A_TOKEN
    texts = [text[:limit] for text in read_texts(documents, block.name, first)]
    vectors = np.zeros((block.documents, encoder.dimensions), dtype=np.float16)
    rows = np.flatnonzero(first)
    for low in range(0, len(texts), AT_ONCE):
        part = texts[low : low + AT_ONCE]
        vectors[rows[low : low + AT_ONCE]] = encoder.encode(part)
        advance(len(part))
    return vectors


class Encoder:
    """A loaded model on its devices; a context, since several devices are several processes."""

    def __init__(self, options: EmbedOptions) -> None:
        self._options = options
        self.devices = list(options.devices) or _devices()
        self.precision = choose_precision(options.precision, self.devices[0])
        self._model = _load(options, self.devices[0], self.precision)
        if options.max_tokens:
            self._model.max_seq_length = options.max_tokens
        self.max_tokens = int(self._model.max_seq_length or 512)
        self.dimensions = int(self._model.get_embedding_dimension())
        self._pool: Any = None
        facts = options.encoder, ", ".join(self.devices), self.precision, self.max_tokens
        logger.info("Embedding with %s on %s in %s, %d tokens a document.", *facts)

    def __enter__(self) -> Encoder:
        if len(self.devices) > 1:
            self._pool = self._model.start_multi_process_pool(self.devices)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._model.stop_multi_process_pool(self._pool)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors (texts, dimensions)."""
        import torch

        # On a GPU the weights themselves are bf16.
        enabled = self.devices[0].startswith("cpu") and self.precision == "bf16"
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            vectors = self._model.encode(
                list(texts),
                batch_size=self._options.batch,
                normalize_embeddings=True,
                show_progress_bar=False,
                convert_to_numpy=True,
                **({"pool": self._pool} if self._pool is not None else {}),
            )
        return np.asarray(vectors, dtype=np.float32)


def choose_precision(wanted: str, device: str) -> str:
    """ "bf16" or "fp32" for a device."""
    import torch

    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.startswith("cpu") and torch.cpu._is_amx_tile_supported() else "fp32"


def _devices() -> list[str]:
    import torch

    if torch.cuda.is_available():
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else ["cpu"]


def _load(options: EmbedOptions, device: str, precision: str) -> Any:
    library = need("sentence_transformers", f"Encoder {options.encoder!r}")
    on_gpu = precision == "bf16" and not device.startswith("cpu")
    try:
        return library.SentenceTransformer(
            options.encoder,
            device=device,
            trust_remote_code=options.trust_remote_code,
            model_kwargs={"dtype": "bfloat16"} if on_gpu else {},
        )
    except (OSError, ValueError, ImportError) as error:
        reason = first_line(error)
        raise UserError(
            f"Encoder {options.encoder!r} cannot be loaded: {reason} "
            "The default, --encoder tfidf, needs no model."
        ) from None
