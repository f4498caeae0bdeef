"""What this library costs, measured beside its peers: `python -m benchmarks`, or `make bench`."""
