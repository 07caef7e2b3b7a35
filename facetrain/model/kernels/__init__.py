"""Ways to compute the network: torch's own, and kernels of its own for a CPU and for CUDA cards."""
