"""Downloads of weights: resumed, verified and moved into place only when complete. Needs no torch.

A file without a published hash is trusted at its first download. Its hash is stored beside it, and later downloads of
the file are verified with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from napari_sam.errors import ModelError
from napari_sam.files.locks import try_lock
from napari_sam.weights.unfinished import Unfinished

SCHEMES = ("https",)
TIMEOUT = 30.0
# Attempts to resume a broken connection without progress.
ATTEMPTS = 3
PAUSE = 1.0
TURN_SECONDS = 0.5
BLOCK = 2**20
# Largest file of unknown size, and the largest multiple of a known size.
MAX_BYTES = 16 * 10**9
MAX_EXCESS = 3
# A connection slower than this many bytes per second, over this many seconds, is closed.
MIN_SPEED = 1000
STALL_SECONDS = 60.0
MAX_LENGTH_DIGITS = 15
# First bytes of a torch file (zip, or the older pickle).
BEGINNINGS = (b"PK\x03\x04", b"\x80")

# Bytes received, and the total if the server states it.
Progress = Callable[[int, int | None], None]


class _DroppedError(Exception):
    """Raised when the connection breaks before the file is complete. The received part is kept."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One file to download, and the part of it that was received."""

    url: str
    target: Path
    help: str
    name: str
    limit: int
    unfinished: Unfinished

    def error(self, reason: str, advice: str = "") -> ModelError:
        return ModelError(
            f"The weights of {self.name} could not be downloaded from {self.url} ({reason}): "
            f"{advice or f'try again, or {self.help}'}."
        )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, as 64 hexadecimal digits.

    Raises
    ------
    ModelError
        The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"The model file {path} cannot be read ({error.strerror}): check the path.") from error


def record_of(path: Path) -> Path:
    """Return the file with the hash of a downloaded file."""
    return path.with_name(f"{path.name}.sha256")


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    homepage: str = "",
    progress: Progress | None = None,
    name: str = "",
    nbytes: int | None = None,
) -> None:
    """Download a file, and resume an earlier attempt. Of two processes one downloads and the other one waits.

    Parameters
    ----------
    url
        URL of the file. It, and every redirect, must be https.
    target
        Path of the file, which appears only when it is complete and verified.
    sha256
        Expected hash. For None the hash of the downloaded file is recorded.
    homepage
        Page of the model, for the error message.
    progress
        Called with the bytes received and the total, or None if it is unknown. An exception that it raises stops the
        download; the next one resumes there.
    name
        Name of the model, for the error message; by default that of the file.
    nbytes
        Approximate size. A file of more than three times this size is refused; by default, of more than 16 GB.

    Raises
    ------
    ModelError
        It cannot be downloaded, is not a model file, has another hash or is far larger than expected, or the disk is
        full.
    """
    elsewhere = f" (see {homepage})" if homepage else ""
    by_hand = f"get that file with a browser{elsewhere} and save it as {target} by hand"
    limit = MAX_BYTES if nbytes is None else int(MAX_EXCESS * nbytes)
    job = _Job(url, target, by_hand, name or target.name, limit, Unfinished(target))
    report = progress or (lambda done, total: None)
    if urlsplit(url).scheme not in SCHEMES:
        raise job.error("models are downloaded by https only", job.help)
    with _writing(job):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _turn(job, report):
        if target.exists():
            job.unfinished.forget()
            return
        _fill(job, report)
        _check(job, sha256)
        with _writing(job):
            if sha256 is None and _size(record_of(target)) == 0:
                record_of(target).write_text(f"{sha256_of(job.unfinished.part)}  {target.name}\n")
            job.unfinished.put_in_place()


