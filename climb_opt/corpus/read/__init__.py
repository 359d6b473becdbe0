"""Documents out of files, folders and data sets, whatever they hold."""

from climb_opt.corpus.documents import Bad
from climb_opt.corpus.read.records import read
from climb_opt.corpus.read.source import Progress, Reader, ReadOptions, Row, Source
from climb_opt.unpacking import Damaged

__all__ = ["Bad", "Damaged", "Progress", "ReadOptions", "Reader", "Row", "Source", "read"]
