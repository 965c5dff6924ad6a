"""Parts that everything else uses: experiment, data, flags, errors, progress."""