@contextlib.contextmanager
def _turn(job: _Job, report: Progress) -> Iterator[None]:
    """Wait while another process downloads this file, and report its progress."""
    place = job.target.with_name(f".{job.target.name}.lock")
    while True:
        with _writing(job):
            lock = try_lock(place, create=True)
        job.unfinished.look()
        if lock is not None:
            break
        report(job.unfinished.size, job.unfinished.about()["total"])
        time.sleep(TURN_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _fill(job: _Job, report: Progress) -> None:
    """Receive the file, and resume broken connections."""
    tries, most = 0, job.unfinished.size
    while True:
        try:
            _receive(job, report)
        except _DroppedError as error:
            size = job.unfinished.size
            tries = 0 if size >= most + BLOCK else tries + 1
            most = max(most, size)
            if tries >= ATTEMPTS:
                raise job.error(f"{error}, {ATTEMPTS} times") from error
            time.sleep(PAUSE * tries)
        else:
            return


def _receive(job: _Job, report: Progress) -> None:
    about = job.unfinished.about()
    start = job.unfinished.size if about["url"] == job.url and about["version"] else 0
    if start and start == about["total"]:
        return  # An earlier attempt received all of it but did not move it into place.
    headers = {"User-Agent": "napari-sam", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": about["version"]}
    try:
        with _open(job, headers) as response:
            start, total = _begin(job, response.headers, start if response.status == 206 else 0, about)
            _copy(job, response, start, total, report)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:
            raise job.error(_refusal(error.code)) from error
        job.unfinished.forget()
        raise _DroppedError(f"the server has no more than {start} bytes of it") from error
    except urllib.error.URLError as error:
        raise job.error(_unreachable(job.url, error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _DroppedError(" ".join(str(error).split()) or type(error).__name__) from error


def _refusal(code: int) -> str:
    """Return the reason of an HTTP error, in words."""
    if code in (401, 403):
        return f"the server answers {code}, the file is not public"
    if code in (404, 410):
        return f"the server answers {code}, the file is no longer there"
    if 300 <= code < 400:
        return f"the server answers {code}, its redirects form a loop"
    if code == 429 or code >= 500:
        return f"the server answers {code}, it is overloaded or out of order at the moment"
    return f"the server answers {code}"


def _unreachable(url: str, reason: object) -> str:
    """Return the reason of a failed connection, in words."""
    host = urlsplit(url).hostname
    if isinstance(reason, ssl.SSLError):
        return f"the certificate of {host} is not accepted here, as happens behind a firewall that inspects connections"
    if isinstance(reason, socket.gaierror):
        return f"{host} cannot be reached, there is no network or the name is unknown"
    return f"{host} cannot be reached, {' '.join(str(reason).split())}"


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Refuse redirects to URLs that are not https."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in SCHEMES:
            fp.close()
            raise urllib.error.URLError("it redirects the download to an unencrypted connection")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(job: _Job, headers: dict[str, str]) -> Any:
    opener = urllib.request.build_opener(_HttpsOnly)
    return opener.open(urllib.request.Request(job.url, headers=headers), timeout=TIMEOUT)  # noqa: S310  Checked before.


def _begin(job: _Job, headers: Message, start: int, about: dict[str, Any]) -> tuple[int, int | None]:
    """Check the headers of a response; return the offset of its first byte and the size of the whole file."""
    if headers.get_content_type() == "text/html":
        raise job.error("the server sent a web page and not a model file, as networks with a login page do")
    version = _version(headers)
    length = headers.get("Content-Length", "").strip()
    known = re.fullmatch(r"[0-9]+", length) is not None
    if known and (len(length) > MAX_LENGTH_DIGITS or start + int(length) > job.limit):
        raise job.error(f"it has {_size_in_words(length)}, more than the expected {job.limit / 1e9:.2f} GB")
    total = start + int(length) if known else None
    if start:
        came = headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        # Some servers send the rest although the file has changed.
        if came != str(start) or version not in (None, about["version"]):
            job.unfinished.forget()
            raise _DroppedError("the file on the server has changed")
    with _writing(job):
        if not start:
            job.unfinished.begin(job.url, version, total)
        free = shutil.disk_usage(job.target.parent).free
    if total is not None and free < total - start:
        room = f"make room for {(total - start) / 1e9:.2f} GB in {job.target.parent}, or set NAPARI_SAM_MODELS"
        raise job.error("the disk is full", f"{room} to another folder")
    return start, total


def _version(headers: Message) -> str | None:
    """Return the identifier of a file's version; not a weak ETag, which allows different bytes."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _copy(job: _Job, response: http.client.HTTPResponse, start: int, total: int | None, report: Progress) -> None:
    with _writing(job):
        file = job.unfinished.part.open("ab")
    with file:
        done = start
        report(done, total)
        speed = _Speed()
        # `read` would wait for a full block, for ever if a server sends single bytes.
        while block := response.read1(BLOCK):
            done += len(block)
            if done > job.limit:
                break
            with _writing(job):
                file.write(block)
            report(done, total)
            speed.check(len(block))
        with _writing(job):
            file.flush()
            os.fsync(file.fileno())
    if done > job.limit:
        job.unfinished.forget()
        raise job.error(f"the server sends more than the expected {job.limit / 1e9:.2f} GB")
    if total is not None and done < total:
        raise _DroppedError(f"the connection broke after {done} of {total} bytes")


def _size_in_words(length: str) -> str:
    return f"{int(length) / 1e9:.2f} GB" if len(length) <= MAX_LENGTH_DIGITS else "more bytes than a disk can hold"


class _Speed:
    """Ends connections that are too slow."""

    def __init__(self) -> None:
        self._since, self._count = time.monotonic(), 0

    def check(self, count: int) -> None:
        """Count received bytes.

        Raises
        ------
        _DroppedError
            Fewer than `MIN_SPEED` bytes per second were received over `STALL_SECONDS`.
        """
        self._count += count
        elapsed = time.monotonic() - self._since
        if elapsed < STALL_SECONDS:
            return
        if self._count < MIN_SPEED * elapsed:
            raise _DroppedError(f"only {self._count / elapsed:.0f} bytes per second are received")
        self._since, self._count = time.monotonic(), 0


def _check(job: _Job, sha256: str | None) -> None:
    """Refuse, and delete, a file that is not a model file or has another hash."""
    with job.unfinished.part.open("rb") as file:
        begins = file.read(9)
    if not begins.startswith(BEGINNINGS) and begins[8:9] != b"{":
        job.unfinished.forget()
        raise job.error("the received file is not a model file")
    found = sha256_of(job.unfinished.part) if sha256 else None
    if found == sha256:
        return
    job.unfinished.forget()
    known = f", or delete {record_of(job.target)} if you want a new version" if record_of(job.target).exists() else ""
    raise job.error(f"its sha256 is {found} instead of {sha256}", f"try again, or {job.help}{known}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def _writing(job: _Job) -> Iterator[None]:
    """Raise errors of the disk as such, and not as errors of the network."""
    try:
        yield
    except OSError as error:
        folder = job.target.parent
        raise job.error(
            f"{folder} cannot be written to, {error.strerror or error}",
            f"make room or choose another folder by NAPARI_SAM_MODELS, or {job.help}",
        ) from error
