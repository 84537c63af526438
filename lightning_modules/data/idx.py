"""Reading and writing IDX, the format of the MNIST family.

Two zero bytes, the type (8 = unsigned byte), the number of dimensions, each dimension as a big-endian 32-bit
number, then the values.

Source: http://yann.lecun.com/exdb/mnist/, "The IDX file format".
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UNSIGNED_BYTE = 8
GZIP_MAGIC = b"\x1f\x8b"


def read_decompressed(path: Path) -> bytes:
    """The content of a file, decompressed if gzipped, whatever its name.

    Raises:
        ValueError: The gzip stream is truncated or damaged.
        OSError: The file cannot be read.
    """
    content = path.read_bytes()
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise ValueError("truncated: the gzip stream ends early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"damaged: {error}") from None


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """The read-only array of a decompressed IDX file of unsigned bytes.

    Raises:
        ValueError: The content is not IDX, has another type, or another length than its header states.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError("not an IDX file: it must start with two zero bytes and a type")
    if content[2] != UNSIGNED_BYTE:
        raise ValueError(f"IDX type {content[2]:#04x}: must be 0x08, unsigned bytes")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError("truncated: the IDX header ends early")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        word = "truncated" if len(content) < expected else "too long"
        raise ValueError(f"{word}: {len(content)} bytes, its IDX header states {expected}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def format_idx(array: NDArray[np.uint8]) -> bytes:
    """An array as IDX, uncompressed; the inverse of `parse_idx`."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + array.tobytes()
