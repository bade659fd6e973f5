"""Several processes: stop and fail together."""
