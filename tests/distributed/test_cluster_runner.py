"""Jobs on a real cluster: each is once in the result, whatever happens to the workers and to the scheduler."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.distributed.conftest import local_cluster
from tests.distributed.plans import Failing, FailingThenKilled, Killed, Squares, Stopped, Unfit, Waiting

import distributed
from napari_sam.distributed import cluster as connecting
from napari_sam.distributed.cluster import Cluster
from napari_sam.distributed.cluster_runner import MOST_ITEMS
from napari_sam.distributed.worker_pool import JOBS_OF_A_WORKER
from napari_sam.errors import ClusterError, ImageError
from napari_sam.testing import TIMEOUT

Connect = Callable[..., Cluster]
COUNT = 12
SQUARES = {item: item * item for item in range(COUNT)}


def done_by(notes: Path) -> dict[int, set[str]]:
    """Return the processes that have begun each job."""
    found: dict[int, set[str]] = {}
    for note in notes.glob("*-*-*"):
        item, process, _ = note.name.split("-")
        found.setdefault(int(item), set()).add(process)
    return found


def test_each_job_is_done_once_and_both_workers_work(scheduler: str, connect: Connect, tmp_path: Path) -> None:
    results = list(connect(scheduler).runner(Squares(tmp_path)).run(range(COUNT)))
    assert sorted(results) == sorted(SQUARES.items())
    assert {len(processes) for processes in done_by(tmp_path).values()} == {1}
    assert len(set.union(*done_by(tmp_path).values())) == 2


def test_jobs_are_made_only_as_there_is_room_for_them(scheduler: str, connect: Connect, tmp_path: Path) -> None:
    made = itertools.count()
    steps = connect(scheduler).runner(Squares(tmp_path)).run(next(made) for _ in itertools.count())
    got = [next(steps) for _ in range(50)]
    assert next(made) <= len(got) + (2 + 1) * JOBS_OF_A_WORKER * MOST_ITEMS
    steps.close()


def test_the_scheduler_keeps_one_record_of_all_jobs_of_a_run(
    two_workers: distributed.LocalCluster, scheduler: str, connect: Connect, tmp_path: Path
) -> None:
    spans = two_workers.scheduler.extensions["spans"].spans

    def records() -> int:
        return len(spans) + sum(len(span.groups) for span in spans.values())

    runner = connect(scheduler).runner(Squares(tmp_path))
    assert list(runner.run([1])) == [(1, 1)]
    before = records()
    for item in range(COUNT):  # Each is done before the next one is there, as from a window.
        assert list(runner.run([item])) == [(item, item * item)]
    assert records() == before
    assert two_workers.scheduler.task_groups.keys() >= {runner._group}
    del runner
    assert list(connect(scheduler).runner(Squares(tmp_path)).run([2])) == [(2, 4)]


def test_short_items_are_done_together_and_of_those_that_fail_or_kill_each_is_tried_alone(
    scheduler: str, connect: Connect, tmp_path: Path
) -> None:
    many = 40 * MOST_ITEMS
    runner = connect(scheduler).runner(FailingThenKilled(tmp_path, fails=many - 100, kills=many - 10))
    assert sorted(runner.run(range(many))) == [(item, item * item) for item in range(many)]
    assert next(runner._numbers) < many / 8
    assert (tmp_path / "failed").exists()
    assert (tmp_path / "killed").exists()


def test_no_job_is_no_work(scheduler: str, connect: Connect, tmp_path: Path) -> None:
    assert list(connect(scheduler).runner(Squares(tmp_path)).run([])) == []


def test_a_run_that_is_closed_takes_back_what_no_worker_has_begun(
    scheduler: str, connect: Connect, tmp_path: Path
) -> None:
    cluster = connect(scheduler)
    steps = cluster.runner(Waiting(tmp_path)).run(range(COUNT))
    next(steps)
    steps.close()
    (tmp_path / "go").touch()
    assert sorted(cluster.runner(Squares(tmp_path)).run(range(3))) == [(0, 0), (1, 1), (2, 4)]
    assert len(done_by(tmp_path)) < COUNT


def test_the_jobs_of_a_worker_that_is_killed_are_done_by_another(
    scheduler: str, connect: Connect, tmp_path: Path
) -> None:
    results = list(connect(scheduler).runner(Killed(tmp_path)).run(range(COUNT)))
    assert sorted(results) == sorted(SQUARES.items())
    assert len(done_by(tmp_path)[3]) == 2


def test_a_job_that_kills_every_worker_ends_the_run(scheduler: str, connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="give each worker more memory"):
        list(connect(scheduler).runner(Killed(tmp_path, times=99)).run(range(COUNT)))


def test_the_job_of_a_worker_that_hangs_is_done_by_another(scheduler: str, connect: Connect, tmp_path: Path) -> None:
    said: list[str] = []
    runner = connect(scheduler, patience=4, warn=said.append).runner(Stopped(tmp_path))
    try:
        results = list(runner.run(range(COUNT)))
    finally:
        os.kill(int((tmp_path / "stopped").read_text()), signal.SIGCONT)
    assert sorted(results) == sorted(SQUARES.items())
    assert len(done_by(tmp_path)[3]) == 2
    assert len(said) == 1
    assert "does not answer" in said[0]


def test_when_no_worker_answers_any_more_the_run_ends(connect: Connect, tmp_path: Path) -> None:
    with local_cluster(1) as cluster:
        runner = connect(cluster.scheduler_address, patience=1, warn=lambda _: None).runner(Stopped(tmp_path))
        with pytest.raises(ClusterError, match="No worker has answered"):
            list(runner.run(range(COUNT)))
        os.kill(int((tmp_path / "stopped").read_text()), signal.SIGCONT)


def started(module: str, file: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a scheduler or a worker as a shell does."""
    command = [sys.executable, "-m", f"distributed.cli.{module}", "--scheduler-file", str(file), *options]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def test_a_scheduler_that_dies_is_a_clear_end_and_the_next_run_does_the_rest(
    scheduler: str, connect: Connect, tmp_path: Path
) -> None:
    file = tmp_path / "scheduler.json"
    dying = started("dask_scheduler", file, "--port", "0", "--no-dashboard", "--host", "127.0.0.1")
    end = time.monotonic() + TIMEOUT
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.02)
    worker = started("dask_worker", file, "--nthreads", "1", "--no-dashboard", "--no-nanny", "--death-timeout", "1")
    try:
        done: list[tuple[int, int]] = []
        steps = connect(file).runner(Waiting(tmp_path)).run(range(COUNT))
        done += itertools.islice(steps, 3)
        dying.kill()
        with pytest.raises(ClusterError, match=r"scheduler has gone away: .* run the same command again"):
            done += steps
    finally:
        for process in (dying, worker):
            process.kill()
            process.wait()
    left = [item for item in range(COUNT) if item not in dict(done)]
    assert len(left) >= COUNT - 4
    done += connect(scheduler).runner(Squares(tmp_path)).run(left)
    assert sorted(done) == sorted(SQUARES.items())


