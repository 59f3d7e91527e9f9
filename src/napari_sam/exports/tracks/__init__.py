"""Objects that are followed through time, and the files of programs that track cells."""
