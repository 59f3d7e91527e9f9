"""Downloads from a server that breaks off, changes its mind, lies and refuses; never from the internet."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from napari_sam.errors import ModelError
from napari_sam.testing import TIMEOUT
from napari_sam.weights import download as module
from napari_sam.weights.download import download, record_of, sha256_of
from napari_sam.weights.unfinished import Unfinished

WEIGHTS = b"PK\x03\x04" + bytes(range(256)) * 400
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@dataclass
class Server:
    """What the server does; requests are kept in `asked`, each as its Range header or ''."""

    url: str
    content: bytes = WEIGHTS
    etag: str | None = '"one"'
    status: int = 200
    kind: str = "application/octet-stream"
    moved_to: str | None = None
    knows_ranges: bool = True
    minds_if_range: bool = True
    more_than_it_has: int = 0
    # How many bytes of the body each answer has before the connection breaks.
    breaks_after: list[int] = field(default_factory=list)
    silent: threading.Event | None = None
    gate: threading.Event | None = None
    # Whether the body comes in chunks, without a length; how many bytes each has, and what length is claimed.
    chunk: int = 0
    claimed: str | None = None
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    told: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        told, span = self.told, self.headers.get("Range", "")
        told.asked.append(span)
        if told.silent is not None:
            told.silent.wait(TIMEOUT)
            return
        if told.moved_to and self.path != "/moved":
            self.send_response(302)
            self.send_header("Location", told.moved_to)
            self.end_headers()
            return
        if told.status != 200:
            self.send_error(told.status)
            return
        if told.chunk:
            self.send_in_chunks(told)
            return
        same = not told.minds_if_range or self.headers.get("If-Range") == told.etag
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span and told.knows_ranges and same else 0
        if start and start >= len(told.content):
            self.send_error(416)
            return
        body = told.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", told.kind)
        self.send_header("Content-Length", told.claimed or str(len(body) + told.more_than_it_has))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(told.content) - 1}/{len(told.content)}")
        if told.etag:
            self.send_header("ETag", told.etag)
        self.end_headers()
        if told.gate is not None:
            self.wfile.write(body[:1000])
            self.wfile.flush()
            told.gate.wait(TIMEOUT)
            body = body[1000:]
        self.wfile.write(body[: told.breaks_after.pop(0)] if told.breaks_after else body)
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_WR)

    def send_in_chunks(self, told: Server) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Content-Type", told.kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            for start in range(0, len(told.content), told.chunk):
                part = told.content[start : start + told.chunk]
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass  # The other side has had enough.


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(module, "SCHEMES", ("https", "http"))
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setattr(module, "BLOCK", 4096)
    handler = type("Told", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        handler.told = Server(f"http://127.0.0.1:{running.server_port}/weights")
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield handler.told
        if handler.told.silent:
            handler.told.silent.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "some.pth"


class StoppedError(Exception):
    """The user's wish to stop."""


def stop_after(count: int) -> module.Progress:
    def progress(done: int, total: int | None) -> None:
        if done >= count:
            raise StoppedError

    return progress


def left(target: Path) -> list[str]:
    """Return what lies beside the file, without locks and hashes."""
    return sorted(path.name for path in target.parent.iterdir() if path.suffix not in (".lock", ".sha256"))


def refusal(url: str, target: Path, **options: Any) -> str:
    """Try to download; return the one sentence that says why not."""
    with pytest.raises(ModelError) as caught:
        download(url, target, **options)
    message = str(caught.value)
    assert not re.search(r"[.!?]\s+[A-Z]|\n", message), f"more than one sentence: {message}"
    assert message.endswith(".")
    assert url in message
    assert not target.exists()
    return message


