"""Read the files of microscopes: CZI, LIF and ND2."""
