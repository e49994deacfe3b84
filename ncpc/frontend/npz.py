"""npz files of unknown origin, read without unpickling anything, and never more than they say beforehand."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.system.files import is_file

MOST_BYTES, MOST_ARRAYS = 1 << 32, 1000
"""Most that an archive may unpack to. Zeros pack a thousandfold: a file of 10 MB may hold 10 GB."""
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy writes."""
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(source: Path | bytes, advice: str, most: int = MOST_BYTES) -> dict[str, NDArray[Any]]:
    """Every array of an npz file by name. Raises BadInput, which ends with ``advice``, for whatever is none.

    The directory of the archive says how long each member is, and nothing is unpacked beyond that: more than ``most``
    bytes in all, or an array of another size than its member, is refused before.
    """
    name = source if isinstance(source, Path) else "archive"
    if isinstance(source, Path) and not is_file(source):
        raise BadInput(f"{name}: no such file; {advice}")
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > most or len(members) > MOST_ARRAYS:
                raise BadInput(f"{name}: would unpack to {len(members):,} arrays of {total:,} bytes; the most are "
                               f"{MOST_ARRAYS:,} of {most:,}; give fewer steps")
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except BadInput:
        raise
    except MemoryError as error:
        raise BadInput(f"{name}: needs more memory than there is ({error}); give fewer steps") from None
    except Exception:  # a damaged archive makes zipfile, zlib and NumPy raise a dozen kinds
        raise BadInput(f"{name}: not a readable npz file of numbers; {advice}") from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """One array. Raises ValueError where its header and its member's length do not agree."""
    if member.compress_type not in PACKED:
        raise ValueError("packed in another way than NumPy's")
    with archive.open(member) as file:
        shape, fortran, dtype = HEADERS[npy.read_magic(file)](file)
        count = math.prod(shape)
        if dtype.hasobject or min(shape, default=0) < 0 or file.tell() + count * dtype.itemsize != member.file_size:
            raise ValueError("a header that does not say what follows")
        return _filled(file, count, dtype).reshape(shape, order="F" if fortran else "C")


def _filled(file: IO[bytes], count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    data = file.read()  # not more than the member's length, and all of it: its checksum is looked at here
    if len(data) != count * dtype.itemsize:
        raise ValueError("shorter than it says")
    return np.frombuffer(bytearray(data), dtype, count)
