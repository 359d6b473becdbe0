"""Documents that come as tokens (ClimbLab ships GPT-2's) -> text."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from climb_opt.tokenizer import load_tokenizer


@lru_cache(maxsize=2)
def _tokenizer(name: str) -> Any:
    return load_tokenizer(name)


def detokenise(tokens: Any, tokenizer: str) -> Any:
    """The text of a sequence of tokens; anything else is returned as it is, for the reader."""
    if isinstance(tokens, str) or not hasattr(tokens, "__len__"):
        return tokens
    if not all(isinstance(token, int) for token in tokens):
        return tokens
    try:
        return _tokenizer(tokenizer).decode(list(tokens), skip_special_tokens=True)
    except OverflowError:  # negative, or beyond 32 bits
        return tokens
