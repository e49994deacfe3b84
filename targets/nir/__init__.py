"""Networks of spikes: NIR files of standard primitives, and of one graded node per layer."""