def test_an_error_of_a_job_is_tried_elsewhere_and_then_raised_with_the_worker(
    scheduler: str, connect: Connect, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=r"copy the image again \(on the worker tcp://.*\)\.$"):
        list(connect(scheduler).runner(Failing(tmp_path)).run(range(COUNT)))
    assert len(done_by(tmp_path)[3]) > 1


def test_an_error_of_one_worker_is_no_error_of_the_run(scheduler: str, connect: Connect, tmp_path: Path) -> None:
    results = list(connect(scheduler).runner(Failing(tmp_path, once=True)).run(range(COUNT)))
    assert sorted(results) == sorted(SQUARES.items())


def test_a_worker_without_the_model_is_left_out_and_named(scheduler: str, connect: Connect, tmp_path: Path) -> None:
    said: list[str] = []
    results = list(connect(scheduler, warn=said.append).runner(Unfit(tmp_path)).run(range(COUNT)))
    assert sorted(results) == sorted(SQUARES.items())
    assert set.union(*done_by(tmp_path).values()) == {(tmp_path / "fit").read_text()}
    assert said
    assert all(sentence.endswith("is left out. There is no model here: download it.") for sentence in said)


def test_without_any_worker_that_has_the_model_the_run_ends_in_one_sentence(
    scheduler: str, connect: Connect, tmp_path: Path
) -> None:
    runner = connect(scheduler, warn=lambda _: None).runner(Unfit(tmp_path, anywhere=False))
    with pytest.raises(ClusterError, match=r"No worker can do the work\. There is no model here: download it"):
        list(runner.run(range(COUNT)))


def test_workers_of_another_version_are_named_in_one_sentence(
    scheduler: str, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "version_here", lambda: "9.9")
    with pytest.raises(ClusterError, match=r"has napari-sam .* and needs 9\.9: install the same version everywhere"):
        list(connect(scheduler, warn=lambda _: None).runner(Squares(tmp_path)).run(range(COUNT)))


def test_a_cluster_without_workers_is_waited_for_and_then_named(connect: Connect, tmp_path: Path) -> None:
    with local_cluster(0) as cluster:
        runner = connect(cluster.scheduler_address, patience=0.5).runner(Squares(tmp_path))
        with pytest.raises(ClusterError, match=r"no worker for .* start workers"):
            list(runner.run(range(COUNT)))


def test_workers_that_come_later_are_used(connect: Connect, tmp_path: Path) -> None:
    with local_cluster(0) as cluster:
        steps = connect(cluster.scheduler_address).runner(Squares(tmp_path)).run(range(COUNT))
        threading.Timer(0.2, cluster.scale, [1]).start()
        assert sorted(steps) == sorted(SQUARES.items())


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://127.0.0.1:1", "There is no scheduler at"),
        ("127.0.0.1:8786", "give its address"),
        ("nowhere.json", "There is no scheduler file"),
        (8786, "give its address"),
    ],
)
def test_a_scheduler_that_is_not_there_is_one_sentence(
    address: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 0.5)
    with pytest.raises(ClusterError, match=message):
        Cluster(address)  # type: ignore[arg-type]


def test_a_connection_that_failed_is_closed_before_another_one_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 0.3)
    before = {id(each) for each in gc.get_objects() if type(each) is distributed.Client}
    gc.disable()  # It would close them at any moment, also while another one starts and has the lock for it.
    try:
        with pytest.raises(ClusterError, match="asks for a certificate"):
            Cluster("tls://127.0.0.1:1")
        clients = [each for each in gc.get_objects() if type(each) is distributed.Client and id(each) not in before]
    finally:
        gc.enable()
    assert [each.status for each in clients] == ["closed"]
