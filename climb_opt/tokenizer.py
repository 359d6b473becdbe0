"""A tokenizer as climb_opt reads it: a text's own tokens, the same everywhere.

A tokenizer.json keeps what the program that wrote it had switched on: truncation, padding, dropout
of merges, a template that puts tokens around every text, special tokens found inside texts. None of
it may reach a corpus or a score, so everything that needs a tokenizer takes it from here.

A document's tokens are followed by one that ends it. Which one, the file itself does not say; the
files that come with it do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from climb_opt.errors import UserError, first_line
from climb_opt.extras import need
from climb_opt.reading import read_json, read_text

FILE = "tokenizer.json"
EOS = "<|endoftext|>"
# Names of the token that ends a document, in the order they are looked for where nothing tells.
EOS_NAMES = (EOS, "</s>", "<|end_of_text|>", "<eos>", "<|eot|>", "<|im_end|>", "[SEP]")
# Files beside tokenizer.json that name the token, the most particular first, and their field.
DECLARATIONS = (
    ("tokenizer_config.json", "eos_token"),
    ("special_tokens_map.json", "eos_token"),
    ("generation_config.json", "eos_token_id"),
    ("config.json", "eos_token_id"),
)


@dataclass(frozen=True)
class EndOfText:
    """The token that ends a document, and why this one."""

    token: str
    number: int
    reason: str
    sure: bool = True  # False: nothing was declared, and several could end one

    def __str__(self) -> str:
        return f"a document ends with {self.token!r} (token {self.number}): {self.reason}"


def load_tokenizer(path: str) -> Any:
    """A `tokenizers.Tokenizer` from a file, a folder or the hub, with everything off.

    Raises:
        UserError: nothing readable there.
    """
    tokenizers = need("tokenizers", "Tokenizing")
    file = _file(path)
    try:
        if file.is_file():
            return _bare(tokenizers.Tokenizer.from_str(read_text(file)))
        if Path(path).exists() or path.startswith((".", "/")):
            raise UserError(f"No tokenizer at {path!r}: expected a {FILE}.")
        return _bare(tokenizers.Tokenizer.from_pretrained(path))
    except UserError:
        raise
    except Exception as error:  # the library raises bare Exception for every fault
        raise UserError(f"Tokenizer {path!r} cannot be loaded: {first_line(error)}") from None


def save_tokenizer(tokenizer: Any, path: Path) -> None:
    """Write a tokenizer's file. The library's own `save` takes no path that is not UTF-8."""
    path.write_text(tokenizer.to_str(pretty=True), encoding="utf-8", newline="\n")


def corpus_tokenizer(file: Path, eos: int) -> Any:
    """The tokenizer of a corpus: `eos` stands for no text in it, whatever the file says.

    Args:
        file: `Corpus.tokenizer_file`.
        eos: `Corpus.eos`.
    """
    tokenizer = load_tokenizer(str(file))
    end = tokenizer.id_to_token(eos)
    return tokenizer if end is None else ended_by(tokenizer, end)


def ended_by(tokenizer: Any, token: str) -> Any:
    """The tokenizer, with `token` one that texts do not spell and that decodes to nothing."""
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    tokenizer.add_special_tokens([token])
    assert tokenizer.get_vocab_size(with_added_tokens=True) == size  # it was there
    return tokenizer


def end_of_text(tokenizer: Any, path: str | None = None, eos: str | None = None) -> EndOfText:
    """The token that ends a document.

    Args:
        path: where the tokenizer comes from: a file, a folder or a name on the hub, whose other
            files are asked; None asks nothing.
        eos: the token that a person named.

    Raises:
        UserError: it has no end-of-text token that is declared or of a known name, or not the one
            asked for; a file beside it cannot be read.
    """
    absent: list[str] = []
    for token, reason in _declared(tokenizer, path, eos):
        number = tokenizer.token_to_id(token)
        if number is not None:
            return EndOfText(token, number, "; ".join([reason, *absent]))
        absent.append(f"{reason}, {token!r}, is not one of its tokens")
    if eos is None:
        known = {name: tokenizer.token_to_id(name) for name in EOS_NAMES}
        found = [(name, number) for name, number in known.items() if number is not None]
        if found:
            why = "nothing beside the tokenizer tells; the first known name (else give --eos)"
            return EndOfText(*found[0], "; ".join([why, *absent]), sure=len(found) == 1)
    names = " or ".join((eos,) if eos is not None else EOS_NAMES)
    said = f" ({'; '.join(absent)})" if absent and eos is None else ""
    raise UserError(
        f"The tokenizer has no token {names} to end a document{said}; name its own with --eos."
    )


def unknown_of(tokenizer: Any) -> int | None:
    """The token that stands for all that a tokenizer does not know; None: it knows everything."""
    name = getattr(tokenizer.model, "unk_token", None)
    if name is not None:
        return tokenizer.token_to_id(name)
    return json.loads(tokenizer.to_str())["model"].get("unk_id")  # Unigram


def _file(path: str) -> Path:
    return Path(path) / FILE if Path(path).is_dir() else Path(path)


def _bare(tokenizer: Any) -> Any:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.post_processor = None
    # A document that spells a special token, the end of text above all, holds its letters.
    tokenizer.encode_special_tokens = True
    if getattr(tokenizer.model, "dropout", None) is not None:  # another reading at each call
        tokenizer.model.dropout = None
    return tokenizer


def _declared(tokenizer: Any, path: str | None, eos: str | None) -> Iterator[tuple[str, str]]:
    """Tokens that somebody says end a document, and who says so."""
    if eos is not None:
        yield eos, "named by --eos"
        return
    for name, field in DECLARATIONS if path is not None else ():
        file = _beside(str(path), name)
        value = None if file is None else _read(file).get(field)
        for one in value if isinstance(value, list) else [value]:
            token = one.get("content") if isinstance(one, dict) else one
            if isinstance(token, int):
                token = tokenizer.id_to_token(token) or f"number {token}"
            if isinstance(token, str):
                yield token, f"{field} of {name}"


def _beside(path: str, name: str) -> Path | None:
    """The file of that name that comes with a tokenizer, if there is one."""
    if Path(path).exists():
        file = _file(path)
        # The other files of a folder speak of its tokenizer.json, not of one called otherwise.
        beside = file.with_name(name)
        return beside if file.name == FILE and beside.is_file() else None
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(path, name))
    except (OSError, ValueError):  # the repository has no such file, or cannot be reached now
        return None


def _read(file: Path) -> dict[str, Any]:
    try:
        data = read_json(file)
    except UserError as error:
        raise UserError(
            f"{error} It may say how the tokenizer ends a document: mend or delete it, or name the "
            "token with --eos."
        ) from None
    return data if isinstance(data, dict) else {}
