"""From a configuration file to results."""
