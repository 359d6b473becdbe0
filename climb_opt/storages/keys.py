"""Numbers for names: what databases and file systems take as the name of a lock."""

from __future__ import annotations

import hashlib


def short_key(name: str) -> int:
    """63 bits for a name, the same in every process and version."""
    digest = hashlib.sha256(f"climb_opt/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
