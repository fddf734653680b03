"""The systems CR is compared with, a file each: network, losses, training. docs/adding-a-method.md adds one."""
