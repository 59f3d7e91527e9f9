"""A cluster whose machines know each other by certificates, made and named as `docs/guides/cluster.md` says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml
from tests.distributed.plans import Squares

from napari_sam.distributed.cluster import Cluster
from napari_sam.errors import ClusterError
from napari_sam.testing import TIMEOUT

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
Connect = Callable[..., Cluster]
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "cluster.md"


def block_of_guide(language: str, word: str) -> str:
    """Return the only block of the guide in a language that has a word."""
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (found,) = (block for block in blocks if word in block)
    return str(found)


def settings(of: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the names of settings and their values."""
    for name, value in of.items():
        if isinstance(value, dict):
            yield from settings(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates, and with the configuration of dask that names them."""
    folder = tmp_path_factory.mktemp("tls")
    commands = block_of_guide("sh", "openssl")
    subprocess.run(["sh", "-e", "-c", commands], cwd=folder, check=True, capture_output=True)
    text = block_of_guide("yaml", "ca-file")
    for name in ("ca.pem", "cert.pem", "key.pem"):
        assert (folder / name).is_file()
        text = text.replace(name, str(folder / name))
    (folder / "distributed.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def address(configured: Path) -> Iterator[str]:
    """Address of the scheduler of a cluster of one worker."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_CONFIG", str(configured))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=":")
        file = configured / "scheduler.json"
        for command in (
            ["dask_scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
            ["dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"],
        ):
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:], "--scheduler-file", str(file)],
                cwd=configured,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            end = time.monotonic() + TIMEOUT
            while not file.exists():
                assert time.monotonic() < end
                assert process.poll() is None
                time.sleep(0.05)
        yield yaml.safe_load(file.read_text())["address"]


def test_who_has_a_certificate_works_on_the_cluster(
    address: str, configured: Path, connect: Connect, tmp_path: Path
) -> None:
    assert address.startswith("tls://")
    ours = yaml.safe_load((configured / "distributed.yaml").read_text())
    with dask.config.set(dict(settings(ours))):
        cluster = connect(address)
        assert sorted(cluster.runner(Squares(tmp_path)).run(range(3))) == [(0, 0), (1, 1), (2, 4)]


def test_who_has_none_is_told_in_one_sentence(address: str, connect: Connect) -> None:
    with pytest.raises(
        ClusterError, match=r"^There is no scheduler at tls://\S+ \(.*ertificate.*\): name the"
    ) as raised:
        connect(address)
    assert "\n" not in str(raised.value)
    with pytest.raises(ClusterError, match=r"^There is no scheduler at tcp://"):
        connect(address.replace("tls://", "tcp://"))
