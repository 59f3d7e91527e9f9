"""The network that decides on the mask of a followed object; its weights are part of this package."""

from napari_sam.models.fusion.fuser import NetworkFuser as NetworkFuser
from napari_sam.models.fusion.fuser import load_fuser as load_fuser
