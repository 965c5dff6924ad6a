"""Run a configuration: from the file to the results."""
