"""Export: labels and their objects in the files of other programs, by one table of formats."""
