"""CUDA autocast without CUDA: its lists, its emulation on CPU tensors, a dtype oracle, an op-by-op trace."""
