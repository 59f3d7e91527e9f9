"""Read DICOM files and folders that hold a series of them."""
