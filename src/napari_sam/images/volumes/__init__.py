"""Read volumes of medicine and electron microscopy, and arrays in HDF5."""
