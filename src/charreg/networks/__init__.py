"""The networks, one file each; shapes are [batch, channels, height, width] and pixels lie in [-1, 1]."""
