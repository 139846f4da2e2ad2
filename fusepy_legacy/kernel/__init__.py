"""The kernel engine: the kernel's FUSE protocol in pure Python."""
