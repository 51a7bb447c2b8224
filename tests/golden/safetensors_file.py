"""The safetensors format in numpy: 8 bytes of header length, a JSON header, the data.

Enough for the golden data and the benchmarks' peer, without a package.
"""
import json
import pathlib
import struct

import numpy as np

CODES = {"int64": "I64", "float64": "F64", "float32": "F32", "bool": "BOOL"}
DTYPES = {code: np.dtype(name) for name, code in CODES.items()}


def write(path, tensors, metadata=None):
    """tensors: name -> numpy array; the widest types lie first, so that all are aligned."""
    arrays = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in tensors.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header, offset = {"__metadata__": metadata} if metadata else {}, 0
    for name in order:
        a = arrays[name]
        code, end = CODES[a.dtype.name], offset + a.nbytes
        header[name] = {"dtype": code, "shape": list(a.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(arrays[name].tobytes() for name in order)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def read(path):
    """name -> numpy array, writable."""
    content = pathlib.Path(path).read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(content[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"]).copy()
    return tensors
