"""What every training shares: the loop, batches, resume states, many processes."""
