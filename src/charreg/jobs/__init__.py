"""Training jobs, one file each: which networks, which losses, one step."""
