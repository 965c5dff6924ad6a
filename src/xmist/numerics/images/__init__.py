"""Image processing: filters, noise, registration, speckle statistics, bare beam, tensors."""
