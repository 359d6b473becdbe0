"""Files called .json: a list of documents, an object that holds one, or a document each."""

from climb_opt.corpus.read.jsonl import read
from climb_opt.corpus.read.source import Reader

JSON = Reader(
    "JSON: a list of documents, or a document over several lines", read, (".json",), rank=2
)
