"""CUDA autocast on a machine without CUDA: its lists, its emulation on CPU tensors, a dtype oracle and an op-
by-op trace.
"""
