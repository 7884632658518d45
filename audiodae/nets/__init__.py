"""The nets: denoisers and autoencoders, their shapes, their weights on disk, and who runs them."""
