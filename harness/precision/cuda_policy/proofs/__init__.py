"""That the emulation is CUDA's: against the dispatcher, against torch's own dtypes, and on a GPU op by op."""
