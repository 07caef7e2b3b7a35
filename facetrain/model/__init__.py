"""The network: its blocks, its priors, its weights, and the kernels that compute it."""
