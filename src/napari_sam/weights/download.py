"""Weight files from elsewhere: fetched once, resumed, verified, and put in place whole. No torch is needed here.

The first download of a file whose hash nobody published is trusted; its own hash is kept beside it and holds from
then on, also for the same file fetched again.
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
# A connection that breaks is taken up again so often, as long as each brings something.
ATTEMPTS = 3
PAUSE = 1.0
TURN_SECONDS = 0.5
BLOCK = 2**20
# A file whose size is not known may have this many bytes; one whose size is known, this multiple of it.
MAX_BYTES = 16 * 10**9
MAX_EXCESS = 3
# A connection that brings less than this many bytes a second, over this many seconds, is given up.
MIN_SPEED = 1000
STALL_SECONDS = 60.0
MAX_LENGTH_DIGITS = 15
# How a torch file (zip, or the older pickle) begins.
BEGINNINGS = (b"PK\x03\x04", b"\x80")

# Bytes that are there, and bytes in all where the server says so.
Progress = Callable[[int, int | None], None]


class _DroppedError(Exception):
    """The connection broke before the file was whole; what came is kept."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One file to fetch, and what came of it so far."""

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
    """Return the file that keeps the hash of a downloaded file."""
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
    """Download a file, going on where an earlier attempt stopped; two processes take turns and download it once.

    Parameters
    ----------
    url
        Of a file; https, also after being sent on.
    target
        Where it will be, whole and verified or not at all.
    sha256
        Hash that it must have. Where it is None the file's own is recorded.
    homepage
        Where else to look for the file, for the message.
    progress
        Called with the bytes that are there and the bytes in all (None where the server does not say); what it raises
        stops the download, which goes on from there the next time.
    name
        Of the model, for the message; the file's name when left out.
    nbytes
        About how large the file is. A file of more than three times that is refused; 16 GB where it is not known.

    Raises
    ------
    ModelError
        It cannot be downloaded, is no model file, has another hash or is far larger than expected, or there is no
        room for it.
    """
    elsewhere = f" (see {homepage})" if homepage else ""
    by_hand = f"get that file with a browser{elsewhere} and save it as {target} by hand"
    limit = MAX_BYTES if nbytes is None else int(MAX_EXCESS * nbytes)
    job = _Job(url, target, by_hand, name or target.name, limit, Unfinished(target))
    report = progress or (lambda done, total: None)
    if urlsplit(url).scheme not in SCHEMES:
        raise job.error("models are fetched by https alone", job.help)
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
    """Wait until no other process downloads this file; show how far that one is."""
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
    """Receive the file into its part, taking up the connection again where it breaks."""
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
        return  # An earlier attempt ended before it was put in place.
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
    """Say in words why a server does not give a file."""
    if code in (401, 403):
        return f"the server answers {code}, it does not give the file to everyone"
    if code in (404, 410):
        return f"the server answers {code}, the file is no longer there"
    if 300 <= code < 400:
        return f"the server answers {code} and sends the download around in a circle"
    if code == 429 or code >= 500:
        return f"the server answers {code}, it is busy or out of order at the moment"
    return f"the server answers {code}"


def _unreachable(url: str, reason: object) -> str:
    """Say in words why there is no connection."""
    host = urlsplit(url).hostname
    if isinstance(reason, ssl.SSLError):
        return f"the certificate of {host} is not accepted here, as happens behind a firewall that inspects connections"
    if isinstance(reason, socket.gaierror):
        return f"{host} cannot be reached, there is no network or it does not know this name"
    return f"{host} cannot be reached, {' '.join(str(reason).split())}"


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Do not let a server send the download on to a place that is not encrypted."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in SCHEMES:
            fp.close()
            raise urllib.error.URLError("it sends the download on to a place that is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(job: _Job, headers: dict[str, str]) -> Any:
    opener = urllib.request.build_opener(_HttpsOnly)
    return opener.open(urllib.request.Request(job.url, headers=headers), timeout=TIMEOUT)  # noqa: S310  Checked before.


def _begin(job: _Job, headers: Message, start: int, about: dict[str, Any]) -> tuple[int, int | None]:
    """Look at an answer before its body: return from where on it is, and how long the whole file is."""
    if headers.get_content_type() == "text/html":
        raise job.error("the answer is a web page and no model file, as of a network that wants a login")
    version = _version(headers)
    length = headers.get("Content-Length", "").strip()
    known = re.fullmatch(r"[0-9]+", length) is not None
    if known and (len(length) > MAX_LENGTH_DIGITS or start + int(length) > job.limit):
        raise job.error(f"it has {_size_in_words(length)}, and no more than {job.limit / 1e9:.2f} GB are expected")
    total = start + int(length) if known else None
    if start:
        came = headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        # Some servers give the rest of a file that is another one by now.
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
    """Return what tells one version of a file from another; a weak ETag does not, to the byte."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _copy(job: _Job, response: http.client.HTTPResponse, start: int, total: int | None, report: Progress) -> None:
    with _writing(job):
        file = job.unfinished.part.open("ab")
    with file:
        done = start
        report(done, total)
        speed = _Speed()
        # `read` would wait until a block is full: a server could send a byte from time to time, for ever.
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
        raise job.error(f"the server sends more than {job.limit / 1e9:.2f} GB, and no more are expected")
    if total is not None and done < total:
        raise _DroppedError(f"the connection broke after {done} of {total} bytes")


def _size_in_words(length: str) -> str:
    return f"{int(length) / 1e9:.2f} GB" if len(length) <= MAX_LENGTH_DIGITS else "more bytes than a disk can hold"


class _Speed:
    """Gives up a connection that hardly brings anything."""

    def __init__(self) -> None:
        self._since, self._count = time.monotonic(), 0

    def check(self, count: int) -> None:
        """Count received bytes.

        Raises
        ------
        _DroppedError
            Fewer than `MIN_SPEED` bytes a second came over `STALL_SECONDS`.
        """
        self._count += count
        elapsed = time.monotonic() - self._since
        if elapsed < STALL_SECONDS:
            return
        if self._count < MIN_SPEED * elapsed:
            raise _DroppedError(f"it comes at {self._count / elapsed:.0f} bytes a second")
        self._since, self._count = time.monotonic(), 0


def _check(job: _Job, sha256: str | None) -> None:
    """Refuse, and delete, what is no model file or another one than it should be."""
    with job.unfinished.part.open("rb") as file:
        begins = file.read(9)
    if not begins.startswith(BEGINNINGS) and begins[8:9] != b"{":
        job.unfinished.forget()
        raise job.error("what came is no model file")
    found = sha256_of(job.unfinished.part) if sha256 else None
    if found == sha256:
        return
    job.unfinished.forget()
    known = f", or delete {record_of(job.target)} if a new version is meant" if record_of(job.target).exists() else ""
    raise job.error(f"its sha256 is {found} instead of {sha256}", f"try again, or {job.help}{known}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def _writing(job: _Job) -> Iterator[None]:
    """Tell a disk that cannot be written from a network that does not answer."""
    try:
        yield
    except OSError as error:
        folder = job.target.parent
        raise job.error(
            f"{folder} cannot be written to, {error.strerror or error}",
            f"make room or choose another folder by NAPARI_SAM_MODELS, or {job.help}",
        ) from error
