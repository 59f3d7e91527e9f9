"""Refuse checkpoints that would take far more memory than their file, before a library reads them.

torch and safetensors trust the sizes that a file declares. A zip archive of 1.4 MB can hold a pickle of 1.5 GB of
zeros, and a pickle of 10 MB can build a hundred million empty sets.
"""

from __future__ import annotations

import contextlib
import pickletools
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from napari_sam.errors import ModelError

ZIP_START = b"PK\x03\x04"
MIB = 2**20
# Trained weights hardly compress: a file that unpacks to more than this multiple is refused.
MAX_UNPACKED_RATIO = 2
# Memory that building the objects of a pickle may take beyond a multiple of the file.
MAX_OBJECT_BYTES = 64 * MIB
# Bytes of memory for a byte of pickle, and for each opcode that makes a container or calls a constructor.
BYTES_PER_BYTE = 24
BYTES_PER_OPCODE = {b"}": 72, b"]": 80, b"\x8f": 232, b"\x85": 72, b"\x86": 80, b"\x87": 88, b"R": 232, b"\x81": 232}
# Opcodes in an old torch file before its tensors: SAM ViT-H has twenty thousand.
MAX_OLD_OPCODES = 1_000_000
# An old torch file begins with a magic number, a version, the system, the objects and the names of the tensors.
OLD_PICKLES = 5
# torch allows a pickle to call it with any length, and its memory is filled with zeros.
ALLOCATOR = b"bytearray"
LONG_LIST = "a list of contents that is far longer than that of a network's weights"
# The header of a safetensors file takes about 120 bytes for each tensor.
MAX_HEADER_BYTES = 8 * MIB


def check_torch_file(path: Path) -> None:
    """Refuse a torch file whose contents are out of proportion to its size.

    Raises
    ------
    ModelError
        They are, or it is not a torch file.
    OSError
        It cannot be read.
    """
    with path.open("rb") as file:
        is_zip = file.read(4) == ZIP_START
        file.seek(0)
        if not is_zip:
            _check_old(file, path)
            return
        try:
            _check_zip(file, path)
        except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError, OverflowError) as error:
            raise ModelError(f"{path} is not a complete torch checkpoint: download or save it again.") from error


def check_safetensors(path: Path) -> None:
    """Refuse a safetensors file whose header is out of proportion.

    Raises
    ------
    ModelError
        It is, or the file is not a complete safetensors file.
    OSError
        It cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ModelError(f"{path} is not a complete safetensors file: download or save it again.")
    if length > MAX_HEADER_BYTES:
        raise _too_large(path, f"a list of tensors of {length // MIB} MB")


def _check_zip(file: IO[bytes], path: Path) -> None:
    size = path.stat().st_size
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        unpack = sum(member.file_size for member in members)
        if unpack > MAX_UNPACKED_RATIO * size + MIB:
            raise _too_large(path, f"{unpack // MIB} MB in a file of {size / MIB:.1f} MB")
        for member in members:
            if member.filename.endswith(".pkl"):
                memory = _memory_of(archive, member)
                if memory > MAX_UNPACKED_RATIO * size + MAX_OBJECT_BYTES:
                    raise _too_large(path, LONG_LIST)
                if ALLOCATOR in archive.read(member):
                    raise _too_large(path, "raw bytes instead of tensors")


def _memory_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Return an upper bound of the memory of a pickle's objects in bytes, counted without unpickling."""
    memory = 0
    with archive.open(member) as pickled:
        while block := pickled.read(MIB):
            counts = np.bincount(np.frombuffer(block, np.uint8), minlength=256)
            memory += BYTES_PER_BYTE * len(block)
            memory += sum(int(counts[code[0]]) * size for code, size in BYTES_PER_OPCODE.items())
    return memory


def _check_old(file: IO[bytes], path: Path) -> None:
    count = 0
    # torch itself refuses files that are not pickles, with a reason.
    with contextlib.suppress(ValueError, MemoryError, OverflowError):
        for _ in range(OLD_PICKLES):
            for opcode, argument, _ in pickletools.genops(file):
                count += 1
                if opcode.name == "GLOBAL" and ALLOCATOR.decode() in str(argument):
                    raise _too_large(path, "raw bytes instead of tensors")
                if count > MAX_OLD_OPCODES:
                    raise _too_large(path, LONG_LIST)


def _too_large(path: Path, found: str) -> ModelError:
    return ModelError(
        f"{path} holds {found}, which no network needs: use a checkpoint of a model that napari-sam knows."
    )
