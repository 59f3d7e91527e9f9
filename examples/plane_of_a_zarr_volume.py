"""A box on one plane of a zarr volume: only the chunks under the prompt are read, only those under the mask written."""

import tempfile

import numpy as np
import zarr
from skimage.data import coins

from napari_sam import Segmenter

with tempfile.TemporaryDirectory() as folder:
    volume = zarr.create_array(f"{folder}/volume.zarr", shape=(40, 303, 384), chunks=(1, 128, 128), dtype="uint8")
    volume[20] = coins()
    labels = zarr.create_array(f"{folder}/labels.zarr", shape=volume.shape, chunks=(1, 128, 128), dtype="uint16")

    segmenter = Segmenter(volume, labels=labels, contrast_limits=(0, 255))
    candidates = segmenter.segment(box=(28, 132, 74, 179), plane=20)
    label = segmenter.accept(candidates)

    area = np.count_nonzero(labels[20] == label)
    print(f"label {label}: {area} px in plane 20, and nothing in plane 19: {not labels[19].any()}")
