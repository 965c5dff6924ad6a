"""Match windows of sample frames with the references."""
