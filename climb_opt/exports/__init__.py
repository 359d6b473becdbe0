"""A mixture or a schedule handed over to whoever trains the model.

    handover.py     the mixture with each domain's tokens and files, or the phases of a schedule
    prepared.py     what makes one of a mixture or a schedule, and checks it
    formats.py      a format by name, and what is said with it: left out, not there, too short
    configs.py      as a configuration: JSON, YAML, nanotron, OLMo-core, MosaicML
    blends.py       as Megatron's blend of indexed files: Megatron, NeMo
    code.py         as Python: Hugging Face datasets, torchtitan
    materialise.py  as data: the mixed tokens or documents, for a token budget
    documents.py    the order in which these are written
    from_study.py   `climb_opt.export`, `climb_opt.materialise`: which mixture of which study

A format is a function from a `Handover` to text; of one that does not say phases, each phase of a
schedule is handed over by itself. Add one with a function and a line in
`lookup.py`, or name your own as "module:Name". `lookup.facts` says of it what its trainer needs.
"""

from climb_opt.exports.formats import Format, format_of, render, texts
from climb_opt.exports.handover import Handover, Source
from climb_opt.exports.prepared import prepare

__all__ = ["Format", "Handover", "Source", "format_of", "prepare", "render", "texts"]
