"""The data set: load it, describe it, and find anomalies in it.

The package itself offers what other packages use most; `statistics`, `validation`, `production` and
`reference` are modules of their own.
"""

from fashion_mnist.data.dataset import (
    CLASSES,
    SHA256,
    SIDE,
    SPLITS,
    Dataset,
    load,
    load_saved,
    load_test_image,
    save,
)
from fashion_mnist.data.digests import are_among, digests, pack_digests
from fashion_mnist.data.errors import DataError
from fashion_mnist.data.idx import check_size, decompress, encode_idx, parse_idx, write_idx
from fashion_mnist.data.sources import DEBIAN, FILES, OFFICIAL

__all__ = [
    "CLASSES",
    "DEBIAN",
    "FILES",
    "OFFICIAL",
    "SHA256",
    "SIDE",
    "SPLITS",
    "DataError",
    "Dataset",
    "are_among",
    "check_size",
    "decompress",
    "digests",
    "encode_idx",
    "load",
    "load_saved",
    "load_test_image",
    "pack_digests",
    "parse_idx",
    "save",
    "write_idx",
]
