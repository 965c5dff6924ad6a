"""Image processing: filters, noise, holes, tensors."""
