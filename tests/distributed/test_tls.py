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

from napari_sam.distributed import cluster as connecting
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


def make_certificates(folder: Path) -> dict[str, Any]:
    """Make certificates in a folder, and the configuration of dask that names them; return its settings."""
    subprocess.run(["sh", "-e", "-c", block_of_guide("sh", "openssl")], cwd=folder, check=True, capture_output=True)
    text = block_of_guide("yaml", "ca-file")
    for name in ("ca.pem", "cert.pem", "key.pem"):
        assert (folder / name).is_file()
        text = text.replace(name, str(folder / name))
    (folder / "distributed.yaml").write_text(text)
    return dict(settings(yaml.safe_load(text)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for certificates and configuration."""
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ours(folder: Path) -> dict[str, Any]:
    """The settings of who has a certificate of our authority."""
    return make_certificates(folder)


@pytest.fixture(scope="module")
def address(folder: Path, ours: dict[str, Any]) -> Iterator[str]:
    """Address of the scheduler of a cluster of one worker."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_CONFIG", str(folder))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=":")
        file = folder / "scheduler.json"
        for command in (
            ["dask_scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
            ["dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"],
        ):
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:], "--scheduler-file", str(file)],
                cwd=folder,
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
    address: str, ours: dict[str, Any], connect: Connect, tmp_path: Path
) -> None:
    assert address.startswith("tls://")
    with dask.config.set(ours):
        cluster = connect(address)
        assert sorted(cluster.runner(Squares(tmp_path)).run(range(3))) == [(0, 0), (1, 1), (2, 4)]


def test_who_has_none_or_one_of_another_authority_is_told_in_one_sentence(
    address: str, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClusterError, match=r"^The scheduler at tls://\S+ asks for a certificate: name that of this"):
        connect(address)
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 3.0)
    with dask.config.set(make_certificates(tmp_path)):
        with pytest.raises(ClusterError, match=r"^There is no scheduler at tls://") as raised:
            connect(address)
        assert "\n" not in str(raised.value)
        assert str(raised.value).endswith("or the certificate of this computer.")
    with pytest.raises(ClusterError, match=r"^There is no scheduler at tcp://"):
        connect(address.replace("tls://", "tcp://"))