def test_a_file_is_put_in_place_whole_and_its_hash_is_kept(server: Server, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    download(server.url, target, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == WEIGHTS
    assert record_of(target).read_text().split()[0] == SHA256 == sha256_of(target)
    assert left(target) == ["some.pth"]
    assert seen[0] == (0, len(WEIGHTS))
    assert seen[-1] == (len(WEIGHTS), len(WEIGHTS))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_a_published_hash_is_checked_and_not_kept_again(server: Server, target: Path) -> None:
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == WEIGHTS
    assert not record_of(target).exists()


def test_a_file_that_is_there_is_not_fetched(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"mine")
    download(server.url, target)
    assert (target.read_bytes(), server.asked) == (b"mine", [])


def test_a_stopped_download_goes_on_where_it_was(server: Server, target: Path) -> None:
    with pytest.raises(StoppedError):
        download(server.url, target, progress=stop_after(50_000))
    (part,) = target.parent.glob(".some.pth-*.part")
    size = part.stat().st_size
    assert 50_000 <= size < len(WEIGHTS)
    seen: list[int] = []
    download(server.url, target, progress=lambda done, total: seen.append(done))
    assert server.asked == ["", f"bytes={size}-"]
    assert seen[0] == size
    assert target.read_bytes() == WEIGHTS
    assert left(target) == ["some.pth"]


def test_a_part_that_is_whole_already_is_not_fetched_again(server: Server, target: Path) -> None:
    with pytest.raises(StoppedError):
        download(server.url, target, progress=stop_after(len(WEIGHTS)))
    download(server.url, target)
    assert target.read_bytes() == WEIGHTS
    assert server.asked == [""]


def test_a_connection_that_breaks_is_taken_up_again(server: Server, target: Path) -> None:
    server.breaks_after = [30_000, 30_000, 30_000, 100, 100]
    download(server.url, target)
    assert target.read_bytes() == WEIGHTS
    assert len(server.asked) == 6


@pytest.mark.parametrize("minds", [True, False], ids=["server starts anew", "server gives the rest of another file"])
def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(server: Server, target: Path, minds: bool) -> None:
    with pytest.raises(StoppedError):
        download(server.url, target, progress=stop_after(50_000))
    server.content, server.etag, server.minds_if_range = b"PK\x03\x04" + b"new" * 40_000, '"two"', minds
    download(server.url, target)
    assert target.read_bytes() == server.content


def test_a_file_that_became_shorter_than_the_part(server: Server, target: Path) -> None:
    with pytest.raises(StoppedError):
        download(server.url, target, progress=stop_after(50_000))
    server.content, server.minds_if_range = b"PK\x03\x04" + b"new" * 40, False
    download(server.url, target)
    assert target.read_bytes() == server.content


@pytest.mark.parametrize("etag", [None, '"one"'])
def test_a_server_without_ranges_or_versions_gives_the_whole_file_again(
    server: Server, target: Path, etag: str | None
) -> None:
    server.knows_ranges, server.etag = False, etag
    with pytest.raises(StoppedError):
        download(server.url, target, progress=stop_after(50_000))
    download(server.url, target)
    assert target.read_bytes() == WEIGHTS


def test_a_part_of_another_address_is_not_gone_on_with(server: Server, target: Path) -> None:
    with pytest.raises(StoppedError):
        download(server.url, target, progress=stop_after(50_000))
    download(server.url + "/other", target)
    assert server.asked == ["", ""]


def test_less_than_was_promised_is_told(server: Server, target: Path) -> None:
    server.more_than_it_has = 10
    message = refusal(server.url, target, homepage="https://example.org/sam")
    assert f"no more than {len(WEIGHTS)} bytes" in message
    assert f"save it as {target}" in message
    assert "https://example.org/sam" in message


def test_another_file_than_the_published_one_is_deleted(server: Server, target: Path) -> None:
    message = refusal(server.url, target, sha256="0" * 64)
    assert SHA256 in message
    assert "0" * 64 in message
    assert left(target) == []


def test_a_file_fetched_again_must_be_the_first_one(server: Server, target: Path) -> None:
    download(server.url, target)
    target.unlink()
    server.content = WEIGHTS + b"more"
    kept = record_of(target)
    message = refusal(server.url, target, sha256=kept.read_text().split()[0])
    assert f"delete {kept}" in message


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_server_that_refuses(server: Server, target: Path, status: int) -> None:
    server.status = status
    message = refusal(server.url, target)
    assert str(status) in message
    assert f"save it as {target}" in message
    assert left(target) == []


def test_a_login_page_is_no_model(server: Server, target: Path) -> None:
    server.content, server.kind = b"<html>Please log in</html>", "text/html; charset=utf-8"
    assert "web page" in refusal(server.url, target)


def test_an_error_that_pretends_to_be_a_file_is_no_model(server: Server, target: Path) -> None:
    server.content = b'{"error": "quota exceeded"}'
    assert "not a model file" in refusal(server.url, target)
    assert left(target) == []


def test_a_server_that_says_nothing(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    server.silent = threading.Event()
    assert "timed out" in refusal(server.url, target)


def test_no_server_at_all(server: Server, target: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/weights"
        assert "cannot be reached" in refusal(url, target)


def test_being_sent_on(server: Server, target: Path) -> None:
    server.moved_to = server.url.replace("/weights", "/moved")
    download(server.url, target)
    assert target.read_bytes() == WEIGHTS


def test_being_sent_on_to_a_place_without_encryption(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.moved_to = "ftp://127.0.0.1/weights"
    assert "unencrypted" in refusal(server.url, target)
    monkeypatch.setattr(module, "SCHEMES", ("https",))
    asked = len(server.asked)
    assert "https only" in refusal(server.url, target)
    assert len(server.asked) == asked


def test_a_download_without_a_length_ends_where_the_models_size_is_far_exceeded(server: Server, target: Path) -> None:
    server.chunk = 5000
    download(server.url, target, nbytes=len(WEIGHTS))
    assert target.read_bytes() == WEIGHTS
    other = target.with_name("other.pth")
    server.content = WEIGHTS * 20
    assert "sends more than" in refusal(server.url, other, nbytes=len(WEIGHTS))
    assert left(target) == ["some.pth"]


@pytest.mark.parametrize("length", ["999999999999", "9" * 5000])
def test_a_length_far_beyond_the_models_is_refused_before_the_body(server: Server, target: Path, length: str) -> None:
    server.claimed = length
    assert "more than the expected" in refusal(server.url, target, nbytes=len(WEIGHTS))
    assert left(target) == []


@pytest.mark.parametrize("length", ["-5", "many", "\xb2", "1e3"])
def test_a_length_that_is_no_number_is_no_length(server: Server, target: Path, length: str) -> None:
    server.claimed = length
    download(server.url, target)
    assert target.read_bytes() == WEIGHTS


def test_a_server_that_sends_the_download_around_in_a_circle(server: Server, target: Path) -> None:
    server.moved_to = server.url
    assert "form a loop" in refusal(server.url, target)


def test_a_connection_that_hardly_brings_anything_is_given_up(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.0)
    monkeypatch.setattr(module, "MIN_SPEED", 10**15)
    server.chunk = 7
    assert "bytes per second" in refusal(server.url, target)


def test_the_progress_shows_each_part_as_it_comes_and_can_stop_there(server: Server, target: Path) -> None:
    server.gate = threading.Event()  # The rest of the file never comes.
    with pytest.raises(StoppedError):
        download(server.url, target, progress=stop_after(1000))
    server.gate.set()


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04mine", b"[1]", b'{"url": 5, "version": ["a"], "total": "x"}', b'{"version": "a\\nb"}', b"\xff"],
)
def test_files_of_the_user_with_the_names_of_unfinished_downloads_stay(
    server: Server, target: Path, content: bytes
) -> None:
    digits = "0123456789abcdef"
    names = ["some.pth.part", "some.pth.part.json", f".some.pth-{digits}.part", f".some.pth-{digits}.part.json"]
    names.append(".some.pth.lock")
    target.parent.mkdir()
    for name in names:
        target.with_name(name).write_bytes(content)
    with pytest.raises(StoppedError):
        download(server.url, target, progress=stop_after(50_000))
    server.content, server.etag = WEIGHTS[::-1], '"two"'
    assert "not a model file" in refusal(server.url, target)
    server.content = WEIGHTS
    download(server.url, target)
    assert target.read_bytes() == WEIGHTS
    assert {name: target.with_name(name).read_bytes() for name in names} == dict.fromkeys(names, content)
    assert left(target) == sorted(["some.pth", *names[:-1]])


@pytest.mark.parametrize("note", ['{"version": ["a"], "total": "x"', '{"version": "a\\nb", "total": -1'])
def test_what_a_note_of_an_unfinished_download_says_is_checked(server: Server, target: Path, note: str) -> None:
    with pytest.raises(StoppedError):
        download(server.url, target, progress=stop_after(50_000))
    (path,) = target.parent.glob(".some.pth-*.part.json")
    says = json.loads(path.read_text())
    path.write_text(json.dumps(says | json.loads(note + "}")))
    download(server.url, target)
    assert server.asked == ["", ""]
    assert target.read_bytes() == WEIGHTS
    assert left(target) == ["some.pth"]


def test_an_unfinished_download_of_another_address_is_removed(server: Server, target: Path) -> None:
    target.parent.mkdir()
    Unfinished(target).begin("https://example.org/other", "one", 10)
    download(server.url, target)
    assert left(target) == ["some.pth"]


def test_a_failed_download_names_the_model_the_cause_and_the_way_by_hand(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 404
    message = refusal(server.url, target, name="vit_b", homepage="https://example.org/sam")
    assert message.startswith("The weights of vit_b could not be downloaded")
    assert "the file is no longer there" in message
    assert f"get that file with a browser (see https://example.org/sam) and save it as {target}" in message

    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message = refusal("https://example.invalid/vit_b.pth", target, name="vit_b")
    assert "example.invalid cannot be reached, there is no network" in message


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    message = refusal(server.url, target)
    assert "disk is full" in message
    assert "NAPARI_SAM_MODELS" in message


def test_a_disk_that_fills_up_meanwhile(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    message = refusal(server.url, target)
    assert "No space left on device" in message
    assert len(server.asked) == 1


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written to" in refusal(server.url, tmp_path / "file" / "some.pth")


def test_two_processes_fetch_a_file_once(server: Server, target: Path) -> None:
    server.gate = threading.Event()
    code = (
        "import sys; from pathlib import Path; from napari_sam.weights import download as module;"
        "module.SCHEMES = ('http',); said = [];"
        "module.download(sys.argv[1], Path(sys.argv[2]), progress=lambda done, total: (print(done, flush=True)));"
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, server.url, str(target)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first = [process.stdout.readline() for process in both if process.stdout]  # Both are under way.
    server.gate.set()
    for process in both:
        process.communicate(timeout=TIMEOUT)
    assert [process.returncode for process in both] == [0, 0]
    assert all(line.strip().isdigit() for line in first)
    assert target.read_bytes() == WEIGHTS
    assert server.asked == [""]
    assert left(target) == ["some.pth"]
