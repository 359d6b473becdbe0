"""Where a trunk and its branches are kept: beside the studies, for all that train from them.

A part's folder is named by its fingerprint (recipe, corpus, seed, trunk), so another search, its
confirmation or a comparison of samplers finds what one of them has trained:

    branches/<fingerprint>/model/           weights in Hugging Face form, with the tokenizer
    branches/<fingerprint>/checkpoint.pt    of a trunk: what runs go on from
    branches/<fingerprint>/nats-*.npy       what it says of an evaluator's tokens
    branches/<fingerprint>/branch.json      the digest of its weights and what is known of it; last
    branches/<fingerprint>/diverged.txt     why it has no weights: another seed is taken
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from climb_opt.errors import UserError
from climb_opt.files import check_folder, write_text, write_whole
from climb_opt.proxy import model
from climb_opt.shards import Corpus, file_digest

FOLDER = "branches"
MODEL = "model"
FACTS = "branch.json"
DIVERGED = "diverged.txt"
TRUNK_STATE = 3  # times a model's size: weights and two moments of AdamW


class Store:
    """The parts on a disk.

    Args:
        folder: where studies keep their runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self._checked: dict[str, dict[str, Any]] = {}

    def of(self, fingerprint: str) -> Path:
        """The folder of a part."""
        return self.folder / fingerprint[:16]

    def model(self, fingerprint: str) -> Path:
        """Where its weights lie."""
        return self.of(fingerprint) / MODEL

    def nats(self, fingerprint: str, evaluator: str) -> Path:
        """What it says of an evaluator's tokens."""
        named = hashlib.sha256(evaluator.encode()).hexdigest()[:16]
        return self.of(fingerprint) / f"nats-{named}.npy"

    def facts(self, fingerprint: str) -> dict[str, Any] | None:
        """What is known of a part whose weights are all there, as they were written; None without.

        Raises:
            UserError: its weights are not those that were written.
        """
        if fingerprint in self._checked:
            return self._checked[fingerprint]
        path = self.of(fingerprint) / FACTS
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); remove its folder.") from None
        if facts.get("fingerprint") != fingerprint:
            return None
        found = digest(self.model(fingerprint))
        if found != facts.get("digest"):
            raise UserError(
                f"{path.parent}: the weights of {facts.get('name')!r} are not those that were "
                f"written (digest {found[:12]}, not {str(facts.get('digest'))[:12]}). Remove the "
                "folder, and it is trained anew."
            )
        self._checked[fingerprint] = facts
        return facts

    def diverged(self, fingerprint: str) -> bool:
        """Whether a part was tried and has diverged."""
        return (self.of(fingerprint) / DIVERGED).is_file()

    def give_up(self, fingerprint: str, reason: str) -> None:
        """Write that a part has diverged."""
        write_text(self.of(fingerprint) / DIVERGED, reason)

    def put(self, fingerprint: str, network: Any, corpus: Corpus) -> Path:
        """Write a part's weights; returns their folder. Until it is sealed it counts as missing."""
        folder = self.model(fingerprint)
        folder.parent.mkdir(parents=True, exist_ok=True)
        model.save(network, corpus, folder)
        return folder

    def seal(self, fingerprint: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write what is known of a part whose weights are there, with their digest and size."""
        folder = self.model(fingerprint)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        found = {**facts, "fingerprint": fingerprint, "digest": digest(folder), "bytes": size}
        write_whole(self.of(fingerprint) / FACTS, json.dumps(found))
        self._checked[fingerprint] = found
        return found

    def check_space(self, missing: int, trunk: bool, parameters: int) -> str:
        """What so many branches and perhaps a trunk take, in words.

        Args:
            missing: parts whose weights are still to be written.
            trunk: whether the trunk's state is among them.

        Raises:
            UserError: the disk does not hold them; before anything is trained.
        """
        check_folder(self.folder)
        models = missing + TRUNK_STATE * trunk
        needed, free = 4 * models * parameters, shutil.disk_usage(self.folder).free
        text = f"{missing} x {_size(4 * parameters)}"
        text += f" and a checkpoint of {_size(4 * TRUNK_STATE * parameters)}" if trunk else ""
        if needed > free:
            raise UserError(
                f"study.branches: the trunk and its branches take {_size(needed)} in "
                f"{str(self.folder)!r} ({text}), but only {_size(free)} are free there. Make room, "
                "put --runs on another disk, or set branches.most lower."
            )
        return f"{_size(needed)} ({text}) in {self.folder}"


def digest(folder: Path) -> str:
    """SHA-256 of a model's weights on disk."""
    found = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        found.update(bytes.fromhex(file_digest(file)))
    return found.hexdigest()


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
