"""A mixture handed over to whoever trains the model.

    handover.py     the mixture with each domain's tokens and files
    notes.py        what is said with it: what is left out, not there, too short
    configs.py      as a configuration: JSON, YAML, Megatron, NeMo, nanotron, OLMo-core, MosaicML
    code.py         as Python: Hugging Face datasets, torchtitan
    materialise.py  as data: the mixed tokens or documents, for a token budget
    from_study.py   `climb_opt.export`, `climb_opt.materialise`: which mixture of which study

A format is a function from a `Handover` to text. Add one with a function and a line in
`lookup.py`, or name your own as "module:Name". `lookup.facts` says of it what its trainer needs.
"""

from climb_opt.exports.formats import Format, format_of, render, texts
from climb_opt.exports.handover import Handover, Source, prepare

__all__ = ["Format", "Handover", "Source", "format_of", "prepare", "render", "texts"]
