"""Parts that all packages use: experiment, data, flags, findings, errors, options, materials, progress."""
