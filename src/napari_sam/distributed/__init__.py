"""Work on other machines: jobs that the workers of a dask.distributed cluster do, or this process."""
