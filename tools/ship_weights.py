"""Put trained weights into the package as those of the compact model: in half precision, with their hash.

Run `python tools/ship_weights.py runs/compact/weights.safetensors`, then record the goldens that depend on the weights:
`python -m tests.goldens.record digests`, `sessions` and `plugin` (in a window, `xvfb-run`).
"""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path

from napari_sam.errors import NapariSamError
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.safe_load import load_weights, save_weights

PACKAGE = Path(__file__).parent.parent / "src" / "napari_sam"
SHIPPED = PACKAGE / "models" / "compact" / "compact.safetensors"
REGISTRY = PACKAGE / "weights" / "registry.py"
HASH = re.compile(r'(name="compact",.*?sha256=")[0-9a-f]{64}"', re.DOTALL)


def ship(weights: Path) -> str:
    """Write weights in half precision into the package and their hash into the registry; return the hash.

    Parameters
    ----------
    weights
        Checkpoint of the compact model.

    Raises
    ------
    ModelError
        It cannot be loaded or is of another network.
    """
    family, state = detect_architecture(load_weights(weights), weights)
    if family != "compact":
        raise SystemExit(f"{weights} holds {family} weights: give a checkpoint of the compact model.")
    save_weights(state, SHIPPED, family=family, half=True)
    digest = hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    text, count = HASH.subn(rf'\g<1>{digest}"', REGISTRY.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"{REGISTRY} must have one entry of the compact model with its hash.")
    REGISTRY.write_text(text, encoding="utf-8")
    return digest


def main() -> None:
    """Ship the weights that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="checkpoint of the compact model")
    try:
        digest = ship(parser.parse_args().weights)
    except NapariSamError as error:
        raise SystemExit(str(error)) from error
    print(f"{SHIPPED}: {SHIPPED.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


if __name__ == "__main__":
    main()
