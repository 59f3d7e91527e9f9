"""Names of images without their endings, different for different files."""

from __future__ import annotations

DOUBLE_ENDINGS = (".ome.zarr", ".ome.tiff", ".ome.tif", ".ome.btf", ".nii.gz")
ENDINGS = (
    *(".zarr", ".n5", ".tif", ".tiff", ".btf", ".tf8", ".lsm", ".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".webp"),
    *(".gif", ".bmp", ".apng", ".mpo", ".nii", ".mrc", ".nrrd", ".h5", ".hdf5", ".nc", ".npy", ".npz", ".vrt"),
    *(".svs", ".ndpi", ".scn", ".czi", ".lif", ".nd2", ".qptiff", ".vsi", ".bif", ".mrxs", ".dcm", ".avif", ".heic"),
)


def name_of(file_name: str) -> str:
    """Return the name of a file without the ending of its format: "plate.A01" for "plate.A01.ome.zarr"."""
    for ending in (*DOUBLE_ENDINGS, *ENDINGS):
        if file_name.lower().endswith(ending) and len(file_name) > len(ending):
            return file_name[: -len(ending)]
    return file_name
