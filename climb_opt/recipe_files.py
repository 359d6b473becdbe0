"""Recipe files as plain data: found, included, overridden, compared."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from climb_opt.errors import UserError, did_you_mean
from climb_opt.reading import read_text
from climb_opt.yamls import POWER, parse_yaml, read_yaml

LONGEST = 200  # characters of what a difference shows in full: a ladder is ten times as long
SHIPPED = ("studies", "proxies", "corpora")


def names(kind: str) -> list[str]:
    """The shipped recipes of a kind ("studies", "proxies" or "corpora")."""
    return sorted(path.stem for path in _folder(kind).glob("*.yaml"))


def summary(kind: str, name: str) -> str:
    """The first comment line of a recipe: what it is for."""
    return read_text(find(kind, name)).partition("\n")[0].removeprefix("#").strip()


def find(kind: str, name: str) -> Path:
    """The file of a recipe: a path that exists, else a shipped name."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise UserError(f"No recipe file {name!r}.")
    shipped = _folder(kind) / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    hint = did_you_mean(name, names(kind))
    raise UserError(
        f"No recipe {name!r} in {kind}.{hint} Shipped: {', '.join(names(kind))}; "
        "or give the path of a .yaml file."
    )


def read_shipped(folder: str, name: str, what: str, others: str) -> dict[str, Any]:
    """The plain data of a recipe of `studies`, by its path or its name in a folder of shipped ones.

    Args:
        what: it is, as errors call it; `others`: what may be given instead of a name.
    """
    known = names(folder)
    if not Path(name).suffix and name not in known:
        raise UserError(
            f"No {what} {name!r}. Shipped: {', '.join(known)}; or give the path of {others}."
        )
    return read_data("studies", str(find(folder, name)))


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a recipe file, as it stands."""
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys, but this holds {type(data)}.")
    return data


def read_data(kind: str, name: str, chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The plain data of a shipped recipe or a file, with everything it includes."""
    path = find(kind, name)
    if path in chain:
        raise UserError(f"{path}: includes itself through {' -> '.join(p.name for p in chain)}.")
    data = load_yaml(path)
    parent = data.pop("include", None)
    if parent is None:
        return data
    beside = path.parent / f"{parent}.yaml"
    return merge(read_data(kind, str(beside) if beside.is_file() else parent, (*chain, path)), data)


def included(kind: str, data: Any) -> Any:
    """A mapping with what the recipe that it may `include` says besides; anything else as it is."""
    if not isinstance(data, Mapping) or data.get("include") is None:
        return data
    rest = {key: value for key, value in data.items() if key != "include"}
    return merge(read_data(kind, str(data["include"])), rest)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`; mappings with the same key are merged, all else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        choice = key != "corpus" and isinstance(value, Mapping) and "name" in value
        if isinstance(value, Mapping) and isinstance(inner, Mapping) and not choice:
            merged[key] = merge(inner, value)
        else:
            merged[key] = value
    return merged


def set_overrides(data: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """The data of a recipe after each `key.sub=value` of `--set` was applied to it."""
    top = data
    for override in overrides:
        data = top
        keys, text = _split_override(override)
        try:
            value = parse_yaml(text, f"--set {override!r}")
        except UserError as error:
            raise UserError(f"{error}. {_as_text('.'.join(keys), text)}") from None
        for place, parent in enumerate(keys[:-1], start=1):
            inner = data.get(parent)
            if isinstance(inner, str):  # a name: proxy: tiny -> {include: tiny}, sampler: climb
                inner = {"include": inner} if parent == "proxy" else {"name": inner}
            if inner is not None and not isinstance(inner, dict):
                path = ".".join(keys[:place])
                raise UserError(
                    f"--set {override!r}: {path} is {inner!r}, which has no keys. Replace the "
                    f"whole: --set {path}=..."
                )
            data[parent] = {} if inner is None else inner
            data = data[parent]
        data[keys[-1]] = value
    return top


# Mappings of names to numbers: what follows is one name, with any dots and equals signs it has.
NAMED = re.compile(r"((?:.*?\.)??(?:space\.(?:lower|upper)|constraints|score)\.)(.+)=([^=]*)")


def _split_override(override: str) -> tuple[list[str], str]:
    named = NAMED.fullmatch(override)
    if named and "=" not in named[1]:
        return [*named[1].split(".")[:-1], named[2]], named[3]
    key, sign, text = override.partition("=")
    if not sign or not all(key.split(".")):
        raise UserError(f"--set {override!r}: expected key=value, e.g. rounds=[16,8,4].")
    return key.split("."), text


def _as_text(key: str, text: str) -> str:
    """What to type where a value that YAML cannot read was meant as text."""
    quoted = text.replace("'", "''")
    given = f"{key}='{quoted}'"
    plain = not any(character in given for character in '"$`\\!')
    typed = f'"{given}"' if plain else shlex.quote(given)
    return f"If it is text, quote it for YAML too: --set {typed}."


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines "key: old -> new" for every key in which two recipes differ, "list[0].key" in lists.

    What an earlier release stored of 1e-3, which it took for text, is that number.
    """
    lines = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += difference(a, b, f"{prefix}{key}.")
        elif _entries(a) and _entries(b):
            if len(a) != len(b):
                lines.append(f"{prefix}{key}: {len(a)} entries -> {len(b)}")
            places = range(min(len(a), len(b)))
            was, now = ({f"{key}[{i}]": entries[i] for i in places} for entries in (a, b))
            lines += difference(was, now, prefix)
        elif not _same(a, b):
            lines.append(f"{prefix}{key}: {_shown(a)} -> {_shown(b)}")
    return lines


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, str) and isinstance(new, float):
        return POWER.match(old) is not None and float(old) == new
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return all(map(_same, old, new))
    return bool(old == new)


def _shown(value: Any) -> str:
    said = json.dumps(value, ensure_ascii=False)  # as it was typed
    text = said.encode("utf-8", "backslashreplace").decode("utf-8")  # but for what is no UTF-8
    return f"{len(value)} entries" if _entries(value) and len(text) > LONGEST else text


def _entries(value: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    """Whether it is a list of mappings."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _folder(kind: str) -> Path:
    package = Path(__file__).parent
    inside = package / kind  # an installed wheel
    return inside if inside.is_dir() else package.parent / kind  # a checkout
