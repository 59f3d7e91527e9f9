"""Output of the commands: it never fails a run, whatever the names and the streams are."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile
from skimage.data import coins

from napari_sam.cli import console as cli_console
from napari_sam.cli.console import Failures, SafeStream, bar_over, one_line, say, show_error, show_table, warn
from napari_sam.errors import OutputError


class Narrow(io.TextIOWrapper):
    """A stream of an encoding that lacks most characters."""

    def __init__(self, encoding: str) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding)


class Full(io.StringIO):
    """A stream to a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


class Closed(io.StringIO):
    """A stream whose reader is gone, which shows only when it is flushed."""

    def flush(self) -> None:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_a_name_that_the_console_cannot_show_is_shown_otherwise(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Narrow(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    say("written to 細胞 köln ☃ \udcff.tif")
    text = stream.bytes.getvalue().decode(encoding)
    assert text.startswith("written to ")
    assert text.endswith(".tif\n")
    assert "\\udcff" in text


@pytest.mark.parametrize("broken", [Full, Closed])
def test_a_stream_that_fails_is_given_up_without_an_error(broken: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", broken())
    monkeypatch.setattr(sys, "stderr", broken())
    say("one")
    say("two")
    warn("three")
    show_error(OutputError("four"))
    assert list(bar_over([1, 2], 2)) == [1, 2]
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    say("one")
    warn("two")


def test_a_listing_that_cannot_be_printed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SafeStream("stdout")
    monkeypatch.setattr(cli_console, "_stdout", stream)
    monkeypatch.setattr(cli_console.console, "_file", stream)
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OutputError, match="cannot be written"):
        show_table([("a", "b")])


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("x[/b].tif", "x[/b].tif"),
        ("[bold]a[/bold] :smile:", "[bold]a[/bold] :smile:"),
        ("a\nb\r\x1b[31mc\x07.tif", "a\\nb\\r\\x1b[31mc\\x07.tif"),
        ("a\u2028b", "a\\u2028b"),
        ("n" * 500, "n" * 500),
    ],
)
def test_a_message_is_one_line_as_it_is(text: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert one_line(text) == printed
    say(text)
    warn(text)
    assert capsys.readouterr() == (printed + "\n", printed + "\n")
    show_table([("[/b]", "[/i]")])
    assert "[/b]" in capsys.readouterr().out


def test_one_reason_for_many_objects_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    failures = Failures()
    for number in range(46):
        failures.add(str(number), f"The point ({number}, {-number / 3:.4f}) lies outside the image.")
    failures.add("a", "It has no area.")
    failures.show()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("46 objects (0, 1, 2, 3, 4, ...) failed, the first one: The point (0, 0.0000)")
    assert lines[1] == "Object a failed: It has no area."


def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(bar_over("ab", 2, "objects")) == ["a", "b"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(cli_console.messages, "_force_terminal", True)
    assert list(bar_over("ab", 2, "objects")) == ["a", "b"]
    assert "2/2" in capsys.readouterr().err


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "細胞 [b].tif"
    tifffile.imwrite(path, coins()[90:160, 170:240])
    return path


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    line = [sys.executable, "-m", "napari_sam.cli", *map(str, arguments)]
    return subprocess.run(line, stderr=subprocess.PIPE, env=environment, check=False, **options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_labels_that_are_written_count_even_where_the_last_line_cannot_be_printed(image: Path) -> None:
    out = image.with_name("labels.tif")
    with Path("/dev/full").open("w") as full:
        result = command("segment", image, "--point", "34,35", "--out", out, stdout=full)
        assert (result.returncode, result.stderr) == (0, b"")
        assert out.exists()
        result = command("models", "--json", stdout=full)
    assert result.returncode == 1
    assert result.stderr.startswith(b"Error: The output cannot be written")
    assert result.stderr.count(b"\n") == 1


def test_a_reader_that_stops_reading_ends_a_listing_silently() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = command("models", "--json", stdout=writing)
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (141, b"")
