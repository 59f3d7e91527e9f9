from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.embeddings.stored import MODEL, assert_holds, digest_of, files_in, filled, kept, values_of

from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.testing import TIMEOUT


def encode_all(store, numbers, log):
    """Write what is not there as the encoder does, and what another process has in hand at the end."""
    left = numbers
    while left:
        in_other_hands = []
        for number in left:
            if store.has(digest_of(number), MODEL):
                continue
            with store.process_lock(digest_of(number)) as mine:
                if not mine:
                    in_other_hands.append(number)
                elif not store.has(digest_of(number), MODEL):
                    os.write(log, b"%d\n" % number)
                    store.put(digest_of(number), MODEL, values_of(number))
        left = in_other_hands


def encode_all_on_a_slow_disk(store, numbers, log):
    """Half of the time a file is written and not yet in its place."""
    replace = Path.replace
    Path.replace = lambda self, target: (time.sleep(0.002), replace(self, target))[1]
    encode_all(store, numbers, log)


def put_all(store, numbers, log):
    for number in numbers:
        store.put(digest_of(number), MODEL, values_of(number))


def put_into_many(store, numbers, log):
    for folder in range(10):
        put_all(EmbeddingStore(store.path.with_name(str(folder))), numbers, log)
        time.sleep(0.05 - time.time() % 0.05)


def say(number):
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def nurse():
    """Fork a process for each line of the input, which says what it is to do, or wait for one."""
    for line in sys.stdin:
        what, *about = json.loads(line)
        if what == "wait":
            say(os.waitstatus_to_exitcode(os.waitpid(about[0], 0)[1]))
            continue
        child = os.fork()
        if child:
            say(child)
            continue
        try:
            path, log, numbers = about
            globals()[what](EmbeddingStore(path), numbers, os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)


class Nursery:
    """Makes processes in a few milliseconds each, by forking one that has imported everything and runs no thread."""

    def __init__(self):
        command = [sys.executable, "-m", "tests.embeddings.test_store_processes"]
        self._parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, *question):
        self._parent.stdin.write(json.dumps(question) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def start(self, job, path, log, numbers):
        return self._ask(job, str(path), str(log), list(numbers))

    def wait(self, process):
        """Return how a process ended: 0 where all went well, -9 where it was killed."""
        return self._ask("wait", process)

    def close(self):
        self._parent.communicate()


@pytest.fixture(scope="module")
def nursery():
    if not hasattr(os, "fork"):
        pytest.skip("processes are forked here")
    nursery = Nursery()
    yield nursery
    nursery.close()


def lines_in(log):
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def wait_for_lines(log, count):
    late = time.monotonic() + TIMEOUT
    while len(lines_in(log)) < count:
        assert time.monotonic() < late, "the process writes nothing"
        time.sleep(0.0002)


def test_killed_at_random_moments_and_started_again_the_store_is_the_same_byte_by_byte(tmp_path, nursery):
    """A third of the kills hit the first milliseconds, when the group is made, the others a tile in hand."""
    whole, path, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    filled(whole, range(300))
    chance = random.Random(0)
    killed, has_halves = 0, False
    for run in range(1000):
        there, written = set(kept(EmbeddingStore(path), range(300))), len(lines_in(log))
        process = nursery.start("encode_all_on_a_slow_disk", path, log, range(300))
        if killed < 24:
            if run % 3:
                wait_for_lines(log, written + chance.randrange(1, 9))
            time.sleep(chance.uniform(0, 0.015 if run % 3 == 0 else 0.005))
            os.kill(process, signal.SIGKILL)
        status = nursery.wait(process)
        assert status in (0, -signal.SIGKILL)
        assert not there & set(lines_in(log)[written:])
        has_halves |= any(name.endswith(".partial") for name in files_in(path))
        EmbeddingStore(path).tidy()
        if status == 0:
            break
        killed += 1
    assert killed >= 20
    assert 300 <= len(lines_in(log)) <= 300 + killed
    assert set(lines_in(log)) == set(range(300))
    assert has_halves, "no kill hit a file that was being written"
    assert files_in(path) == files_in(whole)
    assert sorted(path.rglob("*/")) == sorted(path / folder.relative_to(whole) for folder in whole.rglob("*/"))
    assert_holds(EmbeddingStore(path), range(300))


def test_two_processes_share_the_work_and_write_no_tile_twice(tmp_path, nursery):
    path, log = tmp_path / "s", tmp_path / "log"
    orders = [list(range(150)), list(range(149, -1, -1)), random.Random(1).sample(range(150), 150)]
    processes = [nursery.start("encode_all", path, log, order) for order in orders]
    assert [nursery.wait(process) for process in processes] == [0, 0, 0]
    assert sorted(lines_in(log)) == list(range(150))
    EmbeddingStore(path).tidy()
    assert files_in(path) == files_in(filled(tmp_path / "whole", range(150)).path)


def test_processes_may_begin_a_store_and_write_the_same_tiles_at_the_same_moment(tmp_path, nursery):
    processes = [nursery.start("put_into_many", tmp_path / "s/0", tmp_path / "log", range(8)) for _ in range(4)]
    assert [nursery.wait(process) for process in processes] == [0] * 4
    whole = files_in(filled(tmp_path / "whole", range(8)).path)
    for folder in range(10):
        assert files_in(tmp_path / f"s/{folder}") == whole


def test_a_claim_is_free_again_when_its_process_is_killed(tmp_path, nursery):
    store, log = EmbeddingStore(tmp_path / "s"), tmp_path / "log"
    process = nursery.start("claim_and_wait", tmp_path / "s", log, [0])
    wait_for_lines(log, 1)
    with store.process_lock(digest_of(0)) as mine:
        assert not mine
    store.tidy()
    with store.process_lock(digest_of(0)) as mine:
        assert not mine
    os.kill(process, signal.SIGKILL)
    assert nursery.wait(process) == -signal.SIGKILL
    with store.process_lock(digest_of(0)) as mine:
        assert mine
        with store.process_lock(digest_of(0)) as again, store.process_lock(digest_of(1)) as another:
            assert not again
            assert another
    store.wait_for_others()
    with store.process_lock(digest_of(0)) as mine:
        assert mine


def claim_and_wait(store, numbers, log):
    with store.process_lock(digest_of(numbers[0])):
        os.write(log, b"0\n")
        time.sleep(60)


def test_where_no_claim_can_be_made_everybody_may_work(tmp_path):
    store = filled(tmp_path, [0])
    (tmp_path / "claims").write_text("a file")
    with store.process_lock(digest_of(0)) as mine, store.process_lock(digest_of(0)) as again:
        assert mine
        assert again


if __name__ == "__main__":
    nurse()
